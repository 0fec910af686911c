#include "tokenizer/bpe/merge_learner.h"

#include <algorithm>
#include <string_view>

#include "cpu_reference/interface/error.h"
#include "tokenizer/bpe/hash.h"

namespace kiln {
namespace {

constexpr size_t kPrefetchAhead = 12;
constexpr size_t kMaxIdleEvents = size_t(1) << 20;

}  // namespace

SymbolArray::SymbolArray(const WordCounts& words, const std::array<int, 256>& byte_ids) {
    const size_t cells = words.total_bytes() + words.size() + 1;
    KILN_CHECK(cells < kDead, "the different words of the training text take ", cells,
               " bytes, the limit is 2147483647; train on less text");
    cells_.reserve(cells);
    cells_.push_back(kSeparator);
    const auto append = [&](std::string_view word, int64_t count) {
        if (runs_.empty() || runs_.back().count != count)
            runs_.push_back({static_cast<uint32_t>(cells_.size()), count});
        for (const char c : word) cells_.push_back(static_cast<uint32_t>(byte_ids[static_cast<unsigned char>(c)]));
        cells_.push_back(kSeparator);
    };
    // The most frequent words come first: a small table that stays in the cache then gives the count of a word from its
    // place. Words of one byte have nothing to merge.
    std::vector<std::pair<int64_t, std::string_view>> frequent;
    words.for_each([&](std::string_view word, int64_t count) {
        if (word.size() >= 2 && count >= 2) frequent.emplace_back(count, word);
    });
    std::sort(frequent.begin(), frequent.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    for (const auto& [count, word] : frequent) append(word, count);
    words.for_each([&](std::string_view word, int64_t count) {
        if (word.size() >= 2 && count == 1) append(word, count);
    });
    if (runs_.empty()) runs_.push_back({0, 0});
    runs_.push_back({~0u, 0});
}

size_t SymbolArray::find_run(uint32_t position) const {
    const auto after = std::upper_bound(runs_.begin(), runs_.end(), position,
                                        [](uint32_t at, const Run& run) { return at < run.start; });
    return static_cast<size_t>(after - runs_.begin()) - 1;
}

MergeLearner::Counted* MergeLearner::Table::find(uint32_t left, uint32_t right) {
    const uint64_t key = pair_key(left, right);
    const size_t mask = keys_.size() - 1;
    for (size_t slot = pair_slot(key, mask); keys_[slot] != kEmpty; slot = (slot + 1) & mask) {
        if (keys_[slot] == key) return &pairs_[indices_[slot]];
    }
    return nullptr;
}

MergeLearner::Counted& MergeLearner::Table::add(uint32_t left, uint32_t right) {
    if (2 * (pairs_.size() + 1) > keys_.size()) grow();
    const uint64_t key = pair_key(left, right);
    const size_t mask = keys_.size() - 1;
    size_t slot = pair_slot(key, mask);
    while (keys_[slot] != kEmpty) slot = (slot + 1) & mask;
    keys_[slot] = key;
    indices_[slot] = static_cast<uint32_t>(pairs_.size());
    return pairs_.emplace_back(Counted{left, right, 0, {}});
}

void MergeLearner::Table::grow() {
    keys_.assign(keys_.size() * 2, kEmpty);
    indices_.assign(keys_.size(), 0);
    const size_t mask = keys_.size() - 1;
    for (size_t i = 0; i < pairs_.size(); ++i) {
        const uint64_t key = pair_key(pairs_[i].left, pairs_[i].right);
        size_t slot = pair_slot(key, mask);
        while (keys_[slot] != kEmpty) slot = (slot + 1) & mask;
        keys_[slot] = key;
        indices_[slot] = static_cast<uint32_t>(i);
    }
}

void MergeLearner::Neighbours::distribute(const std::vector<uint32_t>& pairs, std::vector<Counted>& table) {
    for (const auto& [entry, position] : events_) {
        if (pairs[entry] != kDropped) table[pairs[entry]].positions.push_back(position);
    }
}

void MergeLearner::Neighbours::clear() {
    for (const Entry& entry : entries_) slots_[entry.id] = 0;
    entries_.clear();
    events_.clear();
    if (events_.capacity() > kMaxIdleEvents) events_ = {};  // only the first merges have many
}

MergeLearner::MergeLearner(const WordCounts& words, const std::array<int, 256>& byte_ids, int64_t min_count,
                           size_t merges)
    : symbols_(words, byte_ids), min_count_(std::max<int64_t>(1, min_count)) {
    int64_t occurrences = 0;
    words.for_each([&](std::string_view word, int64_t count) { occurrences += count * int64_t(word.size()); });
    // Frequencies fall about as 1 / rank, so the last merge occurs roughly this often.
    threshold_ = std::max(min_count_, occurrences / (64 * static_cast<int64_t>(merges + 1)));
    count_pairs();
}

void MergeLearner::count_pairs() {
    table_ = {};
    queue_ = {};
    // First count by hash: if the count of a hash is too small, so is that of every pair with this hash.
    std::vector<int64_t> bound(size_t(1) << 22);
    const auto bound_of = [&](uint32_t left, uint32_t right) -> int64_t& {
        return bound[pair_slot(pair_key(left, right), bound.size() - 1)];
    };
    size_t run = 0;
    symbols_.for_each_pair([&](uint32_t position, uint32_t left, uint32_t right) {
        bound_of(left, right) += symbols_.count(position, run);
    });
    std::vector<uint32_t> occurrences;
    symbols_.for_each_pair([&](uint32_t position, uint32_t left, uint32_t right) {
        if (bound_of(left, right) < threshold_) return;
        Counted* pair = table_.find(left, right);
        if (!pair) {
            pair = &table_.add(left, right);
            occurrences.push_back(0);
        }
        pair->count += symbols_.count(position, run);
        ++occurrences[table_.index(*pair)];
    });
    // Exact sizes from the start: lists that grow by doubling take half as much memory again.
    for (size_t i = 0; i < occurrences.size(); ++i) {
        Counted& pair = table_.pairs()[i];
        if (pair.count >= threshold_) pair.positions.reserve(occurrences[i]);
    }
    symbols_.for_each_pair([&](uint32_t position, uint32_t left, uint32_t right) {
        if (bound_of(left, right) < threshold_) return;
        Counted* pair = table_.find(left, right);
        if (pair->count >= threshold_) pair->positions.push_back(position);
    });
    for (const Counted& pair : table_.pairs()) {
        if (pair.count >= threshold_) queue_.push({pair.count, pair.left, pair.right, table_.index(pair)});
    }
}

std::optional<MergeLearner::Pair> MergeLearner::next() {
    for (;;) {
        while (!queue_.empty()) {
            QueueEntry best = queue_.top();
            queue_.pop();
            const int64_t count = table_.pairs()[best.pair].count;
            if (count < threshold_) continue;
            if (count == best.count) {
                best_ = best.pair;
                return Pair{best.left, best.right, count};
            }
            best.count = count;
            queue_.push(best);
        }
        if (threshold_ == min_count_) return std::nullopt;
        threshold_ = std::max(min_count_, threshold_ / 8);
        count_pairs();
    }
}

// Updates the pairs of the merged tokens with their neighbours: the old pair loses the count that the new one gains.
// `key` gives both pairs.
template <class Key>
void MergeLearner::settle(Neighbours& neighbours, Key&& key, uint32_t id) {
    kept_.clear();
    bool any = false;
    for (const Neighbours::Entry& entry : neighbours.entries()) {
        const auto [old_left, old_right, new_left, new_right] = key(entry.id, id);
        if (Counted* old = table_.find(old_left, old_right)) old->count -= entry.count;
        kept_.push_back(kDropped);
        if (entry.count < threshold_) continue;
        Counted& made = table_.add(new_left, new_right);
        made.count = entry.count;
        made.positions.reserve(entry.occurrences);
        kept_.back() = table_.index(made);
        any = true;
    }
    if (any) neighbours.distribute(kept_, table_.pairs());
}

void MergeLearner::merge(uint32_t id) {
    const uint32_t a = table_.pairs()[best_].left, b = table_.pairs()[best_].right;
    const std::vector<uint32_t> positions = std::exchange(table_.pairs()[best_].positions, {});
    size_t run = 0;
    for (size_t i = 0; i < positions.size(); ++i) {
        if (i + kPrefetchAhead < positions.size()) symbols_.prefetch(positions[i + kPrefetchAhead]);
        const uint32_t position = positions[i];
        if (symbols_.id(position) != a) continue;  // it was merged with another token in the meantime
        const uint32_t right = symbols_.next(position);
        if (symbols_.id(right) != b) continue;
        const uint32_t end = symbols_.next(right);
        const int64_t count = symbols_.count(position, run);
        if (symbols_.id(position - 1) != SymbolArray::kSeparator) {
            const uint32_t before = symbols_.previous(position);
            left_.add(symbols_.id(before), count, before);
        }
        if (symbols_.id(end) != SymbolArray::kSeparator) right_.add(symbols_.id(end), count, position);
        symbols_.merge(position, right, end, id);
    }
    const size_t first_made = table_.pairs().size();
    // In a run (a, a, a, a), the left neighbour of the second occurrence is the result of the first one, so the second
    // reduces the count of the pair (id, a) that the first one added. So the right side comes first.
    struct Keys {
        uint32_t old_left, old_right, new_left, new_right;
    };
    settle(
        right_,
        [b](uint32_t after, uint32_t merged) {
            return Keys{b, after, merged, after};
        },
        id);
    settle(
        left_,
        [a](uint32_t before, uint32_t merged) {
            return Keys{before, a, before, merged};
        },
        id);
    right_.clear();
    left_.clear();
    for (size_t i = first_made; i < table_.pairs().size(); ++i) {
        const Counted& pair = table_.pairs()[i];
        if (pair.count > 0) queue_.push({pair.count, pair.left, pair.right, static_cast<uint32_t>(i)});
    }
}

}  // namespace kiln
