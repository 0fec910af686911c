#pragma once
// A Tokenizer from a SentencePiece model.
#include <string>

#include "tokenizer/huggingface/side_files.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

// `file` is the content of a .model file. Throws Error with `name`. CharacterBpe encodes with BPE models, the library
// with unigram, word and character models. The ids are the library's for any bytes; an invalid byte becomes U+FFFD.
// Byte pieces decode to their bytes, and control pieces to their text.
// `side`: the files beside it, which may have more tokens.
Tokenizer make_sentencepiece_tokenizer(std::string file, const std::string& name, SideFiles side = {});

}  // namespace kiln
