#pragma once
// The angles of rotary position embedding, for both engines.
#include <vector>

#include "cpu_reference/interface/model_config.h"

namespace kiln {

// (T, HS/2) pairs of cos and sin; empty without RoPE. At position t, elements i and i + HS/2 of a head are rotated by
// the angle t * theta^(-2i / HS) (arXiv:2104.09864). config.rope_scaling changes these frequencies as Llama 3.1 does
// (arXiv:2407.21783 and its reference implementation).
std::vector<float> rope_table(const ModelConfig& config, int T);

}  // namespace kiln
