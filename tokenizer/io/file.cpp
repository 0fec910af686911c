#include "tokenizer/io/file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

// Inline, so that no library is linked and the compiler uses the instructions of this processor. At most AVX2: GCC 12
// warns about uninitialised reads in its AVX-512 intrinsics.
#define XXH_INLINE_ALL
#ifdef __AVX2__
#define XXH_VECTOR XXH_AVX2
#endif
#include <xxhash.h>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/write_all.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kTemporarySuffix = ".tmp-";  // the number of the process follows

// Must be the first call after the failed system call, since other calls may change errno.
[[noreturn]] void throw_errno(const fs::path& path, const char* what) {
    const int error = errno;
    const char* hint = "";
    if (error == ENOSPC || error == EDQUOT) hint = "; free some space, or write to another disk";
    if (error == EACCES || error == EROFS) hint = "; check the permissions, or choose another path";
    if (error == ENXIO) hint = "; it is a pipe or a device where a file is expected";
    throw Error(concat(path.string(), ": ", what, ": ", std::strerror(error), hint));
}

// A file descriptor that closes itself.
class Descriptor {
public:
    Descriptor(const fs::path& path, int flags, const char* what) {
        do fd_ = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
        while (fd_ < 0 && errno == EINTR);
        if (fd_ < 0) throw_errno(path, what);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    int get() const { return fd_; }
    int release() { return std::exchange(fd_, -1); }

private:
    int fd_ = -1;
};

struct stat status_of(int fd, const fs::path& path) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) throw_errno(path, "cannot be examined");
    return status;
}

// What a path names in place of a regular file; null: a regular file.
const char* other_kind(const struct stat& status) {
    if (S_ISREG(status.st_mode)) return nullptr;
    return S_ISDIR(status.st_mode)    ? "directory"
           : S_ISFIFO(status.st_mode) ? "pipe"
           : S_ISSOCK(status.st_mode) ? "socket"
                                      : "device";
}

void check_regular(int fd, const fs::path& path) {
    const char* const kind = other_kind(status_of(fd, path));
    KILN_CHECK(!kind, path.string(), ": is a ", kind, " where a file is expected");
}

FileVersion version_of(const struct stat& s) {
    return {s.st_dev, s.st_ino, uint64_t(s.st_size), int64_t(s.st_mtim.tv_sec) * 1'000'000'000 + s.st_mtim.tv_nsec};
}

// The file that a rename to `path` may replace: a link stays, and the file that it names is replaced. A rename over
// /dev/null would remove the device.
fs::path replaceable(const fs::path& path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    KILN_CHECK(!fs::exists(status) || fs::is_regular_file(status), path.string(),
               ": is not a regular file, so nothing is written there; give the path of a file");
    return fs::exists(status) && fs::is_symlink(fs::symlink_status(path, error)) ? fs::canonical(path) : path;
}

}  // namespace

OutputFile::OutputFile(const fs::path& path, int flags) : path_(path) {
    // O_NONBLOCK: opening a pipe would wait for a program that reads it.
    Descriptor opened(path, flags | O_NONBLOCK | O_NOCTTY, "cannot be opened for writing");
    // If the file cannot be examined, writing it will tell. An error here would leave a new file to nobody.
    struct stat status {};
    KILN_CHECK(::fstat(opened.get(), &status) != 0 || !S_ISFIFO(status.st_mode), path.string(),
               ": is a pipe where a file is expected");
    fd_ = opened.release();
}

OutputFile::OutputFile(const fs::path& path) : OutputFile(path, O_WRONLY | O_CREAT | O_TRUNC) {}

OutputFile OutputFile::update(const fs::path& path) {
    return OutputFile(path, O_WRONLY);
}

OutputFile OutputFile::append(const fs::path& path) {
    OutputFile file = update(path);
    if (::lseek(file.fd_, 0, SEEK_END) < 0) throw_errno(path, "cannot be written");
    return file;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), sent_(other.sent_), dropped_(other.dropped_) {}

OutputFile::~OutputFile() {
    if (fd_ >= 0) ::close(fd_);
}

void OutputFile::write(const void* data, size_t bytes) {
    errno = write_all({static_cast<const char*>(data), bytes},
                      [this](std::string_view rest, size_t) { return ::write(fd_, rest.data(), rest.size()); });
    if (errno != 0) throw_errno(path_, "cannot be written");
}

void OutputFile::write_at(uint64_t offset, const void* data, size_t bytes) {
    errno = write_all({static_cast<const char*>(data), bytes}, [&](std::string_view rest, size_t done) {
        return ::pwrite(fd_, rest.data(), rest.size(), off_t(offset + done));
    });
    if (errno != 0) throw_errno(path_, "cannot be written");
}

