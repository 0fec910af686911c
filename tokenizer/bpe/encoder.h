#pragma once
// BPE: bytes (or characters) of one word -> ids. The pre-tokenizer has cut the text into words before.
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/bpe/token_trie.h"

namespace kiln {

// A vocabulary as it is read, with tokens as plain bytes.
struct BpeVocabulary {
    std::vector<std::string> tokens;          // by id
    std::vector<std::pair<int, int>> merges;  // ids of left and right, in the order of precedence
    bool ignore_merges = false;               // a word that is a token is not cut further
    bool of_characters = false;               // merging starts from UTF-8 characters, not from bytes
    std::vector<uint32_t> ranks;              // precedence of the merges, ascending; empty: their indices
};

// A vocabulary prepared for encoding. Immutable, so threads can share it.
class BpeModel {
public:
    // `vocabulary` must outlive the model. Text never becomes a special token (is_text is false). Throws
    // Error with `name` if the result of a merge is not a token, or if a merge occurs twice.
    BpeModel(const BpeVocabulary& vocabulary, const std::vector<bool>& is_text, const std::string& name);
    BpeModel(const BpeModel&) = delete;

    struct Merge {
        uint32_t rank = kNone;  // the lowest is merged first
        int id = -1;            // of the result
    };
    static constexpr uint32_t kNone = ~0u;
    Merge find_merge(int left, int right) const;  // rank kNone: these two do not merge
    Merge find_byte_merge(unsigned char left, unsigned char right) const { return byte_merges_[left * 256 + right]; }
    // Whether two tokens together are the encoding of their bytes; nothing if only merging can tell.
    std::optional<bool> stay_apart(int left, int right) const;
    bool is_own_encoding(int id) const { return derivations_[id].born != kNone; }  // false: not known
    // Replaces `ids` by the tokens that merging starts with: one for each byte or character. Throws Error if the
    // vocabulary lacks one.
    void start(std::string_view word, std::vector<int>& ids) const;
    bool has_byte(unsigned char byte) const { return byte_ids_[byte] >= 0; }
    int byte_id(unsigned char byte) const;  // throws Error if the vocabulary lacks the byte
    const TokenTrie& trie() const { return trie_; }
    size_t longest_token() const { return longest_token_; }  // in bytes
    const BpeVocabulary& vocabulary() const { return vocabulary_; }

private:
    struct Slot {
        uint64_t key;
        Merge merge;
    };
    // The last merge that makes a token when its bytes are encoded alone, if merges of lower rank make its parts.
    struct Derivation {
        int left = -1, right = -1;  // of that merge
        uint32_t born = kNone;      // rank of that merge + 1; 0: merging starts with the token; kNone: not known
    };
    bool never_merge(int left, int right, uint32_t limit) const;

    const BpeVocabulary& vocabulary_;
    std::vector<Derivation> derivations_;  // by id
    std::vector<Slot> slots_;              // open addressing, at most half full; an empty slot has rank kNone
    std::array<int, 256> byte_ids_;
    std::vector<Merge> byte_merges_;  // of each pair of bytes: most look-ups, and it stays in the cache
    TokenTrie trie_;                  // of the tokens with is_text
    size_t longest_token_ = 0;
};

// Encodes words. It has buffers and bounded caches, so each thread needs its own.
//
// BPE merges the leftmost pair of the lowest rank until no pair merges. This class finds the same ids without merging:
// a sequence of tokens is the encoding of its bytes if and only if every two neighbours are the encoding of their
// bytes. (The merges within two neighbours happen in the same order, alone or in the sequence. So the first merge
// across their border would happen in both cases or in neither.) Tokens are chosen from left to right: the longest one
// that fits the token before it. If none fits, the token before was wrong. A position that was wrong once is always
// wrong, because the tokens before it are the encoding of the bytes before it. So the work is linear in the length of
// the word.
class BpeEncoder {
public:
    explicit BpeEncoder(const BpeModel& model);
    void encode(std::string_view word, std::vector<int>& ids);  // appends to `ids`
    // Merges the leftmost pair of the lowest rank until no pair merges or only `at_least` tokens are left. Appends them
    // to `ids` and, unless `ends` is null, the end of each in `symbols`.
    void merge(std::span<const int> symbols, size_t at_least, std::vector<int>& ids, std::vector<size_t>* ends) const;

private:
    // The ids of a short word. The cache is direct-mapped: a later word replaces an earlier one. Half a cache line.
    struct CacheEntry {
        uint64_t first = 0, last = 0;  // first and last eight bytes of the word, which may overlap
        int ids[3] = {};
        uint8_t bytes = 0, num_ids = 0;  // bytes 0: empty
    };
    struct Step {
        int id;
        uint32_t end;  // offset in the word
    };
    void encode_uncached(std::string_view word, std::vector<int>& ids);
    void walk(std::string_view word, std::vector<int>& ids);
    bool is_encoding(int left,
                     int right);  // whether the two tokens (left -1: the right one) are the encoding of their bytes
    void merge_short(std::string_view bytes, std::vector<int>& ids);
    void merge_long(std::string_view bytes, std::vector<int>& ids);

    const BpeModel& model_;
    std::vector<CacheEntry> cache_;
    std::vector<uint64_t> known_pairs_;    // direct-mapped cache of is_encoding
    std::vector<BpeModel::Merge> merges_;  // scratch: of each neighbouring pair
    std::vector<int> symbols_, merged_;    // scratch
    std::vector<Step> steps_, choices_;    // scratch: tokens so far; candidates for the next one
    std::vector<bool> wrong_;              // scratch: whether a position was wrong
    std::string bytes_;                    // scratch
};

}  // namespace kiln
