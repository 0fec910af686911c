#pragma once
// Learns SentencePiece models, through the library.
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tokenizer/sentencepiece/model.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

struct SentencePieceTrainerOptions {
    SentencePieceModel::Kind kind = SentencePieceModel::Kind::bpe;
    int vocab_size = 8000;  // special tokens and the pieces of bytes included; of characters: 0 is all of them
    // Control pieces, found in text only where EncodeOptions allows it. They get the first ids, in this order. <s>,
    // <unk> and <pad> are the library's own; the one that ends a document (</s>, <|endoftext|>, ...) is its end of
    // sentence. <unk>, and </s> if none ends a document, come after the others if they are not given.
    std::vector<std::string> special_tokens = {"<unk>", "<s>", "</s>"};
    // The library's rules: identity, nfkc, nmt_nfkc, nfkc_cf, nmt_nfkc_cf. With identity, spaces are kept as they are;
    // the others join several spaces into one and leave out those at the ends.
    std::string normalization = "identity";
    double character_coverage = 0.9995;  // share of the text whose characters get pieces; 0.98 to 1
    bool byte_fallback = false;          // other characters become pieces of bytes, not <unk>
    int threads = 0;  // at most 128. 0 is the library's 16 on any machine: scores of unigram depend on it
    // Called every few milliseconds while the library is at work. What it throws ends the training.
    std::function<void()> poll = {};
};

// Of all lines of all files; one of over 4192 bytes, which the library would leave out, is cut into several. The
// library runs in a child process, because it ends its process on some texts. Throws UsageError on options that
// contradict each other; Error if a file is missing or not UTF-8, or naming the library's reason, such as more tokens
// asked for than the text has.
Tokenizer train_sentencepiece_tokenizer(const SentencePieceTrainerOptions& options,
                                        const std::vector<std::filesystem::path>& files);

}  // namespace kiln
