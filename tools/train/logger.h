#pragma once
// The logs of a run directory: main.log (lines as llm.c writes them) and metrics.jsonl (all digits).
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "cpu_reference/interface/backend.h"
#include "tools/train/step_report.h"

namespace kiln {

// A file to which lines are appended. A line that was written only in part is cut off before the next one. Throws Error
// with the path and the system's reason.
class AppendFile {
public:
    // Where a directory has the name, nothing is written, and reopen() tells it: a run needs no log to be resumed.
    // Truncates the file after the last complete line within its first `keep_bytes` bytes. After a power cut, the file
    // may be shorter than that.
    AppendFile(const std::filesystem::path& path, uint64_t keep_bytes);
    AppendFile(const AppendFile&) = delete;
    ~AppendFile();
    void append(std::string_view line);
    // If the file's name in the open directory now belongs to another file or to none, continues with that file or with
    // a new one, and throws Error that says so.
    void reopen(int directory);
    void sync() const;  // fsync
    uint64_t size_bytes() const { return size_; }

private:
    AppendFile(const std::filesystem::path& path, int fd) : path_(path), fd_(fd) {}
    AppendFile(const std::filesystem::path& path, int fd, uint64_t keep_bytes);
    uint64_t end_of_line(uint64_t before) const;
    void cut();

    std::filesystem::path path_;
    int fd_ = -1;
    uint64_t size_ = 0;  // of its complete lines
    bool torn_ = false;  // an incomplete line follows these
};

// The sizes of the logs when a checkpoint was written. The rest belongs to steps that a resumed run repeats.
struct LogPosition {
    uint64_t main_bytes = 0, metrics_bytes = 0;
};

class RunLog {
public:
    RunLog(const std::filesystem::path& run, const LogPosition& keep);
    void sync() const;  // what was logged until now is durable; may be called while another thread logs
    // If a log was moved, replaced or removed while the run trains, continues it under its name, and throws Error that
    // says so.
    void reopen(int run_directory);

    void train(const StepReport& report);              // s:STEP trl:LOSS lr:RATE norm:NORM
    void validation(int64_t step, double loss);        // s:STEP tel:LOSS
    void gpu(int64_t step, const GpuSample& sample);   // metrics.jsonl only
    void sample(int64_t step, std::string_view text);  // metrics.jsonl only
    // s:STEP NAME:VALUE, which llm.c's log readers treat as one more series. Neither may contain a space.
    void event(int64_t step, const std::string& name, const std::string& value);
    LogPosition position() const { return {main_.size_bytes(), metrics_.size_bytes()}; }

private:
    AppendFile main_, metrics_;
};

}  // namespace kiln
