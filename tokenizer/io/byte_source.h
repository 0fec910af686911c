#pragma once
// Reads an input file as UTF-8 text: decompressed, converted, without a byte order mark. It decompresses only what is
// read, so memory is bounded for any file.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace kiln {

// The values of --encoding.
const std::vector<std::string>& text_encodings();

class ByteSource {
public:
    // Recognizes gzip (of one or more members) and zstd (of one or more frames) by the first bytes. Throws Error if the
    // file is missing or unreadable, or named .gz or .zst but not compressed. `encoding` is one of text_encodings();
    // "utf-8" is not checked.
    ByteSource(const std::filesystem::path& path, const std::string& encoding);
    ByteSource(ByteSource&&) noexcept;
    ~ByteSource();

    // Reads at most `bytes`; returns 0 only at the end. Throws Error if the file is damaged, or not in its encoding.
    size_t read(char* out, size_t bytes);
    void skip(uint64_t bytes);    // throws Error if the text is shorter
    uint64_t file_bytes() const;  // read from the file so far, before decompression

    class Stream;

private:
    std::filesystem::path path_;
    std::unique_ptr<Stream> stream_;
    const uint64_t* file_bytes_;
    std::string head_;  // the first bytes of the text, which were read to look for a byte order mark
};

}  // namespace kiln
