#include "tokenizer/word_counts.h"

#include <cstring>

#include "cpu_reference/error.h"
#include "tokenizer/hash.h"

namespace kiln {
namespace {

// The slot comes from 32 bits of the hash: the table then finds its entries' new slots without their bytes.
size_t first_slot(uint32_t hash_high, size_t mask) {
    return (hash_high * uint64_t(0x9E3779B97F4A7C15u)) >> 20 & mask;
}

}  // namespace

WordCounts::WordCounts() : table_(size_t(1) << 16) {}

void WordCounts::add(std::string_view word, int64_t count) {
    KILN_CHECK(word.size() < (size_t(1) << 31), "the training text holds ", word.size(), " bytes without a break");
    const uint32_t hash_high = static_cast<uint32_t>(hash_bytes(word) >> 32);
    const size_t mask = table_.size() - 1;
    size_t slot = first_slot(hash_high, mask);
    for (; table_[slot].count != 0; slot = (slot + 1) & mask) {
        Entry& e = table_[slot];
        if (e.hash_high == hash_high && e.bytes == word.size() &&
            std::memcmp(bytes_.data() + e.at, word.data(), word.size()) == 0) {
            e.count += count;
            return;
        }
    }
    table_[slot] = {bytes_.size(), static_cast<uint32_t>(word.size()), hash_high, count};
    bytes_.append(word);
    if (2 * ++words_ > table_.size()) grow();
}

void WordCounts::grow() {
    std::vector<Entry> larger(table_.size() * 2);
    const size_t mask = larger.size() - 1;
    for (const Entry& e : table_) {
        if (e.count == 0) continue;
        size_t slot = first_slot(e.hash_high, mask);
        while (larger[slot].count != 0) slot = (slot + 1) & mask;
        larger[slot] = e;
    }
    table_.swap(larger);
}

}  // namespace kiln
