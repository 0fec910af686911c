#pragma once
// Learns a byte-level BPE vocabulary: the same merges and ids as Hugging Face's BpeTrainer with the ByteLevel
// pre-tokenizer and all 256 bytes as initial alphabet (theirs counts in 32 bits and overflows at 2^31; this in 64).
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/bpe/encoder.h"
#include "tokenizer/bpe/word_counts.h"
#include "tokenizer/io/file.h"
#include "tokenizer/pre_tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode/normalizer.h"

namespace kiln {

struct BpeProgress {
    enum class Phase { kCounting, kMerging } phase;
    uint64_t done;   // bytes of all text so far; merges
    uint64_t total;  // bytes of all text that was given so far; merges to come to at most
};

struct BpeTrainerOptions {
    int vocab_size = 30000;                        // special tokens and the 256 bytes included
    int64_t min_frequency = 0;                     // a pair that occurs less often is never merged
    std::vector<std::string> special_tokens = {};  // get the first ids, in this order
    NormalizerKind normalizer = NormalizerKind::kNone;
    Splitter splitter = Splitter();
    bool add_prefix_space = false;  // a line that does not start with a space gets one (a piece, if not gpt2)
    int threads = 0;                // that count words; 0: one a processor. The result is the same
    // Called now and then by the thread that trains. What it throws ends the training.
    std::function<void(const BpeProgress&)> progress = {};
};

class BpeTrainer {
public:
    explicit BpeTrainer(BpeTrainerOptions options);  // throws UsageError on options that contradict each other

    // Counts the words of a text, line by line (each with its \n). Throws Error naming `name` and the byte offset if it
    // is not UTF-8; the trainer is of no more use then. A file's pages are given back as they are done with: memory
    // grows with the number of different words, not with the text.
    void add_text(std::string_view text, const std::string& name);
    void add_file(const std::filesystem::path& path);

    // The tokenizer of all text so far. It has fewer than vocab_size tokens if the text has no more pairs to merge.
    // Throws Error if there was no text.
    Tokenizer train() const;

private:
    void count(std::string_view text, const std::string& name, const MappedFile* file);
    void count_lines(std::string_view text, WordCounts& words) const;

    BpeTrainerOptions options_;
    Normalizer normalizer_;
    PreTokenizer pre_tokenizer_;
    WordCounts words_;
    uint64_t bytes_ = 0;  // of all text
};

}  // namespace kiln
