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
    explicit RunDirectory(const std::filesystem::path& path);  // throws Error
    RunDirectory(RunDirectory&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
    RunDirectory& operator=(RunDirectory&&) = delete;
    ~RunDirectory();
    int descriptor() const { return fd_; }
    // Where it is now: its path while that is right, else where it was moved to; empty: it was removed.
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
    // If the run has neither logged anything nor saved a checkpoint, removes what was created.
    ~RunLock();

    std::vector<std::filesystem::path> created;  // directories that this start has made, the deepest first

private:
    RunDirectory directory_;
};

// Creates the run directory and locks it. Throws Error if that is not possible, if the directory holds another run that
// --overwrite is not to remove, or if the disk has no room for a checkpoint.
[[nodiscard]] RunLock prepare_run_directory(const TrainPlan& plan);

// Removes a run, but no other files of its directory. --overwrite calls it when all that may keep the new run from
// starting is known to be right: a run that cannot start costs no other one.
void remove_run(const std::filesystem::path& run);

// Whether a file that would be replaced begins as those that Kiln writes.
bool begins_with(const std::filesystem::path& path, std::string_view start);
// The same for a loss curve: `svg` is the new one.
bool may_replace_curve(const std::filesystem::path& path, std::string_view svg);

// The run directory without --output: runs/ and the current time.
std::string default_run_directory();

}  // namespace kiln
