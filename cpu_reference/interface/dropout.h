#pragma once
#include <cstdint>

#include "cpu_reference/interface/rng.h"

namespace kiln {

// One application of dropout, arXiv:1207.0580: which stream of random numbers, where in the model, and how strongly.
// p = 0: none. The same on every backend, and so is the mask: dropout_words of each sample, row and column.
struct Dropout {
    float p = 0;
    uint64_t seed = 0, first_sample = 0;
    RngStream stream = RngStream::dropout_residual;
    uint32_t layer = 0, site = 0;  // site: 0 after attention, 1 after the MLP
};

}  // namespace kiln
