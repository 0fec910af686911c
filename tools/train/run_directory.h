#pragma once
// The directory of a run: created, locked for one process, removed with --overwrite.
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tools/train/plan.h"

namespace kiln {

// Only one process may train in a run directory, and it holds this lock. The system releases the lock when the process
// ends, also after a crash.
class RunLock {
public:
    explicit RunLock(const std::filesystem::path& run);  // throws Error if another holds it
    RunLock(RunLock&& other) noexcept
        : created(std::move(other.created)), run_(std::move(other.run_)), fd_(std::exchange(other.fd_, -1)) {}
    RunLock& operator=(RunLock&&) = delete;
    // If the run has neither logged anything nor saved a checkpoint, removes what was created.
    ~RunLock();

    std::vector<std::filesystem::path> created;  // directories that this start has made, the deepest first

private:
    std::filesystem::path run_;
    int fd_;
};

// Creates the run directory and locks it. With --overwrite, removes the run that it holds. Throws Error if that is not
// possible, if the directory holds another run, or if the disk has no room for a checkpoint.
[[nodiscard]] RunLock prepare_run_directory(const TrainPlan& plan);

// The run directory without --output: runs/ and the current time.
std::string default_run_directory();

}  // namespace kiln
