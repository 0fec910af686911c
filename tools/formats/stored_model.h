#pragma once
// A model in a file of any format, as `kiln import` and `kiln export` convert it: from one format to another, one
// tensor in memory at a time.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "cpu_reference/interface/model_config.h"
#include "cpu_reference/interface/tensors.h"
#include "tools/checkpoint/model_files.h"

namespace kiln {

struct StoredModel {
    ModelConfig config;
    ModelFiles files;  // the tokenizer, the ids of its roles, the generation settings; empty: the format has none
    std::string
        dtype;  // of the weights: "F32", "F16", "BF16" or "Q8_0"; "F32" if the file has tensors of several types
    // All values of a tensor of param_table(config), in its order; out (spec.elems()). Throws Error if the file cannot
    // be read or has changed since it was opened.
    std::function<void(const TensorSpec& spec, std::span<float> out)> read;
};

// Is told how many of all bytes are written. It is called from the thread that converts.
using ConversionProgress = std::function<void(uint64_t done, uint64_t all)>;

}  // namespace kiln
