#pragma once
// Stochastic rounding (arXiv:1502.02551): rounds up or down with probabilities that make the mean exact, so that many
// updates far smaller than a weight's last bit still change the weight. The random bits are a function of seed, step
// and element. Host and device compute the same result.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "cpu_reference/interface/rng.h"

namespace kiln {

enum class Rounded : uint32_t { params, moments };

// The random words for elements 4 * element4 to 4 * element4 + 3 of an arena in one step.
KILN_HOST_DEVICE inline Philox4 rounding_words(uint64_t seed, uint64_t step, Rounded what, uint64_t element4) {
    return philox4x32(seed, uint32_t(element4), uint32_t(element4 >> 32), uint32_t(step),
                      uint32_t(RngStream::rounding) | uint32_t(what) << 3);
}

// `random`: all 32 bits for float16, the upper 16 for bfloat16.
template <class T>
KILN_HOST_DEVICE inline T round_stochastically(float x, uint32_t random) {
    if constexpr (std::is_same_v<T, float>) {
        return x;
    } else {
        uint32_t bits;
        memcpy(&bits, &x, 4);
        const uint32_t sign = bits >> 16 & 0x8000u;
        uint32_t magnitude = bits & 0x7fffffffu, result;
        const bool finite = magnitude<0x7f800000u, nan = magnitude> 0x7f800000u;
        if constexpr (std::is_same_v<T, __nv_bfloat16>) {
            // The sum carries into the upper 16 bits with probability (lower 16 bits) / 2^16.
            result = nan ? 0x7fffu : (magnitude + (finite ? random >> 16 : 0)) >> 16;
            return __nv_bfloat16(__nv_bfloat16_raw{(unsigned short)(sign | result)});
        } else {
            constexpr uint32_t kLeastNormal = (127 - 14) << 23, kRebias = (127 - 15) << 10, kInfinity = 0x7c00u;
            if (nan) {
                result = 0x7fffu;
            } else if (magnitude >= kLeastNormal) {
                magnitude += finite ? random >> 19 : 0;
                result = (magnitude >> 13) - kRebias;
                if (result > kInfinity) result = kInfinity;
            } else {  // in units of the subnormals
                const float units = fabsf(x) * 0x1p24f;
                const uint32_t whole = uint32_t(units);
                result = whole + (uniform01(random) < units - float(whole));
            }
            return __half(__half_raw{(unsigned short)(sign | result)});
        }
    }
}

}  // namespace kiln
