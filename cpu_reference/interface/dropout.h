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

}  // namespace kiln
