#pragma once
// The engine on a GPU by its own name, for programs that link two engines, such as its tests.
#include "cpu_reference/interface/engine.h"
#include "cuda/device/profile.h"

namespace kiln {

// These do what make_engine, plan_memory and plan_bytes_sent of cpu_reference/interface/engine.h do, on the current
// device. C, F and NH * HS must be multiples of 8; HS must be a multiple of 4 (8 with QK-norm) and at most 256. Ranks
// communicate by NCCL; `ranks` only helps them to find each other. The profiler may be null and must outlive the
// engine.
std::unique_ptr<Engine> make_cuda_engine(const ModelConfig& config, const EngineOptions& options,
                                         Communicator* ranks = nullptr, Profiler* profiler = nullptr);
std::vector<MemoryItem> plan_cuda_memory(const ModelConfig& config, const EngineOptions& options);
uint64_t plan_cuda_bytes_sent(const ModelConfig& config, const EngineOptions& options, int micro_batches);

}  // namespace kiln
