#pragma once
// Files as move-only types. Every failure throws Error with the path and the system's reason.
#include <cstddef>
#include <cstdint>
#include <filesystem>
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
    OutputFile(OutputFile&& other) noexcept;
    OutputFile& operator=(OutputFile&&) = delete;
    ~OutputFile();
    void write(const void* data, size_t bytes);  // all of it, or throws (full disk, I/O error)
    void write(std::string_view text) { write(text.data(), text.size()); }
    void write_at(uint64_t offset, const void* data, size_t bytes);
    void sync();   // fsync
    void close();  // throws on a late write error
    const std::filesystem::path& path() const { return path_; }

private:
    OutputFile(const std::filesystem::path& path, int flags);
    std::filesystem::path path_;
    int fd_ = -1;
};

// How a mapping is about to be read; the kernel reads ahead accordingly.
enum class Access { normal, sequential, random };

// A whole regular file mapped read-only.
class MappedFile {
public:
    MappedFile() = default;
    // Throws if missing, not a regular file, or unreadable; an empty file is allowed.
    explicit MappedFile(const std::filesystem::path& path, Access access = Access::normal);
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    ~MappedFile();
    void advise(Access access) const;  // a hint: it may change speed, never what is read
    std::span<const unsigned char> bytes() const { return {data_, size_}; }
    std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

private:
    const unsigned char* data_ = nullptr;
    size_t size_ = 0;
};

// The whole of a file, a pipe or a device.
std::string read_file(const std::filesystem::path& path);

// Writes <path>.tmp-<process id>, fsyncs, renames it to `path`, fsyncs the directory: a reader sees the old file or the
// new, whole. On failure the old file stays and the temporary one is removed; only a kill can leave it behind.
void write_file_atomic(const std::filesystem::path& path, std::string_view content);
void write_file_atomic(const std::filesystem::path& path, std::span<const std::string_view> pieces);

void sync_directory(const std::filesystem::path& directory);
uint64_t xxh3_64(const void* data, size_t bytes);

}  // namespace kiln
