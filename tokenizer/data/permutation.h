#pragma once
// A keyed permutation of 0 .. n - 1 in constant memory. It computes each element, so an epoch of any length is shuffled
// without a list, and a run can resume at any position.
// It is a balanced Feistel network on the smallest even number of bits that holds n, applied again until the value is
// below n (fewer than 4 times on average). J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA
// 2002. A resumed run needs the same order, so a change here changes a format.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace kiln {

// SplitMix64's finalizer: a bijection of 64-bit words. Each input bit changes about half of the output bits.
inline uint64_t mix64(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

class Permutation {
public:
    // n >= 1 elements. Every (seed, epoch) gives another permutation.
    Permutation(uint64_t n, uint64_t seed, uint64_t epoch)
        : n_(n), half_bits_(std::max(1, int(std::bit_width(n - 1) + 1) / 2)), mask_((uint64_t(1) << half_bits_) - 1) {
        uint64_t state = mix64(seed + kGolden) ^ mix64(~epoch);
        for (uint64_t& key : keys_) key = mix64(state += kGolden);
    }

    uint64_t operator()(uint64_t i) const {
        do i = encrypt(i);
        while (i >= n_);
        return i;
    }

private:
    static constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio

    uint64_t encrypt(uint64_t x) const {
        uint64_t left = x >> half_bits_, right = x & mask_;
        for (const uint64_t key : keys_) {
            const uint64_t next = left ^ (mix64(right ^ key) & mask_);
            left = right;
            right = next;
        }
        return left << half_bits_ | right;
    }

    uint64_t n_;
    int half_bits_;
    uint64_t mask_;
    std::array<uint64_t, 8> keys_;  // one for each round
};

}  // namespace kiln
