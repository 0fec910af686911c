#pragma once
// Files as move-only types. Every failure throws Error with the path and the system's reason.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

// An open file descriptor for writing. close() reports what the destructor would have to swallow.
class OutputFile {
public:
    explicit OutputFile(const std::filesystem::path& path);       // creates or truncates
    static OutputFile update(const std::filesystem::path& path);  // an existing file, for write_at
    static OutputFile append(const std::filesystem::path& path);  // an existing file; write() goes to its end
    OutputFile(OutputFile&& other) noexcept;
    OutputFile& operator=(OutputFile&&) = delete;
    ~OutputFile();
    void write(const void* data, size_t bytes);  // all of it, or throws (full disk, I/O error)
    void write(std::string_view text) { write(text.data(), text.size()); }
    void write_at(uint64_t offset, const void* data, size_t bytes);
    // For a long file. What write() has brought up to the offset `end` goes to the disk from now on; what the call
    // before sent there is waited for (throws if it could not be written) and leaves the page cache. Nothing happens
    // unless `end` has grown.
    void write_behind(uint64_t end);
    void sync();   // fsync
    void close();  // throws on a late write error
    const std::filesystem::path& path() const { return path_; }

private:
    OutputFile(const std::filesystem::path& path, int flags);
    std::filesystem::path path_;
    int fd_ = -1;
    uint64_t sent_ = 0, dropped_ = 0;  // offsets: before them all is on its way to the disk; is there and out of memory
};

// A file being written under <path>.tmp-<process id>. commit() fsyncs it, renames it to `path` and fsyncs the
// directory: a reader sees the old file or the new, whole. Without commit() the destructor removes it; only a kill
// leaves it behind.
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

// An open file, pipe or device, read from front to back.
class InputFile {
public:
    explicit InputFile(const std::filesystem::path& path);  // throws if missing, a directory or unreadable
    InputFile(InputFile&& other) noexcept;
    InputFile& operator=(InputFile&&) = delete;
    ~InputFile();
    size_t read(void* data, size_t bytes);   // at most `bytes`; 0 only at the end
    uint64_t size() const { return size_; }  // 0: not known, as of a pipe
    const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
    int fd_ = -1;
    uint64_t size_ = 0;
};

// A directory held by one process, until this goes. Throws Error if another one holds it.
class DirectoryLock {
public:
    explicit DirectoryLock(const std::filesystem::path& directory);
    DirectoryLock(const DirectoryLock&) = delete;
    ~DirectoryLock();

private:
    int fd_ = -1;
};

// How a mapping is about to be read; the kernel reads ahead accordingly.
enum class Access { normal, random };

// A whole regular file mapped read-only.
class MappedFile {
public:
    MappedFile() = default;
    // Throws if missing, not a regular file, or unreadable; an empty file is allowed.
    explicit MappedFile(const std::filesystem::path& path, Access access = Access::normal);
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    ~MappedFile();
    std::span<const unsigned char> bytes() const { return {data_, size_}; }
    std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
    // These bytes will hardly be read again: their memory may go. (Reading them again is allowed.)
    void release(size_t offset, size_t bytes) const;

private:
    const unsigned char* data_ = nullptr;
    size_t size_ = 0;
};

// The whole of a file, a pipe or a device.
std::string read_file(const std::filesystem::path& path);

// The whole content by an AtomicFile.
void write_file_atomic(const std::filesystem::path& path, std::string_view content);

// Replaces `to`, durably: the directory is synced.
void rename_file(const std::filesystem::path& from, const std::filesystem::path& to);

void sync_directory(const std::filesystem::path& directory);

uint64_t xxh3_64(const void* data, size_t bytes);

// The same hash of data that comes in parts.
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
