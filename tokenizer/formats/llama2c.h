#pragma once
// llama2.c's tokenizer.bin: the length of the longest piece as int32, then for each id a float32 score, the number of
// bytes as int32, and these. Its encoder joins the two neighbours whose piece has the highest score, as SentencePiece's
// BPE. It takes ids 1 and 2 as the begin and the end of a text, and ids 3 to 258 as the bytes 0 to 255.
#include <string>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace kiln {

// If the first piece is <unk>, a SentencePiece BPE model with the settings that the encoder has: a space before the
// text, no normalization. Else byte-level BPE, as parse_llmc_tokenizer. Throws Error with `name`.
Tokenizer parse_llama2c_tokenizer(std::string_view file, const std::string& name);

// The content of a file with V ids. The pieces of byte-level BPE are bytes; their scores are such that those merged
// first have the highest. Ids without a token get a text that nothing encodes to.
std::string write_llama2c_tokenizer(const Tokenizer& tokenizer, int V);

}  // namespace kiln
