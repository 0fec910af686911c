#pragma once
// The model formats of Hugging Face: config.json, and the names and layout of weights, for the families of families.h.
// A model that fits none of them has the model_type "kiln", and its tensors have the names of param_table. Every
// config.json that Kiln writes also has the model's descriptor under the key "kiln"; the reader compares the two.
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "tools/checkpoint/model_state.h"
#include "tools/formats/safetensors.h"

namespace kiln {

// A model_type that can describe `config`: its own family if possible, else another family, else "kiln".
std::string hf_model_type(const ModelConfig& config);

// A config.json that transformers 4 and 5 load. `token_ids`: "bos_token_id", "eos_token_id", ..., an object or null.
// `dtype`: of the weights, "float32", "float16" or "bfloat16".
nlohmann::ordered_json hf_config(const ModelConfig& config, const nlohmann::ordered_json& token_ids,
                                 const std::string& dtype = "float32");
nlohmann::ordered_json hf_generation_config(const nlohmann::ordered_json& token_ids);
// The eos_token_id that transformers assumes if this config.json lacks the key; null if it assumes none.
nlohmann::json hf_default_eos(const nlohmann::json& config);

// Reads a config.json of transformers 4 or 5. Throws Error that begins with `where` and names the key, if a key is
// missing, has the wrong type, is out of range, or asks for what the engines do not have (such as a sliding window).
ModelConfig parse_hf_config(const nlohmann::json& config, const std::string& where);

// A tensor of the file, and the place of its values in the arena.
struct HfTensor {
    std::string name;
    std::vector<uint64_t> shape;  // in the file
    size_t offset = 0;            // of its first value in the arena, elements
    size_t rows = 0, cols = 0;    // in the arena, row-major
    bool transposed = false;      // the file has (cols, rows), as GPT-2's Conv1D
};

// Every tensor of a file of this model_type, in the order of the arena.
std::vector<HfTensor> hf_tensors(const ModelConfig& config, const std::string& model_type);

// The values of an arena with weights, `elems` from `offset` on; valid until the next call.
using ArenaValues = std::function<std::span<const float>(size_t offset, size_t elems)>;
// Appends the tensor, a part in memory at a time, or all of it if it is transposed.
void append_hf_tensor(SafetensorsWriter& writer, const HfTensor& tensor, const ArenaValues& values);

// Writes all weights to `path`.
FileDigest write_hf_weights(const std::filesystem::path& path, const ModelState& model);

// The weights in the files of a model.
class HfWeights {
public:
    // Throws Error with the names of tensors that are missing, unexpected, or of another shape. Names may lack
    // "transformer." or "model." at the beginning. Buffers without weights are ignored. An lm_head that equals tied
    // embeddings is accepted.
    HfWeights(ModelTensors files, const ModelConfig& config, const std::string& model_type);
    const std::vector<HfTensor>& tensors() const { return tensors_; }  // in the order of the arena
    // Values of a tensor as in the arena, from number `first` of the tensor on; of a transposed one, all of them.
    // Throws Error if one is not finite.
    void read(const HfTensor& tensor, size_t first, std::span<float> out) const;
    std::string dtype() const;  // of all tensors; if they differ, "F32", which holds all

private:
    ModelTensors files_;
    std::vector<HfTensor> tensors_;
};

// Reads all weights into the engine. Returns a hash of the values, which does not depend on their files and types.
uint64_t read_hf_weights(ModelTensors files, const std::string& model_type, Engine& engine);

}  // namespace kiln
