#pragma once
// A series of attempts, none of which may violate a promise of dev/docs/reliability.md. It prints how many there were
// and how many did.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace kiln {

// `make test-long` sets KILN_LONG and tries everything; other runs try a part of it.
inline bool is_long() {
    return std::getenv("KILN_LONG") != nullptr;
}
template <class T>
T short_or_long(T in_short, T in_long) {
    return is_long() ? in_long : in_short;
}

class Series {
public:
    explicit Series(std::string name) : name_(std::move(name)) {}
    Series(const Series&) = delete;
    ~Series() {
        std::printf("%s: %d attempts, %d violations\n", name_.c_str(), attempts_, violations_);
        std::fflush(stdout);
        EXPECT_GT(attempts_, 0) << name_ << " attempted nothing";
    }
    // One attempt. `check` returns what went wrong, or ""; an exception is a violation too.
    template <class Check>
    void add(const std::string& what, Check check) {
        attempts_++;
        std::string problem;
        try {
            problem = check();
        } catch (const std::exception& error) {
            problem = std::string("it cannot be done again: ") + error.what();
        }
        if (problem.empty()) return;
        constexpr int kShown = 10;
        if (++violations_ <= kShown) ADD_FAILURE() << name_ << ": " << what << ": " << problem;
    }
    int attempts() const { return attempts_; }
    // With so many violations, a loop until no call is affected any more might never end.
    bool hopeless() const { return violations_ > 1000; }

private:
    std::string name_;
    int attempts_ = 0, violations_ = 0;
};

// How a child process ended: killed by SIGKILL, with an exception, or with a result.
struct ChildEnd {
    bool killed = false;
    bool failed = false;
    std::string text = {};   // the result, or what the exception said
    std::string crash = {};  // how it ended if in none of these ways
};

// Runs `act`, which returns a string, in a forked child.
template <class Act>
ChildEnd in_child(Act act) {
    int ends[2];
    if (pipe(ends) != 0) throw std::runtime_error("pipe failed");
    const pid_t child = fork();
    if (child == 0) {
        std::string text;
        bool failed = false;
        try {
            text = act();
        } catch (const std::exception& exception) {
            text = exception.what();
            failed = true;
        }
        if (::write(ends[1], text.data(), text.size()) != ssize_t(text.size())) _exit(2);
        _exit(failed);
    }
    ::close(ends[1]);
    ChildEnd end;
    char buffer[4096];
    for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;) end.text.append(buffer, size_t(n));
    ::close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    end.killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    end.failed = WIFEXITED(status) && WEXITSTATUS(status) == 1;
    if (!end.killed && !end.failed && status != 0) end.crash = "it crashed, wait status " + std::to_string(status);
    return end;
}

}  // namespace kiln
