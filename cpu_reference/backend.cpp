// The backend of programs that are linked against libreference alone.
#include "cpu_reference/interface/backend.h"
#include "cpu_reference/cpu_engine.h"
#include "cpu_reference/interface/error.h"
#include "cpu_reference/memory.h"

namespace kiln {

std::unique_ptr<Engine> make_engine(const ModelConfig& config, const EngineOptions& options, Communicator* ranks) {
    return make_cpu_engine(config, options, ranks);
}

std::vector<MemoryItem> plan_memory(const ModelConfig& config, const EngineOptions& options) {
    return plan_cpu_memory(config, options);
}

uint64_t plan_bytes_sent(const ModelConfig& config, const EngineOptions& options, int) {
    // As a ring does: every element twice, but for a part of 1 / ranks.
    return 2 * sizeof(float) * uint64_t(count_parameters(config)) * uint64_t(options.ranks - 1) /
           uint64_t(options.ranks);
}

bool backend_is_gpu() {
    return false;
}

Device require_device(std::string_view) {
    return {.name = "this machine", .free_bytes = available_memory_bytes()};
}

int device_count() {
    return 1;
}

Device planned_device(const std::string& name) {
    throw UsageError(concat("--gpu ", name, ": this program computes on the CPU; use train_gpt2cu"));
}

std::unique_ptr<GpuMonitor> make_gpu_monitor() {
    return nullptr;
}

}  // namespace kiln
