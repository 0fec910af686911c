#pragma once
// Hugging Face's model formats: config.json and the names and layout of weights, for GPT-2, Llama, Qwen2 and Qwen3.
// A model that none of them can express is stored as model_type "kiln", its tensors named as param_table names them.
// Every config.json we write also holds the model's descriptor under "kiln", which is checked when it is read.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "tools/formats/safetensors.h"

namespace kiln {

// The model_type whose files can hold `config`: its own family where that fits, another that does, or "kiln".
std::string hf_model_type(const ModelConfig& config);

// config.json as transformers 4 and 5 load it. end_of_text: the id that ends a document, if there is a tokenizer.
nlohmann::ordered_json hf_config(const ModelConfig& config, std::optional<int> end_of_text);
nlohmann::ordered_json hf_generation_config(std::optional<int> end_of_text);

// The reverse, from the spellings of transformers 4 and 5. Throws Error beginning with `where`, naming the key:
// missing, of the wrong type, out of range, or a choice the engines do not have (another activation, a sliding window
// in use).
ModelConfig parse_hf_config(const nlohmann::json& config, const std::string& where);

// A tensor of the file, and where its values stand in the arena.
struct HfTensor {
    std::string name;
    std::vector<uint64_t> shape;  // in the file
    size_t offset = 0;            // of its first value in the arena, elements
    size_t rows = 0, cols = 0;    // in the arena, row-major
    bool transposed = false;      // the file holds (cols, rows): GPT-2's Conv1D
};

// Every tensor of a file of this model_type, in the order of the arena.
std::vector<HfTensor> hf_tensors(const ModelConfig& config, const std::string& model_type);

// Writes all weights to `path`, one tensor in memory at a time.
void write_hf_weights(const std::filesystem::path& path, const Engine& engine);

// Reads all weights. Throws Error naming tensors that are missing, unexpected, or of another shape. Names may lack the
// leading "transformer." or "model."; buffers that hold no weights are ignored; a head that repeats tied embeddings is
// accepted.
void read_hf_weights(const ModelTensors& tensors, const std::string& model_type, Engine& engine);

}  // namespace kiln
