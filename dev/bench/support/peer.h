#pragma once
#include <sys/types.h>

#include <cstdio>
#include <optional>
#include <string>

namespace kiln::bench {

// Another program that is measured in turns with this one: it answers each line of its input with one of its output.
class Peer {
public:
    // Run by /bin/sh. Throws Error if it cannot be started.
    explicit Peer(const std::string& command);
    Peer(const Peer&) = delete;
    ~Peer();
    // What it says next, without the end of the line; nothing where it has ended.
    std::optional<std::string> read_line();
    std::optional<std::string> ask(const std::string& line);

private:
    pid_t pid_;
    std::FILE *to_, *from_;
};

}  // namespace kiln::bench
