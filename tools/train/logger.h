#pragma once
// The logs of a run directory: main.log (lines as llm.c writes them) and metrics.jsonl (all digits).
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "cpu_reference/interface/backend.h"
#include "tools/train/step_report.h"

namespace kiln {

// A file that lines are appended to, each with one write. Throws Error with the path and the system's reason.
class AppendFile {
public:
    // Where a directory has the name, nothing is written, and reopen() tells it: a run needs no log to be resumed.
    // Cuts the file to the whole lines in its first `keep_bytes` bytes. A power cut may have left fewer of them.
    AppendFile(const std::filesystem::path& path, uint64_t keep_bytes);
    AppendFile(const AppendFile&) = delete;
    ~AppendFile();
    void append(std::string_view line);
    // If its name in the directory, an open one, belongs to another file or to none by now, continues with the file of
    // that name or a new one, and throws Error, which tells it.
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
    uint64_t size_ = 0;  // of its whole lines
    bool torn_ = false;  // there is a part of a line after them
};

// The sizes of the logs when a checkpoint was written. The rest belongs to steps that a resumed run repeats.
struct LogPosition {
    uint64_t main_bytes = 0, metrics_bytes = 0;
};

class RunLog {
public:
    RunLog(const std::filesystem::path& run, const LogPosition& keep);
    void sync() const;  // what was logged until now is durable; may be called while another thread logs
    // A log that was moved, replaced or removed while the run trains is continued under its name, and Error tells it.
    void reopen(int run_directory);

    void train(const StepReport& report);              // s:STEP trl:LOSS lr:RATE norm:NORM
    void validation(int64_t step, double loss);        // s:STEP tel:LOSS
    void gpu(int64_t step, const GpuSample& sample);   // metrics.jsonl only
    void sample(int64_t step, std::string_view text);  // metrics.jsonl only
    // s:STEP NAME:VALUE, which llm.c's log readers treat as one more series. Neither may contain a space.
    void note(int64_t step, const std::string& name, const std::string& value);
    LogPosition position() const { return {main_.size_bytes(), metrics_.size_bytes()}; }

private:
    AppendFile main_, metrics_;
};

}  // namespace kiln
