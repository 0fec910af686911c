#pragma once
#include <cstdint>

#include "cpu_reference/interface/rng.h"

namespace kiln {

// One application of dropout (arXiv:1207.0580) with probability p. The mask is dropout_words of each sample, row and
// column, the same on every backend.
struct Dropout {
    float p = 0;
    uint64_t seed = 0, first_sample = 0;
    RngStream stream = RngStream::dropout_residual;
    uint32_t layer = 0, site = 0;  // site: 0 after attention, 1 after the MLP
};

// uniform01(bits) < p is bits < threshold01(p), without a conversion: both sides times 2^24 are exact, and the left one
// is an integer. p in [0, 1).
KILN_HOST_DEVICE inline uint32_t threshold01(float p) {
    return uint32_t(ceilf(p * 0x1p24f)) << 8;
}

}  // namespace kiln
