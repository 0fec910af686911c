#pragma once
// Runs a program and keeps what it says.
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
    size_t peak_bytes = 0;  // of its memory; never below that of the test, which it was forked from
    std::string out, err;
};

// The folder of the build that this test belongs to: build, or build/emulator. The test is one of its
// tests/**/NAME_test.
inline std::filesystem::path build_path() {
    std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    while (path.filename() != "tests" && path.has_relative_path()) path = path.parent_path();
    return path.parent_path();
}

// A program of that build, or of the one around it: build/emulator/bin/NAME, build/bin/NAME.
inline std::filesystem::path program_path(const std::string& name) {
    const std::filesystem::path build = build_path(), program = build / "bin" / name;
    return std::filesystem::exists(program) ? program : build.parent_path() / "bin" / name;
}

// Standard input holds `input`. `out` replaces the file standard output goes to (then Finished::out is empty).
inline Finished run_program(const std::filesystem::path& program, const std::vector<std::string>& args,
                            const std::string& input = "", const std::filesystem::path& out = {}) {
    if (!std::filesystem::exists(program)) throw std::runtime_error(program.string() + " is not built; run `make`");
    const TempDirectory directory;
    const std::string in = directory.write("in", input), err = directory / "err";
    const std::string out_path = out.empty() ? (directory / "out").string() : out.string();
    std::vector<const char*> argv{program.c_str()};
    for (const std::string& arg : args) argv.push_back(arg.c_str());
    argv.push_back(nullptr);
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error("fork failed");
    if (child == 0) {  // only system calls from here: the parent may have threads
        const int files[] = {open(in.c_str(), O_RDONLY), open(out_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600),
                             open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600)};
        for (int i = 0; i < 3; i++) dup2(files[i], i);
        execv(argv[0], const_cast<char* const*>(argv.data()));
        _exit(127);
    }
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

// A program of this build that is still running; what it says is thrown away. Killed when this goes out of scope.
class Running {
public:
    Running(const std::string& name, const std::vector<std::string>& args) {
        const std::filesystem::path program = program_path(name);
        std::vector<const char*> argv{program.c_str()};
        for (const std::string& arg : args) argv.push_back(arg.c_str());
        argv.push_back(nullptr);
        pid_ = fork();
        if (pid_ == 0) {
            const int null = open("/dev/null", O_RDWR);
            for (int i = 0; i < 3; i++) dup2(null, i);
            execv(argv[0], const_cast<char* const*>(argv.data()));
            _exit(127);
        }
    }
    ~Running() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            waitpid(pid_, nullptr, 0);
        }
    }
    void send(int signal) const { ::kill(pid_, signal); }
    // The wait status, or -1 if it has not ended in time.
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

// Waits for a file. False: not in time.
inline bool appears(const std::filesystem::path& path, std::chrono::milliseconds limit = std::chrono::seconds(20)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!std::filesystem::exists(path)) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
}

}  // namespace kiln
