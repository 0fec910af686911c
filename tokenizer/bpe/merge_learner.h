#pragma once
// Finds the merges of byte-pair encoding, the most frequent pair first. (R. Sennrich, B. Haddow, A. Birch, "Neural
// Machine Translation of Rare Words with Subword Units", 2016. Counts are updated after each merge, not recounted.)
#include <array>
#include <cstdint>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

#include "tokenizer/bpe/word_counts.h"

namespace kiln {

// The different words of the text as symbols, which merge in place.
//
// All words lie in one array: a cell for each byte, and kSeparator between words. A token of n cells has its id in its
// first cell. Its other cells are dead; the second and the last cell hold n. So both neighbours of a token are found in
// O(1) without a linked list.
class SymbolArray {
public:
    static constexpr uint32_t kDead = 1u << 31;
    static constexpr uint32_t kSeparator = kDead - 1;  // larger than any id

    // Throws Error if the words take more than 2^31 cells.
    SymbolArray(const WordCounts& words, const std::array<int, 256>& byte_ids);

    uint32_t id(uint32_t position) const { return cells_[position]; }  // or kSeparator, or kDead | ...
    bool is_token(uint32_t position) const { return cells_[position] < kSeparator; }
    uint32_t next(uint32_t position) const {
        const uint32_t after = cells_[position + 1];
        return position + (after & kDead ? after & ~kDead : 1);
    }
    uint32_t previous(uint32_t position) const {
        const uint32_t before = cells_[position - 1];
        return position - (before & kDead ? before & ~kDead : 1);
    }
    void prefetch(uint32_t position) const { __builtin_prefetch(&cells_[position]); }
    // How often the word of this cell occurs in the text. `run` starts at 0; ascending positions are faster.
    int64_t count(uint32_t position, size_t& run) const {
        if (runs_[run].start > position || runs_[run + 1].start <= position) run = find_run(position);
        return runs_[run].count;
    }
    // The token at `position` and the one at `right`, which ends before `end`, become one.
    void merge(uint32_t position, uint32_t right, uint32_t end, uint32_t id) {
        cells_[right] = kDead;
        cells_[position] = id;
        cells_[position + 1] = kDead | (end - position);
        cells_[end - 1] = kDead | (end - position);
    }
    // Calls visit(position, left id, right id) for every pair of neighbours.
    template <class Visit>
    void for_each_pair(Visit&& visit) const {
        for (uint32_t at = 0; at + 1 < cells_.size();) {
            if (!is_token(at)) {
                ++at;
                continue;
            }
            const uint32_t after = next(at);
            if (is_token(after)) visit(at, cells_[at], cells_[after]);
            at = after;
        }
    }

private:
    struct Run {  // the words from cell `start` on occur `count` times each
        uint32_t start;
        int64_t count;
    };
    size_t find_run(uint32_t position) const;

    std::vector<uint32_t> cells_;
    std::vector<Run> runs_;  // the last is a sentinel
};

class MergeLearner {
public:
    struct Pair {
        uint32_t left, right;
        int64_t count;
    };
    // Pairs that occur less often than `min_count` are never merged. `merges`: about how many will be asked for.
    MergeLearner(const WordCounts& words, const std::array<int, 256>& byte_ids, int64_t min_count, size_t merges);

    // The most frequent pair; among equally frequent pairs, the one with the smallest ids. Nothing if none is left.
    std::optional<Pair> next();
    // Replaces the pair that next() returned by the token `id` everywhere, from left to right in each word.
    void merge(uint32_t id);

private:
    struct Counted {
        uint32_t left, right;
        int64_t count = 0;
        std::vector<uint32_t> positions;  // ascending; the pair may be gone from some of them
    };
    // Pairs by their ids, if they occur at least threshold_ times when they first appear. Counts only fall after that.
    // Once all are below the threshold, all pairs are counted again with a lower one. Most pairs of a large text occur
    // once or twice; leaving them out saves two thirds of the memory.
    class Table {
    public:
        Counted* find(uint32_t left, uint32_t right);
        Counted& add(uint32_t left, uint32_t right);  // the pair must be new
        std::vector<Counted>& pairs() { return pairs_; }
        uint32_t index(const Counted& pair) const { return static_cast<uint32_t>(&pair - pairs_.data()); }

    private:
        void grow();
        static constexpr uint64_t kEmpty = ~uint64_t(0);  // not a pair, since ids are below 2^31
        std::vector<uint64_t> keys_ = std::vector<uint64_t>(size_t(1) << 16, kEmpty);
        std::vector<uint32_t> indices_ = std::vector<uint32_t>(size_t(1) << 16);
        std::vector<Counted> pairs_;
    };
    // The tokens on one side of a merge's occurrences.
    class Neighbours {
    public:
        struct Entry {
            uint32_t id;
            uint32_t occurrences = 0;
            int64_t count = 0;
        };
        void add(uint32_t id, int64_t count, uint32_t position) {
            if (id >= slots_.size()) slots_.resize(id + id / 2 + 1);
            uint32_t& slot = slots_[id];
            if (slot == 0) {
                entries_.push_back({id});
                slot = static_cast<uint32_t>(entries_.size());
            }
            Entry& entry = entries_[slot - 1];
            entry.count += count;
            ++entry.occurrences;
            events_.emplace_back(slot - 1, position);
        }
        const std::vector<Entry>& entries() const { return entries_; }
        // Gives the positions of each entry to the pair with this index in `table`; kDropped: to none.
        void distribute(const std::vector<uint32_t>& pairs, std::vector<Counted>& table);
        void clear();

    private:
        std::vector<uint32_t> slots_;  // by id: index in entries_ + 1, or 0
        std::vector<Entry> entries_;
        std::vector<std::pair<uint32_t, uint32_t>> events_;  // for each occurrence: entry, position
    };
    static constexpr uint32_t kDropped = ~0u;
    // An outdated count in the queue is too large.
    struct QueueEntry {
        int64_t count;
        uint32_t left, right, pair;
        bool operator<(const QueueEntry& other) const {
            if (count != other.count) return count < other.count;
            if (left != other.left) return left > other.left;
            return right > other.right;
        }
    };
    void count_pairs();
    template <class Key>
    void settle(Neighbours& neighbours, Key&& key, uint32_t id);

    SymbolArray symbols_;
    const int64_t min_count_;
    int64_t threshold_;
    Table table_;
    std::priority_queue<QueueEntry> queue_;
    uint32_t best_ = 0;  // what next() returned
    Neighbours left_, right_;
    std::vector<uint32_t> kept_;  // scratch
};

}  // namespace kiln
