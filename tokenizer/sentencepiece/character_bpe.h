#pragma once
// BPE whose merges start from characters, as SentencePiece has it: normalised text -> ids.
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

// Immutable, and so safe to share between threads; each needs a BpeEncoder of its own.
class CharacterBpe {
public:
    struct Parts {
        // of_characters. Its tokens from id `nameless` on are characters that only occur in other tokens: merging can
        // start with them, but a text in which one is left over has no token for it.
        BpeVocabulary vocabulary;
        std::vector<bool> is_text;  // by id
        int nameless = 0;
        std::vector<std::pair<std::string, int>> whole;  // found before anything else, the longest first
        int unknown_id = -1;          // what a run of characters without a token becomes; -1: they are an error
        bool escaped_spaces = false;  // a space stands for "▁": without a token, for the bytes of that
        std::vector<int> byte_ids;    // by byte; if not empty, such characters become their bytes instead
    };
    // Throws Error; `name` stands in the message.
    CharacterBpe(Parts parts, const std::string& name);
    // A space stands where the pieces have "▁", in the text too, if the model escapes spaces.
    static CharacterBpe of_sentencepiece(const SentencePieceModel& model, const std::string& name);

    // Appends the ids of valid UTF-8 and, unless `ends` is null, for each where what it stands for ends in `text`. The
    // encoder must be of this model().
    void encode(std::string_view text, BpeEncoder& encoder, std::vector<int>& ids,
                std::vector<size_t>* ends = nullptr) const;
    const BpeModel& model() const { return *model_; }
    const std::vector<std::string>& tokens() const { return parts_->vocabulary.tokens; }

private:
    bool starts_merges(uint32_t code_point) const { return known_[code_point >> 6] >> (code_point & 63) & 1; }
    bool may_join(uint32_t left, uint32_t right) const;
    class Output;

    std::unique_ptr<const Parts> parts_;
    std::unique_ptr<const BpeModel> model_;
    TokenTrie whole_;
    std::array<bool, 256> begins_whole_ = {};
    std::vector<uint64_t> known_;        // a bit for each code point
    std::array<bool, 128> letter_ = {};  // an ASCII character that needs no second look
    // A bit for each two characters. Where no token has them side by side, the text can be cut between them, and the
    // encoder's cache of words serves, for Chinese as well. Some bits are shared: then fewer places are cut.
    std::vector<uint64_t> joined_;
};

}  // namespace kiln
