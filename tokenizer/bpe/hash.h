#pragma once
// Hashes for the tokenizer's tables, of short byte strings and of pairs of ids.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace kiln {

inline uint64_t hash_words(uint64_t a, uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a ^ 0x9E3779B97F4A7C15u) * (b ^ 0xD6E8FEB86659FD93u);
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Multiplies eight bytes at a time (64 x 64 -> 128 bits, folded to 64). xxHash as an inline header fails to compile
// with -Werror, GCC 12 and AVX-512; as a function call it takes longer than hashing most words.
inline uint64_t hash_bytes(std::string_view bytes) {
    uint64_t hash = bytes.size();
    const char* p = bytes.data();
    size_t left = bytes.size();
    uint64_t word;
    for (; left >= 8; p += 8, left -= 8) {
        std::memcpy(&word, p, 8);
        hash = hash_words(hash, word) + 1;
    }
    word = 0;
    if (left > 0) std::memcpy(&word, p, left);
    return hash_words(hash, word);
}

// The key of a pair of ids, and the first slot of a table (of mask + 1 slots, a power of two) to look for it.
inline uint64_t pair_key(uint32_t a, uint32_t b) {
    return uint64_t(a) << 32 | b;
}
inline size_t pair_slot(uint64_t key, size_t mask) {
    return (key * 0x9E3779B97F4A7C15u) >> 24 & mask;
}

}  // namespace kiln
