#pragma once
// llm.c's tokenizer file, which only decodes: a header of 256 uint32, then for each id the number of its bytes in one
// byte, and these.
//   [0] 20240328  [1] version 2  [2] number of ids  [3] end-of-text id
#include <string>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace kiln {

inline constexpr const char* kLlmcTokenizerName = "gpt2_tokenizer.bin";  // in llm.c's programs

bool is_llmc_tokenizer(std::string_view file);  // by its first bytes

// The order of the ids gives the merges back, as with tiktoken's ranks. Everything else is that of GPT-2: the
// pre-tokenizer, and that only the end of text is special. Throws Error with `name`.
Tokenizer parse_llmc_tokenizer(std::string_view file, const std::string& name);

// Whether each byte has a token and tokens are bytes, as in byte-level BPE.
bool is_byte_level(const Tokenizer& tokenizer);

// The content of a file. Throws Error if an id has no bytes or more than 255, or if no token ends a text.
std::string write_llmc_tokenizer(const Tokenizer& tokenizer);

}  // namespace kiln
