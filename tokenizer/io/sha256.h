#pragma once
// SHA-256 (FIPS 180-4). It identifies a tokenizer, because nobody can construct two files with the same hash. XXH3
// detects accidental damage only.
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kiln {

std::array<unsigned char, 32> sha256(std::string_view data);

// Lower-case hexadecimal digits: two for each byte, so 16 for a number.
std::string hex(std::span<const unsigned char> bytes);
std::string hex(uint64_t value);

}  // namespace kiln
