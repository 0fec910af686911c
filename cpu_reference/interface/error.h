#pragma once
// The one error type of Kiln. Libraries throw it; a program's main prints it once and returns the exit code.
#include <sstream>
#include <stdexcept>
#include <string>

namespace kiln {

// Something failed at run time: a file, a shape, a resource. Exit code 1.
class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// The command line or a configuration value is wrong. Exit code 2.
class UsageError : public Error {
public:
    using Error::Error;
};

template <class... Parts>
std::string concat(const Parts&... parts) {
    std::ostringstream out;
    out.exceptions(std::ios::badbit);  // a stream without memory would cut the text
    (out << ... << parts);
    return out.str();
}

}  // namespace kiln

// KILN_CHECK(n > 0, path, ": holds no tokens; run `kiln prepare` on it again"). The message says what is wrong (with
// the value), where (the file, line, option) and what to do.
#define KILN_CHECK(condition, ...)                                          \
    do {                                                                    \
        if (!(condition)) throw ::kiln::Error(::kiln::concat(__VA_ARGS__)); \
    } while (0)
