#pragma once
// llm.c's debug state: a batch, and what a model computes from it, so that programs can be compared. A header of 256
// int32, then tokens and targets (B, T) as int32, logits (B, T, V), the mean loss, and the gradients in the layout of a
// model file, all float32.
//   [0] 20240327  [1] version 2  [2] B  [3] T
#include <filesystem>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "tools/formats/llmc.h"

namespace kiln {

struct LlmcDebugState {
    int B = 0, T = 0;
    std::vector<int> tokens, targets;  // (B, T)
    std::vector<float> logits;         // (B, T, V)
    float loss = 0;                    // the mean over all targets
    std::vector<float> gradients;      // of the loss, in the order of an arena
};

// Throws Error if the file is damaged, or is not of a model of this layout.
LlmcDebugState read_llmc_debug_state(const std::filesystem::path& path, const LlmcModelFile& model);
void write_llmc_debug_state(const std::filesystem::path& path, const ModelConfig& config, const LlmcDebugState& state);

// What the engine computes. The engine must have been made for training with B and T.
LlmcDebugState compute_debug_state(Engine& engine, int B, int T, std::vector<int> tokens, std::vector<int> targets);

}  // namespace kiln
