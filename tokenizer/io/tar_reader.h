#pragma once
// Reads the members of a tar archive in order, from a stream that cannot seek.
//   Each member is a header of 512 bytes, then its content, filled up with zeros to a multiple of 512. Blocks of
//   zeros are the end mark. The format is that of POSIX.1-2001 (pax), with the long names and sizes of GNU tar. Several
//   archives may follow one another.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace kiln {

class TarReader {
public:
    static constexpr size_t kHeaderBytes = 512;
    // Whether these bytes are the header of a member, by its checksum.
    static bool is_header(std::string_view head);

    using Read = std::function<size_t(char* out, size_t bytes)>;  // returns 0 only at the end
    TarReader(std::string archive, Read read) : archive_(std::move(archive)), read_(std::move(read)) {}

    // Moves to the next regular file; false at the end. Throws Error if the archive is damaged, or has no end
    // mark.
    bool next();
    const std::string& archive() const { return archive_; }
    const std::string& member() const { return member_; }  // its path in the archive
    // Reads at most `bytes` of it; returns 0 only at its end.
    size_t read(char* out, size_t bytes);

private:
    bool read_header(char* header);  // false at the end of the file
    std::string read_whole(uint64_t bytes);
    void skip_rest();

    const std::string archive_;
    const Read read_;
    std::string member_;
    uint64_t left_ = 0, padding_ = 0;  // bytes of the content, and after it
};

}  // namespace kiln
