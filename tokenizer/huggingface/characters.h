#pragma once
// Learns a vocabulary of characters: the simplest tokenizer, for small alphabets and first experiments.
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode/normalizer.h"

namespace kiln {

struct CharacterTrainerOptions {
    int vocab_size = 0;                            // keep the most frequent characters; 0: keep all
    int64_t min_frequency = 0;                     // a character that occurs less often is left out
    std::vector<std::string> special_tokens = {};  // get the first ids; <unk> stands for characters left out
    NormalizerKind normalizer = NormalizerKind::kNone;
};

class CharacterTrainer {
public:
    explicit CharacterTrainer(CharacterTrainerOptions options);  // throws UsageError on wrong options

    // Counts characters. Throws Error with `name` and the byte offset if the text is not UTF-8.
    void add_text(std::string_view text, const std::string& name);
    void add_file(const std::filesystem::path& path);

    // Numbers the characters in the order of code points. Throws Error if there was no text, or if characters are left
    // out and <unk> is not a special token.
    Tokenizer train() const;

private:
    void add(std::string_view text, const std::string& name, uint64_t before);

    CharacterTrainerOptions options_;
    Normalizer normalizer_;
    std::vector<int64_t> counts_;  // by code point
};

}  // namespace kiln
