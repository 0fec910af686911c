#pragma once
// Strict UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kiln {

// Length of the character at `p` (p < end). Returns 0, and does not set `code_point`, if it is not valid.
inline int decode_utf8(const char* p, const char* end, uint32_t& code_point) {
    const auto byte = [p](int i) { return static_cast<unsigned char>(p[i]); };
    const auto continues = [&](int i) { return (byte(i) & 0xC0) == 0x80; };
    const unsigned char lead = byte(0);
    if (lead < 0x80) {
        code_point = lead;
        return 1;
    }
    if (lead < 0xC2) return 0;  // a continuation, or an overlong form of ASCII
    if (lead < 0xE0) {
        if (end - p < 2 || !continues(1)) return 0;
        code_point = (lead & 0x1Fu) << 6 | (byte(1) & 0x3Fu);
        return 2;
    }
    if (lead < 0xF0) {
        if (end - p < 3 || !continues(1) || !continues(2)) return 0;
        code_point = (lead & 0x0Fu) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu);
        return code_point >= 0x800 && (code_point < 0xD800 || code_point > 0xDFFF) ? 3 : 0;
    }
    if (lead < 0xF5) {
        if (end - p < 4 || !continues(1) || !continues(2) || !continues(3)) return 0;
        code_point = (lead & 0x07u) << 18 | (byte(1) & 0x3Fu) << 12 | (byte(2) & 0x3Fu) << 6 | (byte(3) & 0x3Fu);
        return code_point >= 0x10000 && code_point <= 0x10FFFF ? 4 : 0;
    }
    return 0;
}

inline void append_utf8(std::string& out, uint32_t code_point) {
    if (code_point < 0x80) {
        out += static_cast<char>(code_point);
    } else if (code_point < 0x800) {
        out += static_cast<char>(0xC0 | code_point >> 6);
        out += static_cast<char>(0x80 | (code_point & 0x3F));
    } else if (code_point < 0x10000) {
        out += static_cast<char>(0xE0 | code_point >> 12);
        out += static_cast<char>(0x80 | (code_point >> 6 & 0x3F));
        out += static_cast<char>(0x80 | (code_point & 0x3F));
    } else {
        out += static_cast<char>(0xF0 | code_point >> 18);
        out += static_cast<char>(0x80 | (code_point >> 12 & 0x3F));
        out += static_cast<char>(0x80 | (code_point >> 6 & 0x3F));
        out += static_cast<char>(0x80 | (code_point & 0x3F));
    }
}

// Start of the character that ends at `at` (at > 0).
inline size_t character_before(std::string_view text, size_t at) {
    size_t start = at - 1;
    while (start > 0 && at - start < 4 && (text[start] & 0xC0) == 0x80) --start;
    return start;
}

// Offset of the first byte that is not part of a valid character; nothing if all of `text` is valid.
std::optional<size_t> find_invalid_utf8(std::string_view text);
// Throw Error with the file's name and that offset in the file, which has `before` bytes before `text`.
void check_utf8(std::string_view text, const std::string& name, uint64_t before = 0);
[[noreturn]] void throw_not_utf8(const std::string& name, std::string_view text, size_t offset, uint64_t before = 0);
// What to do with text that is not UTF-8 from `offset` on. Names the encoding if the bytes look like GB18030 or Big5.
std::string encoding_hint(std::string_view text, size_t offset);

// The text with U+FFFD instead of each byte, or start of a character, that is not part of a valid character. The result
// is that of Python's bytes.decode(errors="replace").
std::string replace_invalid_utf8(std::string_view text);

// The number of bytes at the end of `text` (0 to 3) that are the start of an incomplete character.
size_t incomplete_utf8_tail(std::string_view text);

}  // namespace kiln
