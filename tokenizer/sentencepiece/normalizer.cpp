#include "tokenizer/sentencepiece/normalizer.h"

#include <algorithm>
#include <cstring>

#include "cpu_reference/interface/error.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

constexpr std::string_view kReplacementCharacter = "\uFFFD";

// A unit of darts-clone's double array. Bits 0-7: the byte that leads to this node. 8: a key ends here, and its value
// is in the unit at the offset. 9: the offset is a multiple of 256. 10-30: the offset to the children, for exclusive
// or. 31: the unit is a value, in bits 0-30.
struct Unit {
    uint32_t bits;
    uint32_t label() const { return bits & 0x800000FFu; }
    uint32_t offset() const { return bits >> 10 << ((bits & 0x200u) >> 6); }
    bool has_leaf() const { return bits & 0x100u; }
    bool is_value() const { return bits & 0x80000000u; }
    uint32_t value() const { return bits & 0x7FFFFFFFu; }
};

}  // namespace

SentencePieceNormalizer::SentencePieceNormalizer(const SentencePieceModel& model, const std::string& name)
    : add_dummy_prefix_(model.add_dummy_prefix),
      remove_extra_whitespaces_(model.remove_extra_whitespaces),
      escape_whitespaces_(model.escape_whitespaces),
      whitespace_is_suffix_(model.whitespace_is_suffix) {
    if (!model.charsmap.empty()) read_rules(model.charsmap, name);
    std::vector<std::pair<std::string_view, int>> symbols;
    for (const SentencePiece& piece : model.pieces) {
        if (piece.type != SentencePiece::Type::user_defined) continue;
        symbols.emplace_back(piece.text, 0);
        begins_user_defined_[static_cast<unsigned char>(piece.text[0])] = true;
        longest_user_defined_ = std::max(longest_user_defined_, piece.text.size());
    }
    user_defined_ = TokenTrie(std::move(symbols));
    find_plain_ascii();
}

// `charsmap` is the size of the trie in bytes (32 bits), the trie, and the replacements.
void SentencePieceNormalizer::read_rules(std::string_view charsmap, const std::string& name) {
    uint32_t trie_bytes = 0;
    if (charsmap.size() > 4) std::memcpy(&trie_bytes, charsmap.data(), 4);
    KILN_CHECK(trie_bytes >= 4 && trie_bytes % 4 == 0 && trie_bytes <= charsmap.size() - 4, name,
               ": normalizer_spec: a trie of ", trie_bytes, " bytes in ", charsmap.size(), " bytes of rules");
    units_.resize(trie_bytes / 4);
    std::memcpy(units_.data(), charsmap.data() + 4, trie_bytes);
    replacements_ = charsmap.substr(4 + trie_bytes);
    KILN_CHECK(!find_invalid_utf8(replacements_), name, ": normalizer_spec: a replacement is not UTF-8");
    KILN_CHECK(replacements_.ends_with('\0'), name, ": normalizer_spec: the last replacement has no end");
    for (uint32_t i = 0; i < units_.size(); ++i) {
        const Unit unit{units_[i]};
        if (unit.is_value() || !unit.has_leaf()) continue;
        const size_t leaf = i ^ unit.offset();
        const size_t start = leaf < units_.size() ? Unit{units_[leaf]}.value() : replacements_.size();
        KILN_CHECK(start < replacements_.size() && (replacements_[start] & 0xC0) != 0x80, name,
                   ": normalizer_spec: unit ", i, " of the trie has no replacement");
    }
}

SentencePieceNormalizer::Prefix SentencePieceNormalizer::longest_rule(std::string_view text) const {
    Prefix longest{{}, 0};
    if (units_.empty()) return longest;
    size_t node = Unit{units_[0]}.offset();
    for (size_t i = 0; i < text.size(); ++i) {
        const unsigned char byte = text[i];
        node ^= byte;
        if (node >= units_.size()) return longest;
        const Unit unit{units_[node]};
        if (unit.label() != byte) return longest;
        node ^= unit.offset();
        if (unit.has_leaf()) longest = {replacements_.data() + Unit{units_[node]}.value(), i + 1};
    }
    longest.open = true;
    return longest;
}

SentencePieceNormalizer::Prefix SentencePieceNormalizer::normalize_prefix(std::string_view text) const {
    if (begins_user_defined_[static_cast<unsigned char>(text[0])]) {
        size_t longest = 0;
        user_defined_.for_each_prefix(text, [&](int, size_t bytes) { longest = bytes; });
        if (longest > 0) return {text.substr(0, longest), longest};
    }
    const Prefix rule = longest_rule(text);
    if (rule.bytes > 0) return rule;
    uint32_t code_point;
    const int bytes = decode_utf8(text.data(), text.data() + text.size(), code_point);
    if (bytes == 0) return {kReplacementCharacter, 1, rule.open};
    return {text.substr(0, bytes), static_cast<size_t>(bytes), rule.open};
}

