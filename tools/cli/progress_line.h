#pragma once
// The progress of a long task on standard error: on a terminal one line that is updated, else one line every ten
// seconds.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "cpu_reference/interface/text.h"
#include "tools/cli/standard_streams.h"
#include "tools/cli/terminal.h"

namespace kiln {

class ProgressLine {
public:
    ProgressLine() = default;
    ProgressLine(const ProgressLine&) = delete;
    ~ProgressLine() { clear(); }

    // "counting words [#####     ] 51 of 100 MB, 30.2 MB/s, 2s left", and `more`. `done` and `total` (0: not known) are
    // in `unit`. The rate is the average since the task began. A call prints only if a line is due.
    void show(const std::string& task, double done, double total, const std::string& unit,
              const std::string& more = "") {
        const auto now = Clock::now();
        if (task != task_ || done < task_done_) task_ = task, task_start_ = now, task_done_ = done;
        if (!due(now)) return;
        const double seconds = std::chrono::duration<double>(now - task_start_).count();
        const double rate = seconds > 0 ? (done - task_done_) / seconds : 0;
        std::string line = task_;
        if (terminal_ && total > 0) {
            const auto filled = static_cast<size_t>(std::clamp(done / total, 0.0, 1.0) * kBarWidth);
            line += " [" + std::string(filled, '#') + std::string(kBarWidth - filled, ' ') + "]";
        }
        line += formatted(" %.0f", done) + (total > 0 ? formatted(" of %.0f ", total) : " ") + unit;
        line += formatted(", %.1f %s/s", rate, unit.c_str());
        if (rate > 0 && total > 0) line += ", " + duration_text(std::max(0.0, total - done) / rate) + " left";
        write(line + more);
    }
    // "training, 12s": for a task that does not tell its progress.
    void show(const std::string& task) {
        const auto now = Clock::now();
        if (task != task_) task_ = task, task_start_ = now;
        if (due(now)) write(task + ", " + duration_text(std::chrono::duration<double>(now - task_start_).count()));
    }
    // Removes the line from a terminal. Call it before other output.
    void clear() {
        if (shown_ && terminal_) write_error_controls("\r\033[K");
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
    void write(std::string line) {
        // The last column stays empty: some terminals break a line after it.
        if (terminal_) line = line.substr(0, size_t(std::max(1, terminal_columns(STDERR_FILENO) - 1)));
        if (terminal_) write_error_controls("\r\033[K" + printable(line));
        if (!terminal_) write_error_line(line);
        shown_ = true;
    }
    const bool terminal_ = ::isatty(STDERR_FILENO) != 0;
    Clock::time_point task_start_ = Clock::now(), written_ = task_start_;
    double task_done_ = 0;  // the value of `done` when the task began
    std::string task_;
    bool shown_ = false;
};

}  // namespace kiln
