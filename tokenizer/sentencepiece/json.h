#pragma once
// A SentencePiece model as the tokenizer.json that Hugging Face's libraries read. Kiln itself reads the model.
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/sentencepiece/model.h"
#include "tokenizer/tokenizer_impl.h"

namespace kiln {

// It encodes a text without special tokens to the same ids. Nothing for a model of whole words, or one with the space
// at the end of its pieces: the format has no such models.
std::optional<std::string> sentencepiece_json(const SentencePieceModel& model, const std::vector<AddedToken>& added);

}  // namespace kiln
