#pragma once
// How many FLOPs the kernels of a training step compute and how many bytes they move, by the formulas in their
// comments. Nothing is measured.
#include <cstdint>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "cuda/device/profile.h"

namespace kiln::bench {

struct KernelWork {
    Group group;
    double flops, bytes;
    int64_t times = 1;   // in a step
    int64_t ranges = 1;  // of the profiler, each time
};

// For a step of one micro-batch without dropout.
std::vector<KernelWork> step_work(const ModelConfig& config, const EngineOptions& options);

struct Ceilings {
    double gb_per_s, tflop_per_s;
};

struct GroupWork {
    double flops = 0, bytes = 0;
    double floor_ms = 0;  // each kernel runs at the ceiling that bounds it
    int64_t ranges = 0;
};
GroupWork sum_of(const std::vector<KernelWork>& work, Group group, const Ceilings& ceilings);

}  // namespace kiln::bench
