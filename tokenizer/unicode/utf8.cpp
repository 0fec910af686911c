#include "tokenizer/unicode/utf8.h"

#include <algorithm>
#include <cstring>

#include "cpu_reference/interface/error.h"

namespace kiln {

std::optional<size_t> find_invalid_utf8(std::string_view text) {
    const char* p = text.data();
    const char* end = p + text.size();
    while (p < end) {
        uint64_t eight;
        if (end - p >= 8 && (std::memcpy(&eight, p, 8), (eight & 0x8080808080808080u) == 0)) {
            p += 8;  // all ASCII
            continue;
        }
        uint32_t code_point;
        const int length = decode_utf8(p, end, code_point);
        if (length == 0) return p - text.data();
        p += length;
    }
    return std::nullopt;
}

std::string encoding_hint(std::string_view text, size_t offset) {
    // Both encodings write a character as a lead byte and a trail byte. Nearly all characters in use have a lead byte
    // from first_common to last_common and a trail byte from lowest_trail on. A Latin-1 letter usually stands alone
    // among ASCII.
    struct Encoding {
        const char* name;
        unsigned char first_common, last_common, lowest_trail;
    };
    static constexpr Encoding kEncodings[] = {{"gb18030", 0xA1, 0xF7, 0xA1}, {"big5", 0xA1, 0xC6, 0x40}};
    constexpr size_t kLooked = 4096, kFewest = 4;
    const std::string_view bytes = text.substr(offset, kLooked);
    for (const Encoding& encoding : kEncodings) {
        size_t pairs = 0, common = 0, alone = 0;
        for (size_t i = 0; i + 1 < bytes.size(); i++) {
            const auto lead = static_cast<unsigned char>(bytes[i]), trail = static_cast<unsigned char>(bytes[i + 1]);
            if (lead < 0x80) continue;
            const bool pair = lead != 0x80 && lead != 0xFF && trail >= 0x40 && trail != 0x7F && trail != 0xFF;
            alone += !pair;
            pairs += pair;
            common += pair && lead >= encoding.first_common && lead <= encoding.last_common &&
                      trail >= encoding.lowest_trail && (trail < 0x7F || trail >= 0xA1);
            i += pair;
        }
        // Rare characters, and the four bytes of the rarest in GB18030, may be a twentieth.
        if (pairs >= kFewest && alone * 20 <= pairs && common * 20 >= pairs * 19) {
            return concat("its bytes look like ", encoding.name, ": read it with --encoding ", encoding.name);
        }
    }
    return "name its encoding with --encoding (latin-1, gb18030, ...), or convert the file";
}

void throw_not_utf8(const std::string& name, std::string_view text, size_t offset, uint64_t before) {
    throw Error(
        concat(name, ": text that is not UTF-8, first at byte ", before + offset, "; ", encoding_hint(text, offset)));
}

void check_utf8(std::string_view text, const std::string& name, uint64_t before) {
    if (const auto offset = find_invalid_utf8(text)) throw_not_utf8(name, text, *offset, before);
}

std::string replace_invalid_utf8(std::string_view text) {
    std::string valid;
    while (const auto at = find_invalid_utf8(text)) {
        valid.append(text.substr(0, *at)).append("\uFFFD");
        text.remove_prefix(*at);
        size_t bytes = std::min<size_t>(3, text.size());
        while (bytes > 1 && incomplete_utf8_tail(text.substr(0, bytes)) != bytes) --bytes;
        text.remove_prefix(bytes);
    }
    return valid.append(text);
}

size_t incomplete_utf8_tail(std::string_view text) {
    for (size_t tail = 1; tail <= std::min<size_t>(3, text.size()); ++tail) {
        const std::string_view last = text.substr(text.size() - tail);
        const unsigned char lead = last[0];
        if ((lead & 0xC0) == 0x80) continue;  // a continuation byte: the character starts before it
        const size_t needed = lead < 0xC2 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 1;
        if (tail >= needed) return 0;
        if (tail == 1) return 1;
        // The second byte may already make it invalid (overlong, surrogate, above U+10FFFF).
        const unsigned char second = last[1];
        if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F)) return 0;
        if ((lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) return 0;
        return tail;
    }
    return 0;
}

}  // namespace kiln
