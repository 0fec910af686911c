#pragma once
// Trains SentencePiece models with the library.
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tokenizer/sentencepiece/model.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

struct SentencePieceTrainerOptions {
    SentencePieceModel::Kind kind = SentencePieceModel::Kind::bpe;
    int vocab_size = 8000;  // includes special tokens and byte pieces; 0 (only for characters): all
    // Control pieces, which EncodeOptions::allow_special finds in text. They get the first ids, in this order. <s>,
    // <unk> and <pad> have their meaning in the library, and the token that ends a document (</s>, <|endoftext|>, ...)
    // is its end of sentence. If they are missing, <unk> and (if no token ends a document) </s> are added.
    std::vector<std::string> special_tokens = {"<unk>", "<s>", "</s>"};
    // The library's rules: identity, nfkc, nmt_nfkc, nfkc_cf, nmt_nfkc_cf. All except identity also join several spaces
    // into one and remove those at the ends.
    std::string normalization = "identity";
    double character_coverage = 0.9995;  // part of the text that has pieces for its characters; 0.98 to 1
    bool byte_fallback = false;          // other characters become byte pieces, not <unk>
    int threads = 0;  // at most 128; 0: the library's 16 on any machine, as unigram scores depend on it
    // Called every few milliseconds during training. An exception from it ends the training.
    std::function<void()> poll = {};
};

// Trains on all lines of all files and documents. Lines of more than 4192 bytes, which the library would ignore, are
// cut. The library runs in a child process, since some texts make it exit. Throws UsageError on wrong options, and
// Error if a file is missing or not UTF-8, or if the library fails (with its reason).
Tokenizer train_sentencepiece_tokenizer(const SentencePieceTrainerOptions& options,
                                        const std::vector<std::filesystem::path>& files,
                                        const std::vector<std::string>& documents = {});

}  // namespace kiln