// Removed pages are used again for the next writes, and are still in the processor's caches. Fresh memory costs several
// times as much as the copy, and more than ten times as much in a virtual machine that must ask its host for it.
void OutputFile::write_behind(uint64_t end) {
    if (end <= sent_) return;
    ::sync_file_range(fd_, off_t(sent_), off_t(end - sent_), SYNC_FILE_RANGE_WRITE);
    if (const off_t from = off_t(dropped_), bytes = off_t(sent_ - dropped_); bytes > 0) {
        constexpr unsigned kWait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
        const bool failed = ::sync_file_range(fd_, from, bytes, kWait) != 0;
        // fsync does not report these again. On other errors, the file system cannot wait for a part; fsync will wait.
        if (failed && (errno == EIO || errno == ENOSPC || errno == EDQUOT)) throw_errno(path_, "cannot be written");
        ::posix_fadvise(fd_, from, bytes, POSIX_FADV_DONTNEED);
    }
    dropped_ = std::exchange(sent_, end);
}

void OutputFile::sync() {
    sync_descriptor(fd_, path_);
}

void OutputFile::close() {
    if (fd_ < 0) return;
    // On Linux the descriptor is closed even after EINTR; closing it again could close another thread's file.
    if (::close(std::exchange(fd_, -1)) != 0 && errno != EINTR) throw_errno(path_, "cannot be written");
}

AtomicFile::AtomicFile(const fs::path& path)
    : path_(replaceable(path)), file_(concat(path_.string(), kTemporarySuffix, ::getpid())) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)), file_(std::move(other.file_)), pending_(std::exchange(other.pending_, false)) {}

AtomicFile::~AtomicFile() {
    if (pending_) ::unlink(file_.path().c_str());
}

std::string target_of_temporary(std::string_view name) {
    const size_t suffix = name.find(kTemporarySuffix);
    if (suffix == name.npos) return "";
    const std::string_view process = name.substr(suffix + kTemporarySuffix.size());
    const bool is_number = !process.empty() && process.find_first_not_of("0123456789") == process.npos;
    return std::string(is_number ? name.substr(0, suffix) : "");
}

void AtomicFile::commit() {
    file_.sync();
    file_.close();
    rename_file(file_.path(), path_);
    pending_ = false;
}

InputFile::InputFile(const fs::path& path, int fd) try : path_(path), fd_(fd) {
    const struct stat status = status_of(fd, path);
    KILN_CHECK(!S_ISDIR(status.st_mode), path.string(), ": is a directory where a file is expected");
    regular_ = S_ISREG(status.st_mode);
    if (regular_) version_ = version_of(status);
} catch (...) {
    ::close(fd);
}

// O_NONBLOCK: without it, opening a pipe waits for a program that writes into it.
InputFile::InputFile(const fs::path& path)
    : InputFile(path, Descriptor(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, "cannot be opened").release()) {
    check_regular(fd_, path);
}

InputFile InputFile::stream(const fs::path& path) {
    return InputFile(path, Descriptor(path, O_RDONLY | O_NOCTTY, "cannot be opened").release());
}

InputFile InputFile::standard_input() {
    const int fd = ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) throw_errno("standard input", "cannot be read");
    return InputFile("standard input", fd);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      regular_(other.regular_),
      version_(other.version_) {}

InputFile::~InputFile() {
    if (fd_ >= 0) ::close(fd_);
}

size_t InputFile::read(void* data, size_t bytes) {
    for (;;) {
        const ssize_t n = ::read(fd_, data, bytes);
        if (n >= 0) return size_t(n);
        if (errno != EINTR) throw_errno(path_, "cannot be read");
    }
}

