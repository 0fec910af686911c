#pragma once
// The loop around a system call that may write less than it was given.
#include <cerrno>
#include <string_view>

#include <sys/types.h>

namespace kiln {

// Calls write(rest, bytes already written), which returns what write(2) does, until everything is written. Returns the
// error, or 0.
template <class Write>
int write_all(std::string_view data, Write write) {
    for (size_t done = 0; done < data.size();) {
        const ssize_t n = write(data.substr(done), done);
        if (n > 0) {
            done += size_t(n);
        } else if (n == 0) {
            return EIO;  // or it would be tried for ever
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

}  // namespace kiln
