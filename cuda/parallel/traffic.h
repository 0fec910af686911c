#pragma once
// How many bytes the ranks send in a training step.
#include <cstdint>

#include "cuda/parallel/arena_layout.h"

namespace kiln {

struct TrafficOptions {
    int ranks = 1, stage = 0, micro_batches = 1;
    size_t gradient_bytes = 4, param_bytes = 2;  // of one element, in the type in which it is sent
};

// The bytes that each rank sends in a step, if NCCL uses rings. The few bytes for the norm are left out.
uint64_t step_bytes_sent(const ArenaLayout& layout, const TrafficOptions& options);

}  // namespace kiln
