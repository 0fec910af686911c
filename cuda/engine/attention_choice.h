#pragma once
// Which attention an engine computes with: chosen once, when it is made.
#include <string>

#include "cpu_reference/interface/engine.h"

namespace kiln {

struct AttentionChoice {
    bool flash;        // flash_attention.cu; else attention.cu
    std::string text;  // which, and what decided
};
// For the current device. Throws UsageError where options.attention asks for what cannot be.
AttentionChoice choose_attention(const ModelConfig& config, const EngineOptions& options);

}  // namespace kiln
