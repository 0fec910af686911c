#pragma once
// Byte-level BPE: bytes of one piece -> ids. The splitter has cut the text into pieces before.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace kiln {

// What a vocabulary is made of, with tokens as plain bytes.
struct BpeVocabulary {
    std::vector<std::string> tokens;          // by id
    std::vector<std::pair<int, int>> merges;  // ids of left and right; earlier merges have precedence
    bool ignore_merges = false;               // a whole piece that is a token is that token, whatever the merges give
};

// A vocabulary arranged for encoding. Immutable, and so safe to share between threads.
class BpeModel {
public:
    // `vocabulary` must outlive the model. Ids with is_text false are special tokens, which no bytes of text become.
    // Throws Error if a merge has no result among the tokens, or occurs twice; `name` stands in the message.
    BpeModel(const BpeVocabulary& vocabulary, const std::vector<bool>& is_text, const std::string& name);
    BpeModel(const BpeModel&) = delete;

    struct Merge {
        uint32_t rank = kNone;  // position among the merges
        int id = -1;            // of the result
    };
    static constexpr uint32_t kNone = ~0u;
    Merge find_merge(int left, int right) const;             // rank kNone: these two do not merge
    int byte_id(unsigned char byte) const;                   // throws Error if the vocabulary lacks the byte
    std::optional<int> whole_piece(std::string_view) const;  // set only under ignore_merges

private:
    struct Slot {
        uint64_t key;
        Merge merge;
    };
    std::vector<Slot> slots_;  // open addressing, at most half full; an empty slot has rank kNone
    std::array<int, 256> byte_ids_;
    std::unordered_map<std::string_view, int> whole_;  // views of the vocabulary's tokens; empty without ignore_merges
};

// Encodes pieces. Keeps scratch space and a bounded cache of pieces, so each thread needs one of its own.
class BpeEncoder {
public:
    explicit BpeEncoder(const BpeModel& model);
    void encode(std::string_view piece, std::vector<int>& ids);  // appends to `ids`

private:
    struct CacheEntry {
        uint64_t hash = 0;  // 0: empty
        uint32_t bytes_at = 0, bytes = 0;
        uint32_t ids_at = 0, ids = 0;
    };
    void merge_short(std::string_view piece, std::vector<int>& ids);
    void merge_long(std::string_view piece, std::vector<int>& ids);
    void encode_uncached(std::string_view piece, std::vector<int>& ids);
    void remember(size_t slot, uint64_t hash, std::string_view piece, const int* ids, size_t n);

    const BpeModel& model_;
    std::vector<CacheEntry> cache_;  // open addressing, at most half full, emptied when it has grown to its limit
    size_t cached_ = 0;
    std::string cache_bytes_;
    std::vector<int> cache_ids_;
    std::vector<BpeModel::Merge> merges_;  // scratch: of each neighbouring pair
    std::vector<int> symbols_;             // scratch
};

}  // namespace kiln
