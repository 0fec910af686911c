#pragma once
// Tokenizers in GGUF files. Byte-level BPE is "gpt2" there, with the name of a pre-tokenizer; a SentencePiece BPE model
// is "llama", with a score for each piece. llama.cpp neither normalizes text nor knows other kinds.
#include "tools/checkpoint/model_files.h"
#include "tools/formats/gguf_file.h"

namespace kiln {

// `V`: the vocabulary size of the model; ids without a token get a name. Throws Error if GGUF has no such tokenizer.
void write_gguf_tokenizer(GgufHeader& header, const ModelFiles& files, int V);

// Throws Error if the file's tokenizer is of a kind that Kiln does not have, or is damaged. Returns no files if the
// file has no tokenizer.
ModelFiles read_gguf_tokenizer(const GgufFile& file, int V);

}  // namespace kiln
