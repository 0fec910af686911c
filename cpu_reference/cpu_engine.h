#pragma once
// The CPU engine under its own name, for programs with two engines, such as the tests of the CUDA engine.
#include "cpu_reference/interface/engine.h"

namespace kiln {

// The same as make_engine and plan_memory of engine.h.
std::unique_ptr<Engine> make_cpu_engine(const ModelConfig& config, const EngineOptions& options,
                                        Communicator* ranks = nullptr);
std::vector<MemoryItem> plan_cpu_memory(const ModelConfig& config, const EngineOptions& options);

}  // namespace kiln
