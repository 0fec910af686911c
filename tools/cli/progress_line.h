#pragma once
// How far a long task has come, on standard error: one line written over on a terminal, else a line every ten seconds.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

namespace kiln {

class ProgressLine {
public:
    ProgressLine() = default;
    ProgressLine(const ProgressLine&) = delete;
    ~ProgressLine() { clear(); }

    // "counting words [#####     ]  51 of 100 MB, 30.2 MB/s, 2 s left". `done` and `total` are in `unit`. Rates and the
    // time left are those since the task changed. Cheap when it is too early to write again.
    void show(const std::string& task, double done, double total, const std::string& unit) {
        const auto now = Clock::now();
        if (task != task_) task_ = task, task_start_ = now, task_done_ = done;
        if (!due(now)) return;
        const double seconds = std::chrono::duration<double>(now - task_start_).count();
        const double rate = seconds > 0 ? (done - task_done_) / seconds : 0;
        const double part = total > 0 ? std::clamp(done / total, 0.0, 1.0) : 0;
        std::string line = task_;
        if (terminal_) {
            const auto filled = static_cast<size_t>(part * kBarWidth);
            line += " [" + std::string(filled, '#') + std::string(kBarWidth - filled, ' ') + "]";
        }
        char text[160];
        std::snprintf(text, sizeof text, " %.0f of %.0f %s, %.1f %s/s", done, total, unit.c_str(), rate, unit.c_str());
        line += text;
        if (rate > 0) line += ", " + duration(std::max(0.0, total - done) / rate) + " left";
        write(line);
    }
    // "training ..., 12 s": of a task that does not tell how far it is.
    void show(const std::string& task) {
        const auto now = Clock::now();
        if (task != task_) task_ = task, task_start_ = now;
        if (due(now)) write(task + ", " + duration(std::chrono::duration<double>(now - task_start_).count()));
    }
    // Removes the line from a terminal; before anything else is written.
    void clear() {
        if (shown_ && terminal_) std::fputs("\r\033[K", stderr);
        shown_ = false;
    }

private:
    using Clock = std::chrono::steady_clock;
    static constexpr size_t kBarWidth = 24;

    bool due(Clock::time_point now) {
        if (now - written_ < (terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(10))) return false;
        written_ = now;
        return true;
    }
    void write(const std::string& line) {
        std::fprintf(stderr, terminal_ ? "\r\033[K%s" : "%s\n", line.c_str());
        std::fflush(stderr);
        shown_ = true;
    }
    static std::string duration(double seconds) {
        const auto s = static_cast<unsigned long long>(seconds + 0.5);
        char text[48];
        if (s >= 3600) {
            std::snprintf(text, sizeof text, "%llu:%02llu h", s / 3600, s / 60 % 60);
        } else if (s >= 60) {
            std::snprintf(text, sizeof text, "%llu:%02llu min", s / 60, s % 60);
        } else {
            std::snprintf(text, sizeof text, "%llu s", s);
        }
        return text;
    }

    const bool terminal_ = ::isatty(STDERR_FILENO) != 0;
    Clock::time_point task_start_ = Clock::now(), written_ = task_start_;
    double task_done_ = 0;  // when the task began
    std::string task_;
    bool shown_ = false;
};

}  // namespace kiln
