#pragma once
// Philox4x32-10: random numbers as a pure function of (key, counter), the same on host and device. There is no state to
// save and no order to keep.
// J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define KILN_HOST_DEVICE __host__ __device__
#else
#define KILN_HOST_DEVICE
#endif

namespace kiln {

struct Philox4 {
    uint32_t v[4];
};

// The use of the numbers. It is part of the counter, so that two uses of one seed never get the same numbers.
enum class RngStream : uint32_t { init, dropout_embedding, dropout_residual, dropout_attention, rounding, sampling };

KILN_HOST_DEVICE inline Philox4 philox4x32(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
    uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
        const uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ k0, n2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
        c1 = uint32_t(p1);
        c3 = uint32_t(p0);
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// Four words for the dropout of columns 4 * column4 to 4 * column4 + 3 of one row of one sample. The counter holds 16
// bits of head (or site), 11 of layer and 18 of column4, the most that validate() allows, and 48 of the sample.
KILN_HOST_DEVICE inline Philox4 dropout_words(uint64_t seed, RngStream stream, uint64_t sample, uint32_t layer,
                                              uint32_t head, uint32_t row, uint32_t column4) {
    return philox4x32(seed, row, uint32_t(sample), (uint32_t(sample >> 32) & 0xffffu) | (head << 16),
                      uint32_t(stream) | (layer << 3) | (column4 << 14));
}

// Uniform in [0, 1), 24 bits: every value is a float.
KILN_HOST_DEVICE inline float uniform01(uint32_t bits) {
    return float(bits >> 8) * 0x1p-24f;
}

// Two standard normals from two words (Box-Muller). The first uniform is moved into (0, 1], where log is finite.
KILN_HOST_DEVICE inline void normal2(uint32_t a, uint32_t b, float* x, float* y) {
    const float radius = sqrtf(-2.0f * logf((float(a >> 8) + 1.0f) * 0x1p-24f));
    const float angle = 6.28318530717958647692f * uniform01(b);
    *x = radius * cosf(angle);
    *y = radius * sinf(angle);
}

}  // namespace kiln
