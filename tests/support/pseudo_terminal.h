#pragma once
// A terminal for programs under test.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <thread>

namespace kiln {

class PseudoTerminal {
public:
    explicit PseudoTerminal(unsigned short columns) : screen_(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
        if (screen_ < 0 || grantpt(screen_) != 0 || unlockpt(screen_) != 0) throw std::runtime_error("no terminal");
        const winsize size{.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
        ioctl(screen_, TIOCSWINSZ, &size);
        path_ = ptsname(screen_);
        program_side_ = open(path_.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
        // Without a reader, a program would wait when the buffer of the terminal is full.
        reader_ = std::thread([this] {
            char buffer[4096];
            for (ssize_t n; (n = read(screen_, buffer, sizeof buffer)) > 0;) text_.append(buffer, size_t(n));
        });
    }
    PseudoTerminal(const PseudoTerminal&) = delete;
    ~PseudoTerminal() {
        text();
        close(screen_);
    }
    const std::string& path() const { return path_; }
    int program_side() const { return program_side_; }
    // What was written to it. The programs must have ended. Nothing can be written afterwards.
    const std::string& text() {
        if (reader_.joinable()) {
            close(program_side_);  // the last open one, which ends the reader
            reader_.join();
        }
        return text_;
    }

private:
    int screen_, program_side_ = -1;
    std::string path_, text_;
    std::thread reader_;
};

}  // namespace kiln
