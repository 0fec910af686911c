// The backend of programs that are linked with this object: the engine on a GPU.
#include "cpu_reference/interface/backend.h"
#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "cuda/device/cuda_check.h"
#include "cuda/device/gpu_peaks.h"
#include "cuda/device/nvml.h"
#include "cuda/device/require_gpu.h"
#include "cuda/engine/cuda_engine.h"

#include <string>
#include <utility>
#include <vector>

namespace kiln {

std::unique_ptr<Engine> make_engine(const ModelConfig& config, const EngineOptions& options, Communicator* ranks) {
    return make_cuda_engine(config, options, ranks);
}

std::vector<MemoryItem> plan_memory(const ModelConfig& config, const EngineOptions& options) {
    return plan_cuda_memory(config, options);
}

uint64_t plan_bytes_sent(const ModelConfig& config, const EngineOptions& options, int micro_batches) {
    return plan_cuda_bytes_sent(config, options, micro_batches);
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

int device_count() {
    int count = 0;
    return taken(cudaGetDeviceCount(&count)) == cudaSuccess ? count : 0;
}

Device planned_device(const std::string& name) {
    if (name.empty()) return {.name = "a GPU", .bfloat16 = true, .tf32 = true, .fuses_gelu = true, .capability = 80};
    const GpuPeaks gpu = find_gpu(name);
    if (gpu.name.empty()) {
        std::vector<std::string> names;
        for (const GpuPeaks& known : known_gpus()) names.emplace_back(known.name);
        throw UsageError(concat("--gpu ", name, ": is not a GPU that this program knows; did you mean ",
                                nearest(name, names), "? --memory 16GiB plans for any other"));
    }
    const bool ampere = gpu.bfloat16 > 0;
    // The driver and a display take a part of it, here 5 %.
    const size_t free_bytes = (size_t(gpu.memory_gib) << 30) / 100 * 95;
    return {.name = std::string(gpu.name),
            .bfloat16 = ampere,
            .tf32 = ampere,
            .fuses_gelu = true,  // whether it gains is said when it runs
            .free_bytes = free_bytes,
            .capability = ampere ? 80 : 75};
}

std::unique_ptr<GpuMonitor> make_gpu_monitor() {
    auto monitor = std::make_unique<Nvml>();
    return monitor->available() ? std::move(monitor) : nullptr;
}

}  // namespace kiln
