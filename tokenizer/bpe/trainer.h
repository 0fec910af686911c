#pragma once
// Learns a byte-level BPE vocabulary: the same merges and ids as Hugging Face's BpeTrainer with the ByteLevel
// pre-tokenizer and all 256 bytes as initial alphabet. (Theirs counts in 32 bits and overflows at 2^31; this one counts
// in 64.)
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/bpe/encoder.h"
#include "tokenizer/bpe/word_counts.h"
#include "tokenizer/pre_tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode/normalizer.h"

namespace kiln {

struct BpeProgress {
    enum class Phase { kCounting, kMerging } phase;
    uint64_t done;   // bytes, or merges
    uint64_t total;  // bytes of all text given so far, or the largest number of merges
};

struct BpeTrainerOptions {
    int vocab_size = 30000;                        // includes special tokens and the 256 bytes
    int64_t min_frequency = 0;                     // a pair that occurs less often is never merged
    std::vector<std::string> special_tokens = {};  // get the first ids, in this order
    NormalizerKind normalizer = NormalizerKind::kNone;
    PreTokenizer pre_tokenizer = PreTokenizer();
    bool add_prefix_space = false;  // put a space before a line (if not gpt2: a word) that has none
    int threads = 0;                // threads that count words; 0: one for each processor. Same result
    // Called from time to time by the training thread. An exception from it ends the training.
    std::function<void(const BpeProgress&)> progress = {};
};

class BpeTrainer {
public:
    explicit BpeTrainer(BpeTrainerOptions options);  // throws UsageError on options that contradict each other

    // Counts the words of a text, line by line (each with its \n). If it is not UTF-8, throws Error with `name` and the
    // byte offset; the trainer cannot be used after that. Memory grows with the number of different words, not with the
    // length of the text.
    void add_text(std::string_view text, const std::string& name);
    void add_file(const std::filesystem::path& path);

    // The tokenizer has fewer than vocab_size tokens if the text has no more pairs to merge. Throws Error if there was
    // no text.
    Tokenizer train() const;

private:
    // Gives the next lines of a text, which it may store in `storage`; nothing at the end.
    using NextLines = std::function<std::string_view(std::string& storage)>;
    void count(uint64_t bytes, const std::string& name, const NextLines& next);
    void count_lines(std::string_view text, WordCounts& words) const;

    BpeTrainerOptions options_;
    Normalizer normalizer_;
    PreTokenizerSequence pre_tokenizer_;
    WordCounts words_;
    uint64_t bytes_ = 0;  // of all text so far
};

}  // namespace kiln
