#include "tools/cli/standard_streams.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <iostream>
#include <mutex>
#include <streambuf>
#include <string_view>

#include "cpu_reference/interface/error.h"
#include "tools/cli/stop_signal.h"
#include "tools/cli/terminal.h"

namespace kiln {

namespace {

// Opens a pipe or a terminal again, so that no write to it blocks. Setting O_NONBLOCK for the one that the program was
// given would also set it for the shell.
void stop_blocking(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0 || !(S_ISFIFO(status.st_mode) || ::isatty(fd))) return;
    const std::string path = concat("/proc/self/fd/", fd);
    const int again = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (again < 0) return;  // without /proc, a write blocks only if another program fills the same pipe at this moment
    ::dup2(again, fd);
    ::close(again);
}

std::atomic<bool> waits = false;

// False: nobody reads, and a stop signal came.
bool wait_until_writable(int fd) {
    constexpr int kLook_ms = 100;
    pollfd wanted{fd, POLLOUT, 0};
    int ready = 0;
    while ((ready = ::poll(&wanted, 1, kLook_ms)) == 0 && stop_signal() == 0) waits = true;
    waits = false;
    return ready != 0;  // also after an error, which write() tells too
}

// Returns the error, or 0. Text that nobody will read is no error.
int write_text(int fd, std::string_view text) {
    while (!text.empty() && wait_until_writable(fd)) {
        const ssize_t n = ::write(fd, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
        if (n == 0) return EIO;  // or it would be tried forever
        if (n > 0) {
            text.remove_prefix(size_t(n));
        } else if (errno != EINTR && errno != EAGAIN) {
            return errno == EPIPE ? 0 : errno;
        }
    }
    return 0;
}

}  // namespace

bool output_waits() {
    return waits;
}

// It may be used by several threads, as the buffer that it replaces.
class StandardStreams::Buffer : public std::streambuf {
public:
    Buffer(std::ostream& stream, int fd, bool escaped)
        : stream_(stream), fd_(fd), escaped_(escaped), before_(stream.rdbuf(this)) {
        stop_blocking(fd);
    }
    ~Buffer() override {
        flush();
        stream_.rdbuf(before_);
    }
    void close() {
        flush();
        if (::close(fd_) != 0) fail(errno);
        throw_error();
    }

protected:
    std::streamsize xsputn(const char* text, std::streamsize bytes) override {
        const std::lock_guard lock(mutex_);
        text_.append(text, size_t(bytes));
        if (text_.size() >= PIPE_BUF) flush(), throw_error();
        return bytes;
    }
    int_type overflow(int_type c) override {
        const char byte = char(c);
        if (!traits_type::eq_int_type(c, traits_type::eof())) xsputn(&byte, 1);
        return traits_type::not_eof(c);
    }
    int sync() override {
        const std::lock_guard lock(mutex_);
        flush();
        throw_error();
        return 0;
    }

private:
    void fail(int error) {
        if (error_ == 0) error_ = error;
    }
    void flush() {
        fail(write_text(fd_, escaped_ ? printable(text_, "\n\t") : text_));
        text_.clear();
    }
    // Standard error has nobody to tell. An exception would also end the program by SIGABRT, since std::cerr calls
    // sync() in a destructor.
    void throw_error() const {
        KILN_CHECK(error_ == 0 || fd_ == STDERR_FILENO, "standard output: cannot be written: ", std::strerror(error_),
                   "; the output is incomplete");
    }

    std::ostream& stream_;
    const int fd_;
    const bool escaped_;
    std::streambuf* const before_;
    std::mutex mutex_;
    std::string text_;
    int error_ = 0;  // the first one
};

StandardStreams::StandardStreams() {
    // A file that the program opens must not become its standard output. Reading and writing still fail.
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (::fcntl(fd, F_GETFD) < 0) ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    }
    std::cout.flush();
    std::cin.tie(nullptr);  // a failure of the one is none of the other
    out_ = std::make_unique<Buffer>(std::cout, STDOUT_FILENO, ::isatty(STDOUT_FILENO));
    err_ = std::make_unique<Buffer>(std::cerr, STDERR_FILENO, true);
    std::cout.exceptions(std::ios::badbit);
}

StandardStreams::~StandardStreams() {
    std::cout.exceptions(std::ios::goodbit);
}

void StandardStreams::finish() {
    out_->close();
}

void write_error_line(const std::string& text) {
    write_text(STDERR_FILENO, printable(text, "\n\t") + "\n");
}

void write_error_controls(const std::string& text) {
    write_text(STDERR_FILENO, text);
}

}  // namespace kiln
