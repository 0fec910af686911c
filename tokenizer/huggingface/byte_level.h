#pragma once
// GPT-2's spelling of bytes: each byte becomes one printable character, so that JSON and text files can hold tokens.
// Printable Latin-1 bytes stay the same; the other 68 become U+0100 and the following, in order (a space is U+0120).
#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace kiln {

class ByteLevel {
public:
    ByteLevel();
    std::string spell(std::string_view bytes) const;
    // The bytes of a spelling; nothing if one of its characters stands for no byte.
    std::optional<std::string> unspell(std::string_view spelling) const;
    // All 256 bytes in the order of their characters. Hugging Face's trainer numbers them in this order.
    const std::array<unsigned char, 256>& alphabet() const { return alphabet_; }

private:
    std::array<std::string, 256> characters_;
    std::array<int, 324> bytes_;  // by code point; -1: stands for no byte
    std::array<unsigned char, 256> alphabet_;
};

}  // namespace kiln
