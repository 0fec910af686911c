#pragma once
// Files, directories, locks, and the hash XXH3. A failure throws Error with the path and the system's reason; only what
// a file system does not support (locks, fsync) is left out in silence.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

// A file open for writing. close() reports errors, which the destructor cannot.
class OutputFile {
public:
    explicit OutputFile(const std::filesystem::path& path);       // creates or truncates
    static OutputFile update(const std::filesystem::path& path);  // opens an existing file for write_at
    static OutputFile append(const std::filesystem::path& path);  // opens an existing file; write() appends
    OutputFile(OutputFile&& other) noexcept;
    OutputFile& operator=(OutputFile&&) = delete;
    ~OutputFile();
    void write(const void* data, size_t bytes);  // everything, or throws (full disk, I/O error)
    void write(std::string_view text) { write(text.data(), text.size()); }
    void write_at(uint64_t offset, const void* data, size_t bytes);
    // For long files: starts the writeback of everything before the offset `end`. Also waits for the writeback that the
    // previous call started, throws if it failed, and drops those pages from the page cache. Does nothing if `end` has
    // not grown.
    void write_behind(uint64_t end);
    void sync();   // fsync
    void close();  // throws on a late write error
    const std::filesystem::path& path() const { return path_; }

private:
    OutputFile(const std::filesystem::path& path, int flags);
    std::filesystem::path path_;
    int fd_ = -1;
    uint64_t sent_ = 0, dropped_ = 0;  // end of the part that is being written; of the part removed from the cache
};

// A file that is written as <path>.tmp-<process id>. commit() fsyncs it, renames it to `path` and fsyncs the directory,
// so a reader sees either the old file or the complete new one. If `path` is a link, the file to which it points is
// replaced, and the link stays. Without commit() the destructor removes the new file.
class AtomicFile {
public:
    explicit AtomicFile(const std::filesystem::path& path);
    AtomicFile(AtomicFile&& other) noexcept;
    AtomicFile& operator=(AtomicFile&&) = delete;
    ~AtomicFile();
    OutputFile& file() { return file_; }
    void commit();

private:
    std::filesystem::path path_;
    OutputFile file_;
    bool pending_ = true;
};

// The name of the file that the temporary file `name` of an AtomicFile would have replaced; "" if it is no such file.
std::string target_of_temporary(std::string_view name);

// Identifies a file and its version, to notice that it was changed or replaced.
struct FileVersion {
    uint64_t device = 0, inode = 0, size = 0;
    int64_t modified_ns = 0;
    bool operator==(const FileVersion&) const = default;
};

// A file open for reading. Nothing is mapped into memory: another program may shorten the file, and reading a mapped
// page past its new end kills the process by SIGBUS.
class InputFile {
public:
    // A regular file. Anything else is refused at once: opening a pipe may block forever, and a device file such as
    // /dev/zero may have no end.
    explicit InputFile(const std::filesystem::path& path);
    static InputFile stream(const std::filesystem::path& path);  // also a pipe, a terminal or another device
    static InputFile standard_input();
    InputFile(InputFile&& other) noexcept;
    InputFile& operator=(InputFile&&) = delete;
    ~InputFile();
    size_t read(void* data, size_t bytes);  // the next bytes, at most `bytes`; 0 only at the end
    // Fills `data` from a place of a regular file. Throws if the file is shorter, or has changed since it was opened.
    // Threads may share it.
    void read_at(uint64_t offset, void* data, size_t bytes) const;
    std::string read_all(uint64_t max_bytes);  // the rest; throws if it is longer
    // Throws if a regular file has another size or time of modification than when it was opened.
    void check_unchanged() const;
    const FileVersion& version() const { return version_; }  // when it was opened
    uint64_t size() const { return version_.size; }          // 0: not known (a pipe)
    // Whether this file's descriptor is in the upper half of those that the process may open: it should soon be closed.
    bool descriptors_are_scarce() const;
    const std::filesystem::path& path() const { return path_; }

private:
    InputFile(const std::filesystem::path& path, int fd);
    std::filesystem::path path_;
    int fd_ = -1;
    bool regular_ = false;
    FileVersion version_;
};

// Locks a directory for one process. If another process has locked it, waits for it or throws Error, as `wait` says.
// Does nothing on a file system without locks.
class DirectoryLock {
public:
    explicit DirectoryLock(const std::filesystem::path& directory, bool wait = false);
    DirectoryLock(const DirectoryLock&) = delete;
    ~DirectoryLock();

private:
    int fd_ = -1;
};

// The whole content of a regular file. Throws if it is longer than `max_bytes`.
inline constexpr uint64_t kMaxFileBytes = uint64_t(256) << 20;  // several times the largest tokenizer.json
std::string read_file(const std::filesystem::path& path, uint64_t max_bytes = kMaxFileBytes);

// Writes the whole content through an AtomicFile.
void write_file_atomic(const std::filesystem::path& path, std::string_view content);

// Replaces `to`, and fsyncs the directory.
void rename_file(const std::filesystem::path& from, const std::filesystem::path& to);

void sync_descriptor(int fd, const std::filesystem::path& path);  // fsync; `path` is for the message
void sync_directory(const std::filesystem::path& directory);

// What is at a path: not_found if there is nothing. Throws Error if the system cannot tell, because of permissions or a
// loop of links for example, where fs::exists(path) would throw the library's own error.
std::filesystem::file_status status_of(const std::filesystem::path& path);

// Creates the directory and its parents, and fsyncs the parent of each one that was missing. Returns these, the deepest
// first.
std::vector<std::filesystem::path> make_directories(const std::filesystem::path& path);

uint64_t xxh3_64(const void* data, size_t bytes);

// The same hash, for data in several parts.
class Xxh3 {
public:
    Xxh3();
    Xxh3(Xxh3&&) noexcept;
    ~Xxh3();
    void update(const void* data, size_t bytes);
    uint64_t digest() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace kiln
