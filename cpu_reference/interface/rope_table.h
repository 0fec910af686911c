#pragma once
// The angles of rotary position embedding, for both engines.
#include <vector>

#include "cpu_reference/interface/model_config.h"

namespace kiln {

// (HS/2) angles by which RoPE rotates from one position to the next, after scaling; `scaled` false: before it.
std::vector<double> rope_frequencies(const ModelConfig& config, bool scaled = true);

// (T, HS/2) pairs of cos and sin; empty without RoPE. At position t, elements i and i + HS/2 of a head are rotated by
// the angle t * theta^(-2i / HS) (arXiv:2104.09864). config.rope_scaling changes these frequencies as transformers 5
// does (modeling_rope_utils.py):
//   linear  divides all of them by the factor (arXiv:2306.15595).
//   llama3  divides those that rotate less than low_freq_factor times within the original context, and keeps those that
//           rotate more than high_freq_factor times; the share between is linear in the rotations (arXiv:2407.21783).
//   yarn    does so with beta_slow and beta_fast, but linear in the index i, whose bounds are rounded outwards if
//           `truncate`. Also multiplies cos and sin by the attention factor, and thus q, k and their gradients
//           (arXiv:2309.00071).
std::vector<float> rope_table(const ModelConfig& config, int T);

}  // namespace kiln
