#pragma once
// What a terminal tells about itself.
#include <sys/ioctl.h>
#include <unistd.h>

namespace kiln {

// The columns of the terminal that `fd` writes to, or 80 if it does not tell them; 0: `fd` is no terminal.
inline int terminal_columns(int fd) {
    constexpr int kUsual = 80;
    if (!isatty(fd)) return 0;
    winsize size{};
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsual;
}

}  // namespace kiln