// A write changes the time before it changes the bytes. So if the time is still the same after the bytes were read,
// they are the old ones.
void InputFile::read_at(uint64_t offset, void* data, size_t bytes) const {
    char* p = static_cast<char*>(data);
    while (bytes > 0) {
        const ssize_t n = ::pread(fd_, p, bytes, off_t(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw_errno(path_, "cannot be read");
        if (n == 0) break;
        p += n;
        offset += uint64_t(n);
        bytes -= size_t(n);
    }
    check_unchanged();
    KILN_CHECK(bytes == 0, path_.string(), ": ends at byte ", offset, ", where more was expected");
}

std::string InputFile::read_all(uint64_t max_bytes) {
    std::string content;
    // One byte more than the size, so that the last read, which returns 0, needs no larger buffer.
    size_t room = size_t(std::min(size(), max_bytes)) + 1, used = 0;
    if (size() == 0) room = size_t(1) << 16;
    for (;;) {
        content.resize(room);
        const size_t n = read(content.data() + used, room - used);
        used += n;
        KILN_CHECK(used <= max_bytes, path_.string(), ": is larger than ", max_bytes,
                   " bytes, the most that is read of such a file");
        if (n == 0) break;
        if (used == room) room *= 2;
    }
    content.resize(used);
    return content;
}

void InputFile::check_unchanged() const {
    if (!regular_) return;
    const FileVersion now = version_of(status_of(fd_, path_));
    if (now == version_) return;
    const std::string sizes = concat(" from ", version_.size, " to ", now.size, " bytes");
    const char* const how = now.size < version_.size ? "was truncated" : "grew";
    throw Error(concat(path_.string(), ": ", now.size == version_.size ? "was changed" : how + sizes,
                       " while it was being read; read a copy that no other program writes to"));
}

// A new descriptor gets the lowest free number.
bool InputFile::descriptors_are_scarce() const {
    rlimit limit{};
    return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 && rlim_t(fd_) >= limit.rlim_cur / 2;
}

std::string read_file(const fs::path& path, uint64_t max_bytes) {
    return InputFile(path).read_all(max_bytes);
}

void write_file_atomic(const fs::path& path, std::string_view content) {
    AtomicFile out(path);
    out.file().write(content);
    out.commit();
}

void rename_file(const fs::path& from, const fs::path& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) throw_errno(to, "cannot be replaced");
    sync_directory(to.parent_path());
}

DirectoryLock::DirectoryLock(const fs::path& directory, bool wait) {
    Descriptor opened(directory, O_RDONLY | O_DIRECTORY, "cannot be opened");
    int result;
    do result = ::flock(opened.get(), LOCK_EX | (wait ? 0 : LOCK_NB));
    while (result != 0 && errno == EINTR);
    if (result != 0) {
        KILN_CHECK(errno != EWOULDBLOCK, directory.string(), ": another process is writing to it; wait for it");
        if (errno != ENOTSUP && errno != ENOLCK)
            throw_errno(directory, "cannot be locked");  // some network file systems cannot lock
    }
    fd_ = opened.release();
}

DirectoryLock::~DirectoryLock() {
    ::close(fd_);
}

// EINVAL: a pipe, a terminal, or a file system without fsync. Nothing there can be made durable.
void sync_descriptor(int fd, const fs::path& path) {
    int result;
    do result = ::fsync(fd);
    while (result != 0 && errno == EINTR);
    if (result != 0 && errno != EINVAL && errno != ENOTSUP) throw_errno(path, "cannot be written to disk");
}

void sync_directory(const fs::path& directory) {
    const fs::path path = directory.empty() ? fs::path(".") : directory;
    const Descriptor opened(path, O_RDONLY | O_DIRECTORY, "cannot be opened");
    sync_descriptor(opened.get(), path);
}

fs::file_status status_of(const fs::path& path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    errno = error.value();
    if (!fs::status_known(status)) throw_errno(path, "cannot be examined");
    return status;
}

std::vector<fs::path> make_directories(const fs::path& path) {
    std::vector<fs::path> missing;
    fs::path above = fs::absolute(path);
    if (!above.has_filename()) above = above.parent_path();  // "runs/mine/"
    for (std::error_code error; !fs::exists(above, error) && !error; above = above.parent_path()) {
        missing.push_back(above);
    }
    KILN_CHECK(fs::is_directory(status_of(above)), path.string(), ": cannot be created: ", above.string(),
               " is not a directory");
    for (size_t i = missing.size(); i-- > 0;) {
        if (::mkdir(missing[i].c_str(), 0777) != 0 && errno != EEXIST) throw_errno(path, "cannot be created");
        sync_directory(missing[i].parent_path());
    }
    return missing;
}

uint64_t xxh3_64(const void* data, size_t bytes) {
    return XXH3_64bits(data, bytes);
}

struct Xxh3::State {
    XXH3_state_t value;  // aligned to 64 bytes
};

Xxh3::Xxh3() : state_(std::make_unique<State>()) {
    XXH3_64bits_reset(&state_->value);
}
Xxh3::Xxh3(Xxh3&&) noexcept = default;
Xxh3::~Xxh3() = default;

void Xxh3::update(const void* data, size_t bytes) {
    XXH3_64bits_update(&state_->value, data, bytes);
}

uint64_t Xxh3::digest() const {
    return XXH3_64bits_digest(&state_->value);
}

}  // namespace kiln
