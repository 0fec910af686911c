#pragma once
// GPT-2's spelling of bytes: each byte is one printable character, so that tokens can stand in JSON and text files.
// Printable Latin-1 bytes spell themselves; the other 68 take U+0100 onwards in order (a space is U+0120).
#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace kiln {

class ByteLevel {
public:
    ByteLevel();
    std::string spell(std::string_view bytes) const;
    // The bytes that `spelling` stands for; nothing if a character of it spells no byte.
    std::optional<std::string> unspell(std::string_view spelling) const;
    // All 256 bytes in the order of their characters: the order in which Hugging Face's trainer numbers them.
    const std::array<unsigned char, 256>& alphabet() const { return alphabet_; }

private:
    std::array<std::string, 256> characters_;
    std::array<int, 324> bytes_;  // by code point; -1: spells none
    std::array<unsigned char, 256> alphabet_;
};

}  // namespace kiln
