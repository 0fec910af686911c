#include "dev/bench/support/peer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu_reference/interface/error.h"

namespace kiln::bench {

Peer::Peer(const std::string& command) {
    signal(SIGPIPE, SIG_IGN);  // ask() reports a peer that has ended
    int in[2], out[2];
    KILN_CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0, "cannot make pipes for '", command, "'");
    pid_ = fork();
    KILN_CHECK(pid_ >= 0, "cannot start a process for '", command, "'");
    if (pid_ == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    to_ = fdopen(in[1], "w");
    from_ = fdopen(out[0], "r");
}

Peer::~Peer() {
    std::fclose(to_);  // the end of its input
    std::fclose(from_);
    waitpid(pid_, nullptr, 0);
}

std::optional<std::string> Peer::read_line() {
    std::string line;
    for (int c; (c = std::fgetc(from_)) != EOF;) {
        if (c == '\n') return line;
        line += char(c);
    }
    return std::nullopt;
}

std::optional<std::string> Peer::ask(const std::string& line) {
    if (std::fprintf(to_, "%s\n", line.c_str()) < 0 || std::fflush(to_) != 0) return std::nullopt;
    return read_line();
}

}  // namespace kiln::bench
