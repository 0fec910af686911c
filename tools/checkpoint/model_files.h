#pragma once
// The files of a model directory, other than its config and weights, that every checkpoint copies: the tokenizer, the
// ids of its special roles (bos, eos, pad), the generation settings and the chat template.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tokenizer/tokenizer_impl.h"

namespace kiln {

struct ModelFiles {
    ModelFiles() = default;
    // `tokenizer`: the tokenizer that the model is trained with; empty: the model's own. `model`: the directory that
    // training starts from, or a file of llm.c; empty: none. The roles and the generation_config.json of `model` are
    // kept if `tokenizer` is empty or the same tokenizer as the model's own. Throws Error if a file cannot be read.
    ModelFiles(const std::filesystem::path& tokenizer, const std::filesystem::path& model);

    std::vector<TokenizerKind::File> files;  // of the tokenizer; generation_config.json
    nlohmann::ordered_json token_ids =
        nlohmann::ordered_json::object();  // "bos_token_id", "eos_token_id" ... of config.json
};

// If the directory has a manifest.json or a shards.json with checksums of its tokenizer, throws Error if a file does
// not match. `path` may also be a file.
void verify_tokenizer(const std::filesystem::path& path);

// Where a model has its tokenizer: in its directory or, if it is a file of llm.c, beside it. Empty: it has none.
std::filesystem::path tokenizer_of_model(const std::filesystem::path& model);

// The ids at which Hugging Face transformers stops: eos_token_id of generation_config.json or, if there is no such
// file, of config.json, or else the default of the model's class. Throws Error if they are no ids.
std::vector<int> stop_tokens(const std::filesystem::path& model_directory);
// The same of files that are not written yet.
std::vector<int> stop_tokens(const ModelFiles& files);

}  // namespace kiln
