#pragma once
// A vocabulary of the characters of a text: the simplest tokenizer there is, for small alphabets and first experiments.
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode/normalizer.h"

namespace kiln {

struct CharacterTrainerOptions {
    int vocab_size = 0;                            // at most so many tokens, the most frequent characters; 0: all
    int64_t min_frequency = 0;                     // a character that occurs less often is left out
    std::vector<std::string> special_tokens = {};  // get the first ids; <unk> among them stands for what is left out
    NormalizerKind normalizer = NormalizerKind::kNone;
};

class CharacterTrainer {
public:
    explicit CharacterTrainer(
        CharacterTrainerOptions options);  // throws UsageError on options that contradict each other

    // Counts characters. Throws Error naming `name` and the byte offset if the text is not UTF-8.
    void add_text(std::string_view text, const std::string& name);
    void add_file(const std::filesystem::path& path);

    // Characters have their ids in the order of code points. Throws Error if there was no text, or if characters are
    // left out and there is no <unk>.
    Tokenizer train() const;

private:
    CharacterTrainerOptions options_;
    Normalizer normalizer_;
    std::vector<int64_t> counts_;  // by code point
};

}  // namespace kiln
