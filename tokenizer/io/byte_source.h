#pragma once
// Reads an input file as UTF-8 text: decompressed, converted, without a byte order mark. It decompresses on demand, so
// its memory does not grow with the file.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace kiln {

// The values of --encoding.
const std::vector<std::string>& text_encodings();

class TarReader;

class ByteSource {
public:
    using Wanted = std::function<bool(const std::string& member)>;
    // Recognizes gzip and zstd (also several streams one after another) and tar archives, compressed or not, by their
    // first bytes. Each file of an archive whose path `wanted` accepts is a text; any other file is one text. Throws
    // Error if the file is missing or unreadable, is not text, or is named .gz or .zst but not compressed. `encoding`
    // is one of text_encodings(); "utf-8" is not checked.
    ByteSource(
        const std::filesystem::path& path, const std::string& encoding,
        Wanted wanted = [](const std::string&) { return true; });
    ByteSource(ByteSource&&) noexcept;
    ~ByteSource();

    // Moves to the first text of the file, then to the next one; false after the last. Throws as the constructor does.
    bool next();
    const std::string& name() const { return name_; }  // FILE, or ARCHIVE:MEMBER
    // Reads at most `bytes`; returns 0 only at the end. Throws Error if the file is damaged, or not in `encoding`.
    size_t read(char* out, size_t bytes);
    void skip(uint64_t bytes);  // throws Error if the text is shorter
    // Whether the file can be read as it is: no archive, not compressed, in UTF-8 without a byte order mark.
    bool is_plain() const { return plain_; }
    uint64_t file_bytes() const;  // read from the file so far, before decompression

    class Stream;

private:
    std::string name_, encoding_;
    Wanted wanted_;
    const uint64_t* file_bytes_;
    std::unique_ptr<Stream> archive_stream_;
    std::unique_ptr<TarReader> archive_;
    std::unique_ptr<Stream> stream_;  // of the current text
    bool first_ = true, plain_ = false;
};

// The paths in an archive, in order. Throws Error if the file is none.
std::vector<std::string> archive_members(const std::filesystem::path& archive);

}  // namespace kiln
