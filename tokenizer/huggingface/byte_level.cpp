#include "tokenizer/huggingface/byte_level.h"

#include "tokenizer/unicode/utf8.h"

namespace kiln {

ByteLevel::ByteLevel() {
    bytes_.fill(-1);
    uint32_t replacement = 256;
    for (int byte = 0; byte < 256; ++byte) {
        const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        const uint32_t code_point = printable ? byte : replacement++;
        append_utf8(characters_[byte], code_point);
        bytes_[code_point] = byte;
    }
    size_t n = 0;
    for (const int byte : bytes_) {
        if (byte >= 0) alphabet_[n++] = static_cast<unsigned char>(byte);
    }
}

std::string ByteLevel::spell(std::string_view bytes) const {
    std::string spelling;
    spelling.reserve(bytes.size() + bytes.size() / 2);
    for (const char c : bytes) spelling += characters_[static_cast<unsigned char>(c)];
    return spelling;
}

std::optional<std::string> ByteLevel::unspell(std::string_view spelling) const {
    std::string bytes;
    const char* p = spelling.data();
    const char* const end = p + spelling.size();
    while (p < end) {
        uint32_t code_point;
        const int length = decode_utf8(p, end, code_point);
        if (length == 0 || code_point >= bytes_.size() || bytes_[code_point] < 0) return std::nullopt;
        bytes += static_cast<char>(bytes_[code_point]);
        p += length;
    }
    return bytes;
}

}  // namespace kiln
