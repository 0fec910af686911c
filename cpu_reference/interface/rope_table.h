#pragma once
// The angles of rotary position embedding, for both engines.
#include <vector>

#include "cpu_reference/interface/model_config.h"

namespace kiln {

// Element i of a head turns with element i + HS/2 by the angle t * theta^(-2i / HS) (arXiv:2104.09864). Returns
// (T, HS/2) pairs cos, sin; frequencies stretched as Llama 3.1 does (arXiv:2407.21783 and the reference implementation)
// where the config says so; nothing without RoPE.
std::vector<float> rope_table(const ModelConfig& config, int T);

}  // namespace kiln
