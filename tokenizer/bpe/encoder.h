#pragma once
// BPE: bytes (or characters) of one piece -> ids. The splitter has cut the text into pieces before.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/bpe/token_trie.h"

namespace kiln {

// What a vocabulary is made of, with tokens as plain bytes.
struct BpeVocabulary {
    std::vector<std::string> tokens;          // by id
    std::vector<std::pair<int, int>> merges;  // ids of left and right; earlier merges have precedence
    bool ignore_merges = false;               // a whole piece that is a token is that token, whatever the merges give
    bool of_characters = false;               // merging starts from characters of UTF-8 instead of bytes
    std::vector<uint32_t> ranks;              // the merges' precedence, ascending; empty: their positions
};

// A vocabulary arranged for encoding. Immutable, and so safe to share between threads.
class BpeModel {
public:
    // `vocabulary` must outlive the model. Ids with is_text false are special tokens, which no bytes of text become.
    // Throws Error if a merge has no result among the tokens, or occurs twice; `name` stands in the message.
    BpeModel(const BpeVocabulary& vocabulary, const std::vector<bool>& is_text, const std::string& name);
    BpeModel(const BpeModel&) = delete;

    struct Merge {
        uint32_t rank = kNone;  // its precedence, the lower the earlier
        int id = -1;            // of the result
    };
    static constexpr uint32_t kNone = ~0u;
    Merge find_merge(int left, int right) const;  // rank kNone: these two do not merge
    Merge find_byte_merge(unsigned char left, unsigned char right) const { return byte_merges_[left * 256 + right]; }
    // Whether two tokens side by side are the encoding of their bytes; nothing if only merging can tell.
    std::optional<bool> stay_apart(int left, int right) const;
    bool is_own_encoding(int id) const { return derivations_[id].born != kNone; }  // false: perhaps
    // The tokens that merging starts with: of the bytes, or the characters, whose ids replace those in `ids`. Throws
    // Error if the vocabulary lacks one.
    void start(std::string_view piece, std::vector<int>& ids) const;
    int byte_id(unsigned char byte) const;  // throws Error if the vocabulary lacks the byte
    const TokenTrie& trie() const { return trie_; }
    size_t longest_token() const { return longest_token_; }  // in bytes
    const BpeVocabulary& vocabulary() const { return vocabulary_; }

private:
    struct Slot {
        uint64_t key;
        Merge merge;
    };
    // How a token comes about when its bytes are encoded alone, if its parts come about before it in the order of
    // ranks.
    struct Derivation {
        int left = -1, right = -1;  // of the last merge
        uint32_t born = kNone;      // its rank + 1; 0: merging starts with it; kNone: not known
    };
    bool never_merge(int left, int right, uint32_t limit) const;

    const BpeVocabulary& vocabulary_;
    std::vector<Derivation> derivations_;  // by id
    std::vector<Slot> slots_;              // open addressing, at most half full; an empty slot has rank kNone
    std::array<int, 256> byte_ids_;
    std::vector<Merge> byte_merges_;  // of each two bytes: most look-ups, without a miss of the cache
    TokenTrie trie_;                  // of the tokens that are text
    size_t longest_token_ = 0;
};

// Encodes pieces. Keeps scratch space and bounded caches, so each thread needs one of its own.
//
// The ids are those of merging the leftmost pair of lowest rank until none merges, found without merging: a sequence of
// tokens is the encoding of its bytes if and only if each two neighbours are the encoding of theirs. (The merges within
// two neighbours are chosen in the same order whether they stand alone or not; so the first merge across their border
// would happen in both cases or in none.) So tokens are taken from left to right, the longest first that goes with the
// token before; if none does, the token before was wrong. A position that turned out wrong once is wrong for good,
// since what leads to it is the encoding of the bytes before it: the work is linear in the length of the piece.
class BpeEncoder {
public:
    explicit BpeEncoder(const BpeModel& model);
    void encode(std::string_view piece, std::vector<int>& ids);  // appends to `ids`

private:
    // What a short piece became: direct-mapped, so that a later piece replaces an earlier one. Half a cache line.
    struct CacheEntry {
        uint64_t first = 0, last = 0;  // the piece's first and last eight bytes, which may overlap
        int ids[3] = {};
        uint8_t bytes = 0, num_ids = 0;  // bytes 0: empty
    };
    struct Step {
        int id;
        uint32_t end;  // in bytes of the piece
    };
    void encode_uncached(std::string_view piece, std::vector<int>& ids);
    void walk(std::string_view piece, std::vector<int>& ids);
    bool is_encoding(int left, int right);  // the two are the encoding of their bytes; left -1: the one is
    void merge_short(std::string_view bytes, std::vector<int>& ids);
    void merge_long(std::string_view bytes, std::vector<int>& ids);

    const BpeModel& model_;
    std::vector<CacheEntry> cache_;
    std::vector<uint64_t> known_pairs_;    // direct-mapped: answers of is_encoding
    std::vector<BpeModel::Merge> merges_;  // scratch: of each neighbouring pair
    std::vector<int> symbols_, merged_;    // scratch
    std::vector<Step> steps_, choices_;    // scratch: the tokens so far; those to choose from
    std::vector<bool> wrong_;              // scratch: by position
    std::string bytes_;                    // scratch
};

}  // namespace kiln
