#pragma once
// Runs a program and keeps its output.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/temp_directory.h"

namespace kiln {

struct Finished {
    int code = -1;          // the exit code
    int signal = 0;         // that ended it; 0: none
    size_t peak_bytes = 0;  // of its memory; at least that of the test, which forked it
    std::string out, err;
};

// The folder of the build that this test belongs to: build, or build/emulator. The test is tests/**/NAME_test in it.
inline std::filesystem::path build_path() {
    std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    while (path.filename() != "tests" && path.has_relative_path()) path = path.parent_path();
    return path.parent_path();
}

// build/emulator/bin/NAME if this test belongs to build/emulator and the program exists there, else build/bin/NAME.
inline std::filesystem::path program_path(const std::string& name) {
    const std::filesystem::path build = build_path(), program = build / "bin" / name;
    return std::filesystem::exists(program) ? program : build.parent_path() / "bin" / name;
}

inline pid_t start_program(const std::filesystem::path& program, const std::vector<std::string>& args,
                           const std::string& in, const std::string& out, const std::string& err) {
    std::vector<const char*> argv{program.c_str()};
    for (const std::string& arg : args) argv.push_back(arg.c_str());
    argv.push_back(nullptr);
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error("fork failed");
    if (child > 0) return child;
    // Only system calls from here on: the parent may have threads.
    for (const int ignored : {SIGINT, SIGHUP}) ::signal(ignored, SIG_DFL);  // by a shell, for what it starts with &
    constexpr int kWrite = O_WRONLY | O_CREAT | O_TRUNC;
    const int files[] = {open(in.c_str(), O_RDONLY), open(out.c_str(), kWrite, 0600), open(err.c_str(), kWrite, 0600)};
    for (int i = 0; i < 3; i++) dup2(files[i], i);
    execv(argv[0], const_cast<char* const*>(argv.data()));
    _exit(127);
}

// The program reads `input` from standard input. If `out` is given, standard output goes to that file, and
// Finished::out is empty.
inline Finished run_program(const std::filesystem::path& program, const std::vector<std::string>& args,
                            const std::string& input = "", const std::filesystem::path& out = {}) {
    if (!std::filesystem::exists(program)) throw std::runtime_error(program.string() + " is not built; run `make`");
    const TempDirectory directory;
    const std::string in = directory.write("in", input), err = directory / "err";
    const std::string out_path = out.empty() ? (directory / "out").string() : out.string();
    const pid_t child = start_program(program, args, in, out_path, err);
    int status = 0;
    rusage usage{};
    wait4(child, &status, 0, &usage);
    const auto content = [](const std::filesystem::path& path) {
        std::ifstream file(path, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(file), {});
    };
    Finished result;
    result.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result.peak_bytes = size_t(usage.ru_maxrss) << 10;
    if (out.empty()) result.out = content(out_path);
    result.err = content(err);
    return result;
}

// A running program of this build, by default without its output. The destructor kills it.
class Running {
public:
    Running(const std::string& name, const std::vector<std::string>& args, const std::string& in = "/dev/null",
            const std::string& out = "/dev/null", const std::string& err = "/dev/null") {
        pid_ = start_program(program_path(name), args, in, out, err);
    }
    ~Running() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            waitpid(pid_, nullptr, 0);
        }
    }
    // Nothing once wait() has seen the end: its number may be another process's, and -1 would be every process.
    void send(int signal) const {
        if (pid_ > 0) ::kill(pid_, signal);
    }
    // The wait status, or -1 if the program has not ended in time.
    int wait(std::chrono::milliseconds limit) {
        const auto end = std::chrono::steady_clock::now() + limit;
        while (std::chrono::steady_clock::now() < end) {
            int status = 0;
            if (waitpid(pid_, &status, WNOHANG) == pid_) {
                pid_ = -1;
                return status;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        return -1;
    }

private:
    pid_t pid_;
};

// Waits until a file exists. False if it does not exist in time.
inline bool appears(const std::filesystem::path& path, std::chrono::milliseconds limit = std::chrono::seconds(20)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!std::filesystem::exists(path)) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
}

}  // namespace kiln
