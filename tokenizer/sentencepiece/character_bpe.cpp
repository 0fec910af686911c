#include "tokenizer/sentencepiece/character_bpe.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

constexpr size_t kCodePoints = 0x110000;

// `text` is valid UTF-8 and not empty.
std::pair<uint32_t, size_t> first_character(std::string_view text) {
    uint32_t code_point = 0;
    const int bytes = decode_utf8(text.data(), text.data() + text.size(), code_point);
    return {code_point, static_cast<size_t>(bytes)};
}

bool is_one_character(std::string_view text) {
    return !text.empty() && first_character(text).second == text.size();
}

// The bit of a pair of characters. Each pair of ASCII has its own, at the start; other pairs share bits.
constexpr size_t kAsciiPairs = 128 * 128, kOtherPairs = size_t(1) << 17;
size_t pair_bit(uint32_t left, uint32_t right) {
    if ((left | right) < 128) return left << 7 | right;
    return kAsciiPairs + ((left * 0x9E3779B97F4A7C15u ^ right * 0xC2B2AE3D27D4EB4Fu) >> 32 & (kOtherPairs - 1));
}

// Appends the characters that occur only in longer tokens.
void add_extra_characters(CharacterBpe::Parts& parts) {
    std::vector<std::string>& tokens = parts.vocabulary.tokens;
    std::vector<bool> known(kCodePoints);
    for (size_t id = 0; id < tokens.size(); ++id) {
        if (parts.is_text[id] && is_one_character(tokens[id])) known[first_character(tokens[id]).first] = true;
    }
    parts.first_extra = static_cast<int>(tokens.size());
    for (int id = 0; id < parts.first_extra; ++id) {
        if (!parts.is_text[id]) continue;
        for (size_t i = 0; i < tokens[id].size();) {
            const auto [code_point, bytes] = first_character(std::string_view(tokens[id]).substr(i));
            if (!known[code_point]) tokens.push_back(tokens[id].substr(i, bytes));
            known[code_point] = true;
            i += bytes;
        }
    }
    parts.is_text.resize(tokens.size(), true);
}

}  // namespace

// The library merges two neighbours if together they are a piece: the piece of the highest score first, and among equal
// scores the leftmost one. As merges, these are all ways to cut a piece into two, ranked by the scores of the pieces.
CharacterBpe CharacterBpe::of_sentencepiece(const SentencePieceModel& model, const std::string& name) {
    using Type = SentencePiece::Type;
    Parts parts;
    parts.unknown_id = model.unknown_id;
    parts.byte_ids = model.byte_ids;
    parts.escaped_spaces = model.escape_whitespaces;
    BpeVocabulary& vocabulary = parts.vocabulary;
    vocabulary.of_characters = true;
    std::vector<int> by_score;
    for (size_t id = 0; id < model.pieces.size(); ++id) {
        const SentencePiece& piece = model.pieces[id];
        KILN_CHECK(piece.type != Type::unused, name, ": piece ", id, " (", piece.text.substr(0, 40),
                   ") is marked as unused, which is not supported in BPE models");
        const std::string& token =
            vocabulary.tokens.emplace_back(model.escape_whitespaces ? with_spaces(piece.text) : piece.text);
        // If spaces are escaped, no text has a piece with a space.
        const bool occurs = !model.escape_whitespaces || piece.text.find(' ') == std::string::npos;
        parts.is_text.push_back(occurs && piece.type == Type::normal);
        if (parts.is_text.back()) by_score.push_back(static_cast<int>(id));
        if (occurs && piece.type == Type::user_defined) parts.whole.emplace_back(token, static_cast<int>(id));
    }
    add_extra_characters(parts);

    std::unordered_map<std::string_view, int> ids;
    for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
        if (parts.is_text[id]) ids.emplace(vocabulary.tokens[id], static_cast<int>(id));
    }
    std::stable_sort(by_score.begin(), by_score.end(),
                     [&](int a, int b) { return model.pieces[a].score > model.pieces[b].score; });
    uint32_t rank = 0;
    for (size_t i = 0; i < by_score.size(); ++i) {
        const int id = by_score[i];
        if (i > 0 && model.pieces[id].score != model.pieces[by_score[i - 1]].score) ++rank;
        const std::string_view text = vocabulary.tokens[id];
        for (size_t cut = first_character(text).second; cut < text.size();
             cut += first_character(text.substr(cut)).second) {
            const auto left = ids.find(text.substr(0, cut));
            if (left == ids.end()) continue;
            const auto right = ids.find(text.substr(cut));
            if (right == ids.end()) continue;
            vocabulary.merges.emplace_back(left->second, right->second);
            vocabulary.ranks.push_back(rank);
        }
    }
    return CharacterBpe(std::move(parts), name);
}

CharacterBpe::CharacterBpe(Parts parts, const std::string& name)
    : parts_(std::make_unique<const Parts>(std::move(parts))),
      model_(std::make_unique<const BpeModel>(parts_->vocabulary, parts_->is_text, name)),
      known_(kCodePoints / 64),
      joined_((kAsciiPairs + kOtherPairs) / 64) {
    std::vector<std::pair<std::string_view, int>> whole(parts_->whole.begin(), parts_->whole.end());
    for (const auto& [text, id] : whole) begins_whole_[static_cast<unsigned char>(text[0])] = true;
    whole_ = TokenTrie(std::move(whole));
    for (size_t id = 0; id < tokens().size(); ++id) {
        if (!parts_->is_text[id]) continue;
        const std::string_view token = tokens()[id];
        if (is_one_character(token)) {
            const uint32_t code_point = first_character(token).first;
            known_[code_point >> 6] |= uint64_t(1) << (code_point & 63);
        }
        join_neighbours(token);
    }
    for (const auto& [text, id] : parts_->whole) join_neighbours(text);
    for (uint32_t c = 0; c < 128; ++c) letter_[c] = !begins_whole_[c] && starts_merges(c);
}

