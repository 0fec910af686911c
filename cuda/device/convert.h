#pragma once
// Converts between float32 and the types of tensors, on the host and in kernels.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "cpu_reference/interface/rng.h"

namespace kiln {

template <class T>
KILN_HOST_DEVICE inline float to_float(T x) {
    return static_cast<float>(x);
}
template <class T>
KILN_HOST_DEVICE inline T from_float(float x) {  // rounds to nearest even
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        return __float2bfloat16_rn(x);
    } else if constexpr (std::is_same_v<T, __half>) {
        return __float2half_rn(x);
    } else {
        return static_cast<T>(x);
    }
}

}  // namespace kiln
