#pragma once
// The text that SentencePiece encodes: characters replaced by the model's rules, spaces trimmed, one put in front.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/bpe/token_trie.h"
#include "tokenizer/sentencepiece/model.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

// Immutable, and so safe to share between threads.
class SentencePieceNormalizer {
public:
    // Copies what it needs. Throws Error if the rules are broken; `name` stands in the message.
    SentencePieceNormalizer(const SentencePieceModel& model, const std::string& name);

    // The normal form of any bytes, exactly as the library makes it, but with a space for each "▁" that stands for one
    // (if the model escapes spaces: then the text has no other spaces). A byte that belongs to no character becomes
    // U+FFFD. `continues`: the text goes on where another ended, so nothing is put in front. `origins`, if wanted: for
    // each byte of the result, the bytes of `text` that it came from; none for a space put in front.
    void normalize(std::string_view text, bool continues, std::string& result,
                   std::vector<TextSpan>* origins = nullptr) const;

private:
    struct Prefix {
        std::string_view replacement;
        size_t bytes;  // of the text
    };
    Prefix normalize_prefix(std::string_view text) const;  // not empty
    Prefix longest_rule(std::string_view text) const;      // bytes 0: none
    void read_rules(std::string_view charsmap, const std::string& name);
    void find_plain_ascii();

    bool add_dummy_prefix_, remove_extra_whitespaces_, escape_whitespaces_, whitespace_is_suffix_;
    std::vector<uint32_t> units_;  // of a double-array trie, as darts-clone writes it
    std::string replacements_;     // each ends in a zero byte; a unit holds the offset of its first byte
    TokenTrie user_defined_;       // are copied as they are
    std::array<bool, 256> begins_user_defined_ = {};
    // What an ASCII character becomes if another one or the end follows; 0: the rules must be asked.
    std::array<char, 256> plain_ascii_ = {};
};

}  // namespace kiln
