#pragma once
// What the kernels of a training step compute and move, by the formulas in their comments: arithmetic, no measurement.
#include <cstdint>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "cuda/device/profile.h"

namespace kiln::bench {

struct KernelWork {
    Group group;
    double flops, bytes;
    int64_t times = 1;   // in a step
    int64_t ranges = 1;  // each time, as the profiler counts them
};

// Of a step of one micro-batch, without dropout.
std::vector<KernelWork> step_work(const ModelConfig& config, const EngineOptions& options);

struct Ceilings {
    double gb_per_s, tflop_per_s;
};

struct GroupWork {
    double flops = 0, bytes = 0;
    double floor_ms = 0;  // each kernel at the ceiling that it meets first
    int64_t ranges = 0;
};
GroupWork sum_of(const std::vector<KernelWork>& work, Group group, const Ceilings& ceilings);

}  // namespace kiln::bench
