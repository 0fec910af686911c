#pragma once
// Makes the text that SentencePiece encodes: replaces characters by the model's rules, trims spaces, adds one in front.
#include <array>
#include <cstdint>
#include <functional>
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
    // space is added or removed at its start; `continued`: nor at its end, because another text continues it.
    // `origins`, unless null, gets the bytes of `text` that each byte of the result comes from; an added space comes
    // from no bytes.
    struct Ends {
        bool continues = false, continued = false;
    };
    void normalize(std::string_view text, Ends ends, std::string& result,
                   std::vector<TextSpan>* origins = nullptr) const;

    // The first place from byte `from` on where any text with this start can be cut: its normal form is that of the two
    // parts, and may_cut() allows it for the characters of the normal form before and after the cut. 0: there is none,
    // or more text is needed to tell.
    using MayCut = std::function<bool(size_t at, uint32_t before, uint32_t after)>;
    size_t find_cut(std::string_view text, size_t from, const MayCut& may_cut) const;

private:
    struct Prefix {
        std::string_view replacement;
        size_t bytes;       // of the text
        bool open = false;  // a longer rule may match if the text continues
    };
    Prefix normalize_prefix(std::string_view text) const;  // not empty
    Prefix longest_rule(std::string_view text) const;      // bytes 0: no rule matches
    void read_rules(std::string_view charsmap, const std::string& name);
    void find_plain_ascii();

    bool add_dummy_prefix_, remove_extra_whitespaces_, escape_whitespaces_, whitespace_is_suffix_;
    std::vector<uint32_t> units_;  // a double-array trie in the format of darts-clone
    std::string replacements_;     // each ends with a zero byte; a unit has its offset
    TokenTrie user_defined_;       // pieces that are not normalized
    size_t longest_user_defined_ = 0;
    std::array<bool, 256> begins_user_defined_ = {};
    // The normal form of an ASCII character before another one or the end; 0: look at the rules.
    std::array<char, 256> plain_ascii_ = {};
};

}  // namespace kiln
