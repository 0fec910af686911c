#pragma once
// Makes the text that SentencePiece encodes: replaces characters by the model's rules, trims spaces, adds one in front.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/bpe/token_trie.h"
#include "tokenizer/sentencepiece/model.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

// Immutable, so threads can share it.
class SentencePieceNormalizer {
public:
    // Copies what it needs of the model. Throws Error with `name` if the rules are damaged.
    SentencePieceNormalizer(const SentencePieceModel& model, const std::string& name);

    // The library's normal form of any bytes, but with a space for each "▁" if the model escapes spaces (then the
    // result has no other spaces). An invalid byte becomes U+FFFD. `continues`: the text continues another one, so no
    // space is added. `origins`, unless null, gets the bytes of `text` that each byte of the result comes from; an
    // added space comes from no bytes.
    void normalize(std::string_view text, bool continues, std::string& result,
                   std::vector<TextSpan>* origins = nullptr) const;

private:
    struct Prefix {
        std::string_view replacement;
        size_t bytes;  // of the text
    };
    Prefix normalize_prefix(std::string_view text) const;  // not empty
    Prefix longest_rule(std::string_view text) const;      // bytes 0: no rule matches
    void read_rules(std::string_view charsmap, const std::string& name);
    void find_plain_ascii();

    bool add_dummy_prefix_, remove_extra_whitespaces_, escape_whitespaces_, whitespace_is_suffix_;
    std::vector<uint32_t> units_;  // a double-array trie in the format of darts-clone
    std::string replacements_;     // each ends with a zero byte; a unit has its offset
    TokenTrie user_defined_;       // pieces that are not normalized
    std::array<bool, 256> begins_user_defined_ = {};
    // The normal form of an ASCII character before another one or the end; 0: look at the rules.
    std::array<char, 256> plain_ascii_ = {};
};

}  // namespace kiln
