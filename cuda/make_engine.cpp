// The backend of programs that are linked against libcuda before libreference.
#include "cuda/cuda_engine.h"

namespace kiln {

std::unique_ptr<Engine> make_engine(const ModelConfig& config, const EngineOptions& options) {
    return make_cuda_engine(config, options);
}

std::vector<MemoryItem> plan_memory(const ModelConfig& config, const EngineOptions& options) {
    return plan_cuda_memory(config, options);
}

}  // namespace kiln
