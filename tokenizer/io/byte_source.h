#pragma once
// The bytes of an input file as UTF-8 text: unpacked, converted, without byte order mark. Memory is bounded whatever
// the file holds: nothing is unpacked before it is asked for.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace kiln {

// What --encoding may say.
const std::vector<std::string>& text_encodings();

class ByteSource {
public:
    // gzip (also of several members) and zstd (also of several frames) are known by their first bytes. Throws Error:
    // missing, unreadable, named .gz or .zst but of another kind. `encoding`: one of text_encodings(); of "utf-8" the
    // bytes are passed on unchecked.
    ByteSource(const std::filesystem::path& path, const std::string& encoding);
    ByteSource(ByteSource&&) noexcept;
    ~ByteSource();

    // At most `bytes`; 0 only at the end. Throws Error: damaged or truncated, or not in its encoding.
    size_t read(char* out, size_t bytes);
    void skip(uint64_t bytes);    // throws Error if there are fewer
    uint64_t file_bytes() const;  // taken from the file so far, as it is packed

    class Stream;

private:
    std::filesystem::path path_;
    std::unique_ptr<Stream> stream_;
    const uint64_t* file_bytes_;
    std::string head_;  // of the text; read before it was known to be no byte order mark
};

}  // namespace kiln
