#pragma once
// BPE that starts from characters, as in SentencePiece: normalized text -> ids.
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/bpe/encoder.h"
#include "tokenizer/bpe/token_trie.h"
#include "tokenizer/sentencepiece/model.h"

namespace kiln {

// Immutable, so threads can share it; each needs its own BpeEncoder.
class CharacterBpe {
public:
    struct Parts {
        // With of_characters. The ids from `first_extra` on are characters that are not tokens but occur in tokens, so
        // that merging can start with them. One that is not merged is an unknown character.
        BpeVocabulary vocabulary;
        std::vector<bool> is_text;  // by id
        int first_extra = 0;
        std::vector<std::pair<std::string, int>> whole;  // user-defined tokens, which are found before all others
        int unknown_id = -1;                             // for a run of unknown characters; -1: they are an error
        bool escaped_spaces = false;                     // a space stands for "▁", also when it becomes bytes
        std::vector<int> byte_ids;                       // if not empty, unknown characters become their bytes
    };
    // Throws Error with `name`.
    CharacterBpe(Parts parts, const std::string& name);
    // If the model escapes spaces, tokens and text have a space for each "▁".
    static CharacterBpe of_sentencepiece(const SentencePieceModel& model, const std::string& name);

    // Appends the ids of valid UTF-8 and, unless `ends` is null, the end of each token in `text`. `encoder` must use
    // this model().
    void encode(std::string_view text, BpeEncoder& encoder, std::vector<int>& ids,
                std::vector<size_t>* ends = nullptr) const;
    // Whether any text with these two characters side by side can be cut between them: its ids are those of the two
    // parts.
    bool may_cut(uint32_t left, uint32_t right) const;
    const BpeModel& model() const { return *model_; }
    const std::vector<std::string>& tokens() const { return parts_->vocabulary.tokens; }

private:
    bool starts_merges(uint32_t code_point) const { return known_[code_point >> 6] >> (code_point & 63) & 1; }
    bool may_join(uint32_t left, uint32_t right) const;
    void join_neighbours(std::string_view token);
    class Output;

    std::unique_ptr<const Parts> parts_;
    std::unique_ptr<const BpeModel> model_;
    TokenTrie whole_;
    std::array<bool, 256> begins_whole_ = {};
    std::vector<uint64_t> known_;        // one bit for each code point
    std::array<bool, 128> letter_ = {};  // an ASCII character that is known and starts no user-defined token
    // One bit for each pair of characters: whether they are neighbours in a token. If not, the text can be cut between
    // them, so that the encoder's cache of words works, for Chinese too. If pairs share a bit, there are fewer cuts.
    std::vector<uint64_t> joined_;
};

}  // namespace kiln
