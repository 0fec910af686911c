#include "tokenizer/io/tar_reader.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

struct Field {
    size_t at, size;
};
constexpr Field kName{0, 100}, kSize{124, 12}, kChecksum{148, 8}, kType{156, 1}, kMagic{257, 5}, kPrefix{345, 155};

std::string_view bytes_of(std::string_view header, Field field) {
    return header.substr(field.at, field.size);
}

std::string text_of(std::string_view header, Field field) {
    const std::string_view bytes = bytes_of(header, field);
    return std::string(bytes.substr(0, bytes.find('\0')));
}

// Octal digits; or, as GNU tar writes large numbers, a first byte of 0x80 and a number of big-endian bytes.
uint64_t number_of(std::string_view header, Field field) {
    const std::string_view bytes = bytes_of(header, field);
    if (static_cast<unsigned char>(bytes[0]) != 0x80) return std::strtoull(text_of(header, field).c_str(), nullptr, 8);
    uint64_t value = 0;
    for (const char c : bytes.substr(1)) value = value << 8 | static_cast<unsigned char>(c);
    return value;
}

// The records "LENGTH KEY=VALUE\n" of a pax header; LENGTH counts the whole record.
std::string pax_value(std::string_view records, std::string_view key) {
    std::string value;
    while (!records.empty()) {
        const size_t length = std::strtoull(std::string(records.substr(0, 20)).c_str(), nullptr, 10);
        const size_t space = records.find(' ');
        if (space == records.npos || length <= space + 1 || length > records.size()) break;
        const std::string_view record = records.substr(space + 1, length - space - 2);
        if (record.substr(0, record.find('=')) == key) value = record.substr(key.size() + 1);
        records.remove_prefix(length);
    }
    return value;
}

}  // namespace

bool TarReader::is_header(std::string_view head) {
    if (head.size() < kHeaderBytes || head[0] == '\0') return false;
    // The sum of all bytes, with spaces in place of the checksum.
    uint64_t sum = uint64_t(' ') * kChecksum.size;
    for (size_t i = 0; i < kHeaderBytes; i++) {
        if (i - kChecksum.at >= kChecksum.size) sum += static_cast<unsigned char>(head[i]);
    }
    return bytes_of(head, kChecksum).find_first_not_of(" 01234567\0", 0, 10) == std::string_view::npos &&
           number_of(head, kChecksum) == sum;
}

// Zeros end an archive. What follows them is the next archive, as in `cat a.tar b.tar`, or nothing.
bool TarReader::read_header(char* header) {
    const auto after = [&] { return member_.empty() ? "" : concat(" after ", member_); };
    for (bool ended = false;;) {
        size_t have = 0;
        for (size_t n; have < kHeaderBytes && (n = read_(header + have, kHeaderBytes - have)) > 0;) have += n;
        if (have == 0) {
            KILN_CHECK(ended, archive_, ": the archive has no end mark", after(), ", so it may be truncated; copy or ",
                       "download the file again, or, if it is whole, unpack it and give the directory");
            return false;
        }
        if (!std::all_of(header, header + have, [](char c) { return c == '\0'; })) {
            KILN_CHECK(is_header({header, have}), archive_, ": the archive is damaged or truncated", after(),
                       "; copy or download the file again");
            return true;
        }
        ended = ended || have == kHeaderBytes;
    }
}

bool TarReader::next() {
    std::string long_name;
    uint64_t long_size = 0;
    char bytes[kHeaderBytes];
    for (;;) {
        skip_rest();
        if (!read_header(bytes)) return false;
        const std::string_view header(bytes, kHeaderBytes);
        left_ = long_size > 0 ? long_size : number_of(header, kSize);
        padding_ = (kHeaderBytes - left_ % kHeaderBytes) % kHeaderBytes;
        const char type = bytes_of(header, kType)[0];
        if (type == 'L') {  // GNU tar: the next member's name
            long_name = read_whole(left_);
            long_name.resize(std::min(long_name.size(), long_name.find('\0')));
        } else if (type == 'x') {  // pax: the next member's name and size
            const std::string records = read_whole(left_);
            if (const std::string path = pax_value(records, "path"); !path.empty()) long_name = path;
            long_size = std::strtoull(pax_value(records, "size").c_str(), nullptr, 10);
        } else if (type == '0' || type == '\0' || type == '7') {
            const std::string prefix = bytes_of(header, kMagic) == "ustar" ? text_of(header, kPrefix) : "";
            member_ = !long_name.empty() ? long_name : (prefix.empty() ? "" : prefix + "/") + text_of(header, kName);
            return true;
        } else {  // anything else, such as a directory, a link or a global pax header
            KILN_CHECK(type != 'S', archive_, ": ", long_name.empty() ? text_of(header, kName) : long_name,
                       " is stored without its holes; make the archive again without tar's option -S");
            long_name.clear();
            long_size = 0;
        }
    }
}

size_t TarReader::read(char* out, size_t bytes) {
    if (left_ == 0) return 0;
    const size_t n = read_(out, std::min<uint64_t>(bytes, left_));
    KILN_CHECK(n > 0, archive_, ": the archive is truncated in ", member_, "; copy or download the file again");
    left_ -= n;
    return n;
}

std::string TarReader::read_whole(uint64_t bytes) {
    constexpr uint64_t kMaxNames = uint64_t(1) << 20;
    KILN_CHECK(bytes <= kMaxNames, archive_, ": the name of a member has ", bytes, " bytes, so the archive is damaged");
    std::string content(bytes, '\0');
    for (size_t have = 0; have < bytes;) have += read(&content[have], bytes - have);
    return content;
}

void TarReader::skip_rest() {
    std::vector<char> buffer(size_t(64) << 10);
    while (left_ > 0) read(buffer.data(), buffer.size());
    for (size_t n; padding_ > 0; padding_ -= n) {
        n = read_(buffer.data(), padding_);
        KILN_CHECK(n > 0, archive_, ": the archive is truncated after ", member_, "; copy or download the file again");
    }
}

}  // namespace kiln