void CharacterBpe::join_neighbours(std::string_view token) {
    auto [left, bytes] = first_character(token);
    for (size_t i = bytes; i < token.size(); i += bytes) {
        const uint32_t before = std::exchange(left, first_character(token.substr(i)).first);
        bytes = first_character(token.substr(i)).second;
        const size_t bit = pair_bit(before, left);
        joined_[bit / 64] |= uint64_t(1) << (bit % 64);
    }
}

bool CharacterBpe::may_cut(uint32_t left, uint32_t right) const {
    const auto is_token = [&](uint32_t code_point) {
        std::string character;
        append_utf8(character, code_point);
        const int id = model_->trie().find(character);
        return id >= 0 && id < parts_->first_extra;
    };
    // Two unknown characters could become one token.
    return !may_join(left, right) && (!parts_->byte_ids.empty() || is_token(left) || is_token(right));
}

bool CharacterBpe::may_join(uint32_t left, uint32_t right) const {
    const size_t bit = pair_bit(left, right);
    return joined_[bit / 64] >> (bit % 64) & 1;
}

// Appends what encode() finds.
class CharacterBpe::Output {
public:
    Output(const Parts& parts, BpeEncoder& encoder, std::vector<int>& ids, std::vector<size_t>* ends)
        : parts_(parts),
          encoder_(encoder),
          ids_(ids),
          ends_(ends),
          one_by_one_(ends || static_cast<size_t>(parts.first_extra) < parts.vocabulary.tokens.size()) {}

    void token(int id, size_t bytes) {
        ids_.push_back(id);
        end_ += bytes;
        if (ends_) ends_->push_back(end_);
        after_unknown_ = false;
    }
    void unknown(std::string_view character) {
        if (!parts_.byte_ids.empty()) {
            const bool space = parts_.escaped_spaces && character == " ";
            size_t left = character.size();  // "▁" has more bytes than the space that it stands for
            for (const char byte : space ? kSpaceSymbol : character) {
                token(parts_.byte_ids[static_cast<unsigned char>(byte)], std::min<size_t>(left, 1));
                left -= std::min<size_t>(left, 1);
            }
            return;
        }
        KILN_CHECK(parts_.unknown_id >= 0, "the vocabulary has no token for the character \"", character,
                   "\" and no unknown token");
        if (!after_unknown_) {
            token(parts_.unknown_id, character.size());
        } else {  // a run of unknown characters is one token
            end_ += character.size();
            if (ends_) ends_->back() = end_;
        }
        after_unknown_ = true;
    }
    void merged(std::string_view part) {
        if (!one_by_one_) {
            encoder_.encode(part, ids_);
            after_unknown_ = false;
            return;
        }
        merged_.clear();
        encoder_.encode(part, merged_);
        for (const int id : merged_) {
            const std::string& text = parts_.vocabulary.tokens[id];
            if (id < parts_.first_extra) {
                token(id, text.size());
            } else {
                unknown(text);
            }
        }
    }

private:
    const Parts& parts_;
    BpeEncoder& encoder_;
    std::vector<int>& ids_;
    std::vector<size_t>* ends_;
    bool one_by_one_;
    size_t end_ = 0;  // in the text; kept only if one_by_one_
    bool after_unknown_ = false;
    std::vector<int> merged_;
};

void CharacterBpe::encode(std::string_view text, BpeEncoder& encoder, std::vector<int>& ids,
                          std::vector<size_t>* ends) const {
    Output output(*parts_, encoder, ids, ends);
    size_t start = 0;  // of the text that is not yet merged
    const auto merge_until = [&](size_t end) {
        if (end > start) output.merged(text.substr(start, end - start));
        start = end;
    };
    uint32_t before = 0;  // the character before text[i], if i > start
    for (size_t i = 0; i < text.size();) {
        const unsigned char lead = text[i];
        if (lead < 128 && letter_[lead]) {
            if (i > start && !may_join(before, lead)) merge_until(i);
            before = lead;
            ++i;
            continue;
        }
        if (begins_whole_[lead]) {
            size_t bytes = 0;
            int id = -1;
            whole_.for_each_prefix(text.substr(i), [&](int longer_id, size_t longer) {
                bytes = longer;
                id = longer_id;
            });
            if (id >= 0) {
                merge_until(i);
                output.token(id, bytes);
                start = i += bytes;
                continue;
            }
        }
        const auto [code_point, bytes] = first_character(text.substr(i));
        if (starts_merges(code_point)) {
            if (i > start && !may_join(before, code_point)) merge_until(i);
            before = code_point;
            i += bytes;
        } else {
            merge_until(i);
            output.unknown(text.substr(i, bytes));
            start = i += bytes;
        }
    }
    merge_until(text.size());
}

}  // namespace kiln
