#include "tools/train/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/links.h"
#include "tools/checkpoint/names.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

constexpr const char* kFiles[] = {kConfigFile, kMainLog, kMetrics, kLossCurve};

// What remove_run() frees.
uint64_t checkpoint_bytes(const fs::path& run) {
    uint64_t bytes = 0;
    for (const CheckpointRef& checkpoint : kiln_checkpoints(run)) {
        for (const auto& entry : fs::directory_iterator(checkpoint.directory)) {
            if (entry.is_regular_file()) bytes += entry.file_size();
        }
    }
    return bytes;
}

}  // namespace

RunDirectory::RunDirectory(const fs::path& path)
    : path_(path), fd_(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    KILN_CHECK(fd_ >= 0, "--output (-o) ", path.string(), ": cannot be opened: ", std::strerror(errno),
               "; give another directory");
}

RunDirectory::~RunDirectory() {
    if (fd_ >= 0) close(fd_);
}

fs::path RunDirectory::now() const {
    std::error_code error;
    const fs::path real = fs::read_symlink(concat("/proc/self/fd/", fd_), error);
    if (error || fs::equivalent(real, path_, error)) return path_;  // without /proc it is not known
    return fs::is_directory(real, error) ? real : fs::path();       // of a removed one: "PATH (deleted)"
}

RunLock::RunLock(const fs::path& run) : directory_(run) {
    // Some network file systems have no locks. A run there is not protected.
    if (flock(directory_.descriptor(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
    throw Error(concat("--output (-o) ", run.string(),
                       ": another process trains there; wait until it ends, or give another directory"));
}

RunLock::~RunLock() {
    const fs::path run = directory_.now();
    if (created.empty() || run.empty()) return;
    std::error_code error, ignored;
    for (fs::directory_iterator entry(run, error), end; !error && entry != end; entry.increment(error)) {
        const fs::path name = entry->path().filename();
        const bool empty_log = (name == kMainLog || name == kMetrics) && entry->file_size(ignored) == 0;
        if (!empty_log && name != kConfigFile) return;
    }
    if (error) return;  // it may hold anything
    for (const char* file : {kMainLog, kMetrics, kConfigFile}) fs::remove(run / file, ignored);
    for (const fs::path& directory : created) fs::remove(directory, ignored);  // fails unless it is empty
}

bool begins_with(const fs::path& path, std::string_view start) {
    std::string head(start.size(), '\0');
    head.resize(InputFile(path).read(head.data(), head.size()));
    return head == start;
}

bool may_replace_curve(const fs::path& path, std::string_view svg) {
    return !fs::is_regular_file(status_of(path)) || begins_with(path, svg.substr(0, svg.find('\n')));
}

std::string default_run_directory() {
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    char text[32];
    std::strftime(text, sizeof(text), "runs/%Y%m%d-%H%M%S", &local);
    return text;
}

RunLock prepare_run_directory(const TrainPlan& plan) {
    const TrainOptions& o = plan.options;
    const fs::path run = o.output;
    std::error_code error;
    std::vector<fs::path> created;
    try {
        created = make_directories(run);
    } catch (const Error& failure) {
        throw Error(concat("--output (-o) ", failure.what(), "; give another directory"));
    }
    RunLock lock(run);
    lock.created = std::move(created);
    const auto checkpoints = list_checkpoints(run);
    const auto is_of_kiln = [](const CheckpointRef& one) { return fs::exists(one.directory / "manifest.json"); };
    if (!o.resume && !o.overwrite && !checkpoints.empty() && std::ranges::none_of(checkpoints, is_of_kiln)) {
        throw UsageError(concat("--output (-o) ", o.output, " holds ", checkpoints[0].directory.filename().string(),
                                ", which is not a checkpoint of Kiln; give another directory, or start a run beside "
                                "it with --overwrite, which does not remove it"));
    }
    if (!o.resume && !o.overwrite && !checkpoints.empty()) {
        throw UsageError(concat("--output (-o) ", o.output, " already holds ",
                                checkpoints[0].directory.filename().string(),
                                "; resume it with --resume, replace it with --overwrite, or give another directory"));
    }
    // The files of a run that ended before its first checkpoint are replaced. config.toml tells whose they are.
    if (!o.resume && !o.overwrite &&
        !(fs::exists(run / kConfigFile) && begins_with(run / kConfigFile, "# train_gpt2"))) {
        for (const char* file : kFiles) {
            if (!fs::is_regular_file(run / file) || fs::file_size(run / file) == 0) continue;
            throw UsageError(concat("--output (-o) ", o.output, ": holds a file ", file,
                                    " that would be replaced; replace it with --overwrite, or give another directory"));
        }
    }
    for (const char* file : kFiles) {
        KILN_CHECK(o.resume || !fs::is_directory(fs::symlink_status(run / file)), "--output (-o) ", o.output, ": ",
                   file, " is a directory where a file is expected; give another directory");
    }
    remove_leftovers(run);
    const fs::path probe = run / kWriteTest;
    try {
        write_file_atomic(probe, "x");
    } catch (const Error& failure) {
        throw Error(
            concat("--output (-o) ", o.output, ": cannot be written: ", failure.what(), "; give another directory"));
    }
    fs::remove(probe, error);
    // The weights and each state of the optimizer, in float32.
    const double needed = double(state_bytes(plan.config, plan.engine_options().optimizer));
    const fs::space_info space = fs::space(run, error);
    const double free = double(space.available) + (o.overwrite ? double(checkpoint_bytes(run)) : 0);
    KILN_CHECK(error || free > needed, "--output (-o) ", o.output, ": a checkpoint needs ", bytes_text(needed),
               ", but only ", bytes_text(free),
               " are free there; free some space, or give a directory on another disk");
    return lock;
}

void remove_run(const fs::path& run) {
    for (const CheckpointRef& checkpoint : kiln_checkpoints(run)) fs::remove_all(checkpoint.directory);
    for (const char* file : kFiles) fs::remove(run / file);
    for (const char* link : {kModelLink, kBestLink}) {
        if (fs::is_symlink(run / link)) fs::remove(run / link);
    }
}

}  // namespace kiln
