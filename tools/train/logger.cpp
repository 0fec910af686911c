#include "tools/train/logger.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/write_all.h"
#include "tools/checkpoint/names.h"

namespace kiln {

using nlohmann::ordered_json;

namespace {

ordered_json number(double value) {
    return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

std::string json_line(const ordered_json& value) {
    // The texts of notes may contain bytes that are not UTF-8.
    return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

// O_NONBLOCK: a pipe in place of the log would be waited for. `path` is for the message. -1: it is a directory.
int open_log(int directory, const std::filesystem::path& name, const std::filesystem::path& path) {
    constexpr int kFlags = O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK;
    const int fd = TEMP_FAILURE_RETRY(::openat(directory, name.c_str(), kFlags, 0666));
    KILN_CHECK(fd >= 0 || errno == EISDIR, path.string(), ": cannot be opened for writing: ", std::strerror(errno));
    return fd;
}

}  // namespace

AppendFile::AppendFile(const std::filesystem::path& path, uint64_t keep_bytes)
    : AppendFile(path, open_log(AT_FDCWD, path, path), keep_bytes) {}

AppendFile::AppendFile(const std::filesystem::path& path, int fd, uint64_t keep_bytes) : AppendFile(path, fd) {
    size_ = keep_bytes;
    if (fd < 0) return;
    struct stat status {};
    const uint64_t bytes = ::fstat(fd_, &status) == 0 ? uint64_t(status.st_size) : 0;
    KILN_CHECK(S_ISREG(status.st_mode), path.string(), ": is not a regular file, so no log is written there");
    size_ = end_of_line(std::min(bytes, keep_bytes));
    torn_ = size_ < bytes;
    cut();
}

AppendFile::~AppendFile() {
    if (fd_ >= 0) ::close(fd_);
}

// The end of the last whole line within the first `before` bytes.
uint64_t AppendFile::end_of_line(uint64_t before) const {
    char part[4096];
    while (before > 0) {
        const size_t bytes = size_t(std::min<uint64_t>(before, sizeof(part)));
        const ssize_t got = TEMP_FAILURE_RETRY(::pread(fd_, part, bytes, off_t(before - bytes)));
        KILN_CHECK(got == ssize_t(bytes), path_.string(), ": cannot be read: ", std::strerror(got < 0 ? errno : EIO));
        const size_t newline = std::string_view(part, bytes).rfind('\n');
        before -= bytes;
        if (newline != std::string_view::npos) return before + newline + 1;
    }
    return 0;
}

void AppendFile::cut() {
    if (!torn_) return;
    KILN_CHECK(TEMP_FAILURE_RETRY(::ftruncate(fd_, off_t(size_))) == 0, path_.string(), ": cannot be cut to ", size_,
               " bytes: ", std::strerror(errno));
    torn_ = false;
}

void AppendFile::append(std::string_view line) {
    if (fd_ < 0) return;
    cut();  // what a full disk left of the line before
    torn_ = true;
    const int error =
        write_all(line, [this](std::string_view rest, size_t) { return ::write(fd_, rest.data(), rest.size()); });
    KILN_CHECK(error == 0, path_.string(), ": cannot be written: ", std::strerror(error), "; free some space");
    torn_ = false;
    size_ += line.size();
}

void AppendFile::sync() const {
    if (fd_ >= 0) sync_descriptor(fd_, path_);
}

void AppendFile::reopen(int directory) {
    const char* const directory_there =
        ": is a directory; remove it and resume the run, so that this log is written again";
    KILN_CHECK(fd_ >= 0, path_.string(), directory_there);
    const std::filesystem::path name = path_.filename();
    struct stat ours {
    }, named{};
    const bool found = ::fstat(fd_, &ours) == 0 && ::fstatat(directory, name.c_str(), &named, 0) == 0;
    if (found && ours.st_dev == named.st_dev && ours.st_ino == named.st_ino) return;
    const AppendFile now(path_, open_log(directory, name, path_), UINT64_MAX);
    KILN_CHECK(now.fd_ >= 0, path_.string(), directory_there);
    // The number of the descriptor stays, since another thread may sync it.
    KILN_CHECK(::dup3(now.fd_, fd_, O_CLOEXEC) >= 0, path_.string(), ": cannot be opened: ", std::strerror(errno));
    size_ = now.size_;
    torn_ = false;
    sync_descriptor(directory, path_.parent_path());
    throw Error(concat(path_.string(), ": was moved, replaced or removed while the run trained; the lines from here ",
                       "on are in the file that has this name now"));
}

RunLog::RunLog(const std::filesystem::path& run, const LogPosition& keep)
    : main_(run / kMainLog, keep.main_bytes), metrics_(run / kMetrics, keep.metrics_bytes) {
    sync_directory(run);  // the names of new logs are durable
}

void RunLog::sync() const {
    main_.sync();
    metrics_.sync();
}

void RunLog::reopen(int run_directory) {
    std::vector<std::string> told;
    for (AppendFile* file : {&main_, &metrics_}) {
        try {
            file->reopen(run_directory);
        } catch (const Error& error) {
            told.emplace_back(error.what());
        }
    }
    KILN_CHECK(told.empty(), join(told, "; "));
}

void RunLog::train(const StepReport& r) {
    char line[128];
    std::snprintf(line, sizeof line, "s:%lld trl:%.4f lr:%.6f norm:%.2f\n", static_cast<long long>(r.step), r.loss,
                  double(r.learning_rate), r.norm);
    main_.append(line);
    ordered_json json = {{"step", r.step},
                         {"train_loss", number(r.loss)},
                         {"loss_z", number(r.loss_z)},
                         {"norm", number(r.norm)},
                         {"norm_z", number(r.norm_z)},
                         {"learning_rate", r.learning_rate},
                         {"ms", r.ms},
                         {"tokens_per_second", number(r.tokens_per_second)},
                         {"mfu", number(r.mfu)},
                         {"memory_bytes", r.memory_bytes}};
    if (!r.skipped.empty()) json["skipped"] = r.skipped;
    metrics_.append(json_line(json));
}

void RunLog::validation(int64_t step, double loss) {
    char line[64];
    std::snprintf(line, sizeof line, "s:%lld tel:%.4f\n", static_cast<long long>(step), loss);
    main_.append(line);
    metrics_.append(json_line({{"step", step}, {"val_loss", number(loss)}}));
}

void RunLog::gpu(int64_t step, const GpuSample& s) {
    ordered_json values;
    const auto add = [&](const char* name, const auto& value) {
        if (value) values[name] = *value;
    };
    add("sm_clock_mhz", s.sm_clock_mhz);
    add("memory_clock_mhz", s.memory_clock_mhz);
    add("power_w", s.power_w);
    add("power_limit_w", s.power_limit_w);
    add("temperature_c", s.temperature_c);
    add("memory_used_bytes", s.memory_used_bytes);
    add("utilisation_percent", s.utilisation_percent);
    add("throttled_by", s.throttled_by);
    metrics_.append(json_line({{"step", step}, {"gpu", values}}));
}

void RunLog::sample(int64_t step, std::string_view text) {
    metrics_.append(json_line({{"step", step}, {"sample", text}}));
}

void RunLog::event(int64_t step, const std::string& name, const std::string& value) {
    main_.append(concat("s:", step, " ", name, ":", value, "\n"));
    metrics_.append(json_line({{"step", step}, {"note", name}, {"value", value}}));
}

}  // namespace kiln
