#pragma once
// The engine on a GPU, under its own name: for a program that has two engines, as its tests do.
#include "cpu_reference/interface/engine.h"
#include "cuda/device/profile.h"

namespace kiln {

// As make_engine and plan_memory of cpu_reference/interface/engine.h. C, F and NH * HS are multiples of 8, HS of 4
// (with QK-norm of 8) and at most 256; makes the engine on the current device. The profiler outlives it; null: none.
std::unique_ptr<Engine> make_cuda_engine(const ModelConfig& config, const EngineOptions& options,
                                         Profiler* profiler = nullptr);
std::vector<MemoryItem> plan_cuda_memory(const ModelConfig& config, const EngineOptions& options);

}  // namespace kiln
