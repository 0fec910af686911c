// The backend of programs that are linked against libreference alone.
#include "cpu_reference/cpu_engine.h"

namespace kiln {

std::unique_ptr<Engine> make_engine(const ModelConfig& config, const EngineOptions& options) {
    return make_cpu_engine(config, options);
}

std::vector<MemoryItem> plan_memory(const ModelConfig& config, const EngineOptions& options) {
    return plan_cpu_memory(config, options);
}

}  // namespace kiln
