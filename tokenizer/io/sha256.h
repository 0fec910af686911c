#pragma once
// SHA-256 (FIPS 180-4): names a tokenizer for good, where XXH3 only guards against accidents.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace kiln {

std::array<unsigned char, 32> sha256(std::string_view data);

// Lower-case hexadecimal: of any bytes; of a number, its 16 digits.
std::string hex(std::string_view bytes);
std::string hex_u64(uint64_t value);

}  // namespace kiln
