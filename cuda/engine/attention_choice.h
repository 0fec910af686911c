#pragma once
// Chooses the attention kernels of an engine once, when it is made.
#include <string>

#include "cpu_reference/interface/engine.h"

namespace kiln {

struct AttentionChoice {
    bool flash;        // flash_attention.cu; else attention.cu
    std::string text;  // the choice and the reason
};
// For the current device. Throws UsageError if options.attention asks for what is not possible.
AttentionChoice choose_attention(const ModelConfig& config, const EngineOptions& options);

}  // namespace kiln
