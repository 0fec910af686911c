#pragma once
// The engine in float32 on the host, under its own name: for a program that has two engines, as tests of the other do.
#include "cpu_reference/interface/engine.h"

namespace kiln {

// As make_engine and plan_memory of engine.h.
std::unique_ptr<Engine> make_cpu_engine(const ModelConfig& config, const EngineOptions& options);
std::vector<MemoryItem> plan_cpu_memory(const ModelConfig& config, const EngineOptions& options);

}  // namespace kiln