void SentencePieceNormalizer::find_plain_ascii() {
    for (int first = 1; first < 128; ++first) {
        if (begins_user_defined_[first]) continue;
        bool alone = true;
        for (int second = 0; second < 128 && !units_.empty() && alone; ++second) {
            // Whether the trie continues with another ASCII character.
            size_t node = Unit{units_[0]}.offset();
            for (const int byte : {first, second}) {
                node ^= static_cast<size_t>(byte);
                alone = node >= units_.size() || Unit{units_[node]}.label() != static_cast<uint32_t>(byte);
                if (alone) break;
                node ^= Unit{units_[node]}.offset();
            }
        }
        const char character = static_cast<char>(first);
        const std::string_view replacement = normalize_prefix({&character, 1}).replacement;
        if (alone && replacement.size() == 1 && static_cast<unsigned char>(replacement[0]) < 0x80) {
            plain_ascii_[first] = replacement[0];
        }
    }
}

// Spaces are removed at the ends of the whole text and joined within it, so no cut may be next to a space that would
// change. If spaces are prefixes of words, a cut is never after one. If they are suffixes, it is never before one, and
// so the second part is never empty, and the added space is at its end.
size_t SentencePieceNormalizer::find_cut(std::string_view text, size_t from, const MayCut& may_cut) const {
    constexpr size_t kCharacter = 4;  // the most bytes of a character
    const auto code_point = [&](std::string_view character) -> uint32_t {
        uint32_t c = 0;
        decode_utf8(character.data(), character.data() + character.size(), c);
        return escape_whitespaces_ && character.starts_with(kSpaceSymbol) ? ' ' : c;
    };
    uint32_t before = ' ';
    bool visible = false;  // whether the normal form so far is more than spaces
    const size_t needed = std::max(kCharacter, longest_user_defined_);
    for (size_t position = 0; position + needed <= text.size();) {
        const char plain = plain_ascii_[static_cast<unsigned char>(text[position])];
        const bool alone = plain != 0 && static_cast<unsigned char>(text[position + 1]) < 0x80;
        const Prefix prefix = alone ? Prefix{{&plain, 1}, 1} : normalize_prefix(text.substr(position));
        if (prefix.open) return 0;
        if (!prefix.replacement.empty()) {
            const uint32_t after = code_point(prefix.replacement);
            const bool spaces_stay = whitespace_is_suffix_ ? visible && after != ' ' : before != ' ';
            if (position >= from && spaces_stay && may_cut(position, before, after)) return position;
            const size_t last = character_before(prefix.replacement, prefix.replacement.size());
            before = code_point(prefix.replacement.substr(last));
            visible = visible || before != ' ' || after != ' ';
        }
        position += prefix.bytes;
    }
    return 0;
}

void SentencePieceNormalizer::normalize(std::string_view text, Ends ends, std::string& result,
                                        std::vector<TextSpan>* origins) const {
    result.clear();
    if (origins) origins->clear();
    size_t position = 0;
    const auto append = [&](char c, size_t bytes) {  // `c` comes from the next `bytes` bytes of `text`
        result += c;
        if (origins) origins->push_back({position, position + bytes});
    };
    bool after_space = remove_extra_whitespaces_ && !ends.continues;
    while (after_space && position < text.size()) {
        const Prefix prefix = normalize_prefix(text.substr(position));
        if (prefix.replacement != " ") break;
        position += prefix.bytes;
    }
    if (position == text.size()) return;
    if (add_dummy_prefix_ && !whitespace_is_suffix_ && !ends.continues) append(' ', 0);
    while (position < text.size()) {
        const char plain = plain_ascii_[static_cast<unsigned char>(text[position])];
        if (plain != 0 && (position + 1 == text.size() || static_cast<unsigned char>(text[position + 1]) < 0x80)) {
            if (plain != ' ' || !after_space) append(plain, 1);
            after_space = plain == ' ' && remove_extra_whitespaces_;
            ++position;
            continue;
        }
        auto [replacement, bytes, open] = normalize_prefix(text.substr(position));
        while (after_space && replacement.starts_with(' ')) replacement.remove_prefix(1);
        if (!replacement.empty()) after_space = remove_extra_whitespaces_ && replacement.ends_with(' ');
        for (size_t i = 0; i < replacement.size(); ++i) {
            const bool symbol = escape_whitespaces_ && replacement.substr(i).starts_with(kSpaceSymbol);
            append(symbol ? ' ' : replacement[i], bytes);
            if (symbol) i += kSpaceSymbol.size() - 1;
        }
        position += bytes;
    }
    if (ends.continued) return;
    if (remove_extra_whitespaces_) {
        result.resize(result.find_last_not_of(' ') + 1);
        if (origins) origins->resize(result.size());
    }
    const bool nothing = ends.continues && result.empty();
    if (add_dummy_prefix_ && whitespace_is_suffix_ && !nothing) append(' ', 0);
}

}  // namespace kiln
