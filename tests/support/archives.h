#pragma once
// Compresses, and writes tar archives.
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>

namespace kiln {

// A header and its content, padded to a multiple of 512 bytes. `type`: '0' is a file.
inline std::string tar_member(const std::string& name, const std::string& content, char type = '0') {
    std::string header(512, '\0');
    header.replace(0, std::min<size_t>(name.size(), 100), name, 0, 100);
    char size[12];
    std::snprintf(size, sizeof size, "%011zo", content.size());
    header.replace(124, 11, size, 11);
    header[156] = type;
    header.replace(257, 5, "ustar");
    header.replace(148, 8, 8, ' ');
    unsigned sum = 0;
    for (const char c : header) sum += static_cast<unsigned char>(c);
    char digits[8];
    std::snprintf(digits, sizeof digits, "%06o", sum);
    header.replace(148, 7, digits, 7);  // with its NUL
    return header + content + std::string((512 - content.size() % 512) % 512, '\0');
}

inline std::string gzip(std::string_view text) {
    std::string compressed(compressBound(text.size()) + 64, '\0');
    z_stream z{};
    EXPECT_EQ(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    z.avail_in = uInt(text.size());
    z.next_out = reinterpret_cast<Bytef*>(compressed.data());
    z.avail_out = uInt(compressed.size());
    EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
    compressed.resize(z.total_out);
    deflateEnd(&z);
    return compressed;
}

inline const std::string kTarEnd(1024, '\0');

}  // namespace kiln
