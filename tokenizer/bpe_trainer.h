#pragma once
// Learns a byte-level BPE vocabulary: the same merges and ids as Hugging Face's BpeTrainer with the ByteLevel
// pre-tokenizer and all 256 bytes as initial alphabet (theirs counts in 32 bits and overflows at 2^31; this in 64).
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/bpe.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/splitter.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/word_counts.h"

namespace kiln {

struct BpeTrainerOptions {
    int vocab_size = 30000;                        // special tokens and the 256 bytes included
    int64_t min_frequency = 0;                     // a pair that occurs less often is never merged
    std::vector<std::string> special_tokens = {};  // get the first ids, in this order
    NormalizerKind normalizer = NormalizerKind::kNone;
    Splitter splitter = Splitter();
    bool add_prefix_space = false;  // a line that does not start with a space gets one (a piece, if not gpt2)
};

class BpeTrainer {
public:
    explicit BpeTrainer(BpeTrainerOptions options);  // throws UsageError on options that contradict each other

    // Counts the words of a text, line by line (each with its \n). Throws Error naming `name` and the byte offset if it
    // is not UTF-8.
    void add_text(std::string_view text, const std::string& name);
    void add_file(const std::filesystem::path& path);

    // The tokenizer of all text so far. It has fewer than vocab_size tokens if the text has no more pairs to merge.
    // Throws Error if there was no text.
    Tokenizer train() const;

private:
    BpeTrainerOptions options_;
    Normalizer normalizer_;
    PreTokenizer pre_tokenizer_;
    WordCounts words_;
};

}  // namespace kiln
