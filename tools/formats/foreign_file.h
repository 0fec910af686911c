#pragma once
// What llm.c's and llama2.c's model files share: the tokenizer is a file beside the model, and no checksum protects the
// values.
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "cpu_reference/interface/tensors.h"
#include "tokenizer/tokenizer.h"
#include "tools/checkpoint/model_files.h"

namespace kiln {

// The tokenizer of these files; nullopt if they hold none.
std::optional<Tokenizer> tokenizer_of(const ModelFiles& files);

// Throws Error if `path` exists and has other content, which may be somebody's only copy.
void check_replaces_nothing(const std::filesystem::path& path, const std::string& content);

// Throws Error if a value is not finite: nothing can be computed from it.
void check_finite(const std::filesystem::path& path, const TensorSpec& spec, std::span<const float> values);

// The ModelFiles with the tokenizer of this file; empty if the file does not exist.
ModelFiles files_beside(const std::filesystem::path& tokenizer);

}  // namespace kiln
