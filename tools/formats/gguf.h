#pragma once
// GGUF, version 3: one file with a model and its tokenizer, as llama.cpp runs it. The architectures are gpt2, llama,
// qwen2 and qwen3. The rows of Q and K of a `llama` are in another order than Kiln's: elements i and i + HS/2 of a
// head, which RoPE rotates together, are side by side there.
#include <filesystem>
#include <string_view>

#include "tools/formats/stored_model.h"

namespace kiln {

// Reads weights of the types of gguf_types.h. Throws Error if the file is not such a model.
StoredModel open_gguf(const std::filesystem::path& path);

// `type`: of the matrices and the embeddings, a name of gguf_types(); empty: the type of `model`, or F32. Norms, biases
// and GPT-2's position embeddings are F32, as llama.cpp's converter writes them. If the row length
// of a matrix is no multiple of the block size, the matrix gets the type GgufType::instead. Throws Error if the format
// cannot hold the model or its tokenizer, if a value is too large for the type, or if no matrix can have the type.
void write_gguf(const std::filesystem::path& path, const StoredModel& model, std::string_view type,
                const ConversionProgress& progress);

}  // namespace kiln
