// The backend of programs that are linked with this object: the engine on a GPU.
#include "cpu_reference/interface/backend.h"
#include "cuda/device/nvml.h"
#include "cuda/device/require_gpu.h"
#include "cuda/engine/cuda_engine.h"

#include <utility>

namespace kiln {

std::unique_ptr<Engine> make_engine(const ModelConfig& config, const EngineOptions& options) {
    return make_cuda_engine(config, options);
}

std::vector<MemoryItem> plan_memory(const ModelConfig& config, const EngineOptions& options) {
    return plan_cuda_memory(config, options);
}

bool backend_is_gpu() {
    return true;
}

Device require_device(std::string_view program) {
    const Gpu gpu = require_gpu(program);
    const bool ampere = gpu.major >= 8;
    // Measured: llm.c's pull request 591 (an H100 gains, an RTX 4090 loses), SGLang's 34350 (so does an RTX 5090).
    const bool fuses_gelu = gpu.major == 9 || gpu.major == 10;
    return {
        .name = gpu.name, .bfloat16 = ampere, .tf32 = ampere, .fuses_gelu = fuses_gelu, .free_bytes = gpu.free_bytes};
}

std::unique_ptr<GpuMonitor> make_gpu_monitor() {
    auto monitor = std::make_unique<Nvml>();
    return monitor->available() ? std::move(monitor) : nullptr;
}

}  // namespace kiln
