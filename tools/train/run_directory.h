#pragma once
// The directory of a run: created, locked for one process, removed with --overwrite.
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/train/plan.h"

namespace kiln {

// An open run directory. It may be moved or removed while it is open.
class RunDirectory {
public:
    explicit RunDirectory(const std::filesystem::path& path);  // throws Error if it cannot be opened
    RunDirectory(RunDirectory&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
    RunDirectory& operator=(RunDirectory&&) = delete;
    ~RunDirectory();
    int descriptor() const { return fd_; }
    // The present path of the directory, also after it was moved; empty if it was removed.
    std::filesystem::path now() const;

private:
    std::filesystem::path path_;
    int fd_;
};

// Only one process may train in a run directory, and it holds this lock. The system releases the lock when the process
// ends, also after a crash.
class RunLock {
public:
    explicit RunLock(const std::filesystem::path& run);  // throws Error if another holds it
    RunLock(RunLock&&) noexcept = default;
    // Removes the directories that this start has made, if the run has neither logged anything nor saved a checkpoint.
    ~RunLock();

    std::vector<std::filesystem::path> created;  // directories that this start has made, the deepest first

private:
    RunDirectory directory_;
};

// Creates the run directory and locks it. Throws Error if that fails, or if the disk has no room for a checkpoint, and
// UsageError if the directory holds another run and neither --resume nor --overwrite is given.
[[nodiscard]] RunLock prepare_run_directory(const TrainPlan& plan);

// Removes a run, but no other files of its directory. With --overwrite it is called only after everything that could
// prevent the new run from starting has been checked, so that a failed start never destroys the old run.
void remove_run(const std::filesystem::path& run);

// Whether a file begins with `start`. Used to tell Kiln's files from a user's before they are replaced.
bool begins_with(const std::filesystem::path& path, std::string_view start);
// Whether the new curve `svg` may be written to `path`: there is no regular file, or it begins as `svg` does.
bool may_replace_curve(const std::filesystem::path& path, std::string_view svg);

// The run directory without --output: runs/ and the current time.
std::string default_run_directory();

}  // namespace kiln
