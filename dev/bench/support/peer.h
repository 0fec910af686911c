#pragma once
#include <sys/types.h>

#include <cstdio>
#include <optional>
#include <string>

namespace kiln::bench {

// Another program whose measurements are interleaved with ours. It answers each line of its input with one line.
class Peer {
public:
    // Starts `command` with /bin/sh. Throws Error if that fails.
    explicit Peer(const std::string& command);
    Peer(const Peer&) = delete;
    ~Peer();
    // Its next line without the newline; nothing if it has ended.
    std::optional<std::string> read_line();
    std::optional<std::string> ask(const std::string& line);

private:
    pid_t pid_;
    std::FILE *to_, *from_;
};

}  // namespace kiln::bench
