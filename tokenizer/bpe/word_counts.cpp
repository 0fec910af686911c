#include "tokenizer/bpe/word_counts.h"

#include <atomic>
#include <cstring>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/bpe/hash.h"
#include "tokenizer/io/threads.h"

namespace kiln {
namespace {

// Uses only the 32 bits of the hash that an entry keeps: a growing table need not hash the words again.
size_t first_slot(uint32_t hash_high, size_t mask) {
    return (hash_high * uint64_t(0x9E3779B97F4A7C15u)) >> 20 & mask;
}

}  // namespace

void WordCounts::add(std::string_view word, int64_t count) {
    KILN_CHECK(word.size() < (size_t(1) << 31), "the training text holds ", word.size(), " bytes in one word");
    const uint32_t hash_high = static_cast<uint32_t>(hash_bytes(word) >> 32);
    parts_[hash_high >> (32 - kPartBits)].add(word, hash_high, count);
}

void WordCounts::Part::add(std::string_view word, uint32_t hash_high, int64_t count) {
    if (2 * (words + 1) > table.size()) grow();
    const size_t mask = table.size() - 1;
    size_t slot = first_slot(hash_high, mask);
    for (; table[slot].count != 0; slot = (slot + 1) & mask) {
        Entry& e = table[slot];
        if (e.hash_high == hash_high && e.size == word.size() &&
            std::memcmp(bytes.data() + e.at, word.data(), word.size()) == 0) {
            e.count += count;
            return;
        }
    }
    table[slot] = {bytes.size(), static_cast<uint32_t>(word.size()), hash_high, count};
    bytes.append(word);
    ++words;
}

void WordCounts::Part::grow() {
    std::vector<Entry> larger(table.empty() ? 1024 : table.size() * 2);
    const size_t mask = larger.size() - 1;
    for (const Entry& e : table) {
        if (e.count == 0) continue;
        size_t slot = first_slot(e.hash_high, mask);
        while (larger[slot].count != 0) slot = (slot + 1) & mask;
        larger[slot] = e;
    }
    table.swap(larger);
}

void WordCounts::take(std::vector<WordCounts>& others) {
    std::atomic<size_t> next = 0;
    on_threads(static_cast<int>(others.size()), [&](int) {
        for (size_t i; (i = next++) < parts_.size();) {
            for (WordCounts& other : others) {
                const Part part = std::exchange(other.parts_[i], {});
                for (const Entry& e : part.table) {
                    if (e.count != 0) parts_[i].add({part.bytes.data() + e.at, e.size}, e.hash_high, e.count);
                }
            }
        }
    });
}

size_t WordCounts::size() const {
    size_t words = 0;
    for (const Part& part : parts_) words += part.words;
    return words;
}

size_t WordCounts::total_bytes() const {
    size_t bytes = 0;
    for (const Part& part : parts_) bytes += part.bytes.size();
    return bytes;
}

}  // namespace kiln
