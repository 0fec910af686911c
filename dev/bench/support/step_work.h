#pragma once
// How many FLOPs the kernels of a training step compute and how many bytes they move, by the formulas in their
// comments. Nothing is measured.
#include <cstdint>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "cuda/device/profile.h"

namespace kiln::bench {

// The parts of a step, in their order. A step has one of each, but c.L of the three that are named after a block.
enum class Part : uint8_t {
    embedding,
    first_norm,
    block,
    block_end,  // its last norm, which has the parameters of the next bucket
    lm_head,    // forward, loss and backward
    last_norm_backward,
    block_backward,
    embedding_backward,
    gradient_norm,
    update,
};
inline constexpr int kParts = 10;

struct KernelWork {
    Group group;
    Part part;
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
// Of a part, or of one block: each kernel runs at the ceiling that bounds it.
double floor_ms(const std::vector<KernelWork>& work, Part part, const Ceilings& ceilings);

}  // namespace kiln::bench
