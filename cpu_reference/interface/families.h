#pragma once
// The families of models, one row each: its defaults and its names in Hugging Face's files. Descriptors and file
// formats read this table; the engines read only ModelConfig.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cpu_reference/interface/model_config.h"

namespace kiln {

// The keys of config.json and the names of tensors.
enum class HfLayout : uint8_t { gpt2, llama };

struct Family {
    std::string_view name;          // in descriptors, and the model_type in config.json
    std::string_view architecture;  // the model's class in transformers
    HfLayout layout;
    bool attention_bias, mlp_bias, sliding_window;  // config.json has the key; a bias without a key is as in `defaults`
    ModelConfig defaults;
};
const std::vector<Family>& families();
const Family* find_family(std::string_view name);  // null: there is none of this name
std::string family_names();                        // "gpt2, llama, ..."

// A named model; the first ones are the families with their defaults.
struct Preset {
    std::string_view name;
    ModelConfig config;
};
const std::vector<Preset>& presets();

// "d12", ...: llm.c's widths and numbers of heads by depth (6 and those from 60 on are its own extensions).
std::optional<ModelConfig> gpt2_of_depth(std::string_view name);

}  // namespace kiln
