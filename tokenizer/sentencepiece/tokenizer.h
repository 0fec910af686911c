#pragma once
// SentencePiece as a kind of tokenizer.
#include <string>

#include "tokenizer/tokenizer.h"

namespace kiln {

// Of a .model file's content. Throws Error; `name` stands in the message. BPE models are encoded by CharacterBpe,
// unigram, word and character models by the library. The ids are the library's for any bytes (one that belongs to no
// character becomes U+FFFD). Decoding gives the bytes of byte pieces as they are, and control pieces as their text.
Tokenizer make_sentencepiece_tokenizer(std::string file, const std::string& name);

}  // namespace kiln
