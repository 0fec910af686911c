#pragma once
// What a model's directory holds besides its shape and weights, and every checkpoint keeps: the tokenizer, the ids of
// its roles, how text is generated, the chat template.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tokenizer/tokenizer_impl.h"

namespace kiln {

struct ModelFiles {
    ModelFiles() = default;
    // `tokenizer`: the tokenizer that the model is trained with; empty: the model's own. `model`: the directory that
    // training starts from; empty: none. The roles and the generation_config.json of the model are kept unless its
    // tokenizer is another one. Throws Error.
    ModelFiles(const std::filesystem::path& tokenizer, const std::filesystem::path& model);

    std::vector<TokenizerKind::File> files;  // of the tokenizer; generation_config.json
    nlohmann::ordered_json token_ids =
        nlohmann::ordered_json::object();  // "bos_token_id", "eos_token_id" ... of config.json
};

// Throws Error if the directory has checksums of the tokenizer in it, in manifest.json or in shards.json, and a file
// differs. `path` may also be a file.
void verify_tokenizer(const std::filesystem::path& path);

// The ids where transformers stops: eos_token_id of generation_config.json if there is this file, else that of
// config.json or, if config.json has no such key, its class's default. Throws Error.
std::vector<int> stop_tokens(const std::filesystem::path& model_directory);
// The same of files that are not written yet.
std::vector<int> stop_tokens(const ModelFiles& files);

}  // namespace kiln
