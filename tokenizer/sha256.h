#pragma once
// SHA-256 (FIPS 180-4): names a tokenizer for good, where XXH3 only guards against accidents.
#include <array>
#include <string>
#include <string_view>

namespace kiln {

std::array<unsigned char, 32> sha256(std::string_view data);

// Lower-case hexadecimal of any bytes.
std::string hex(std::string_view bytes);

}  // namespace kiln
