#include "tools/train/logger.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cpu_reference/interface/error.h"

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

}  // namespace

AppendFile::AppendFile(const std::filesystem::path& path, uint64_t keep_bytes) : path_(path) {
    // O_NONBLOCK: a pipe in place of the log would be waited for.
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
    KILN_CHECK(fd_ >= 0, path.string(), ": cannot be opened for writing: ", std::strerror(errno));
    struct stat status {};
    const bool known = ::fstat(fd_, &status) == 0;
    if (S_ISFIFO(status.st_mode)) {
        ::close(fd_);
        throw Error(concat(path.string(), ": is a pipe where a file is expected"));
    }
    size_ = known ? uint64_t(status.st_size) : 0;
    if (size_ <= keep_bytes) return;
    const int cut = ::ftruncate(fd_, off_t(keep_bytes));
    if (cut != 0) {
        const std::string reason = std::strerror(errno);
        ::close(fd_);
        throw Error(concat(path.string(), ": cannot be cut to ", keep_bytes, " bytes: ", reason));
    }
    size_ = keep_bytes;
}

AppendFile::~AppendFile() {
    if (fd_ >= 0) ::close(fd_);
}

void AppendFile::append(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(fd_, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        KILN_CHECK(written > 0, path_.string(), ": cannot be written: ", std::strerror(errno),
                   "; free some space and resume with --resume");
        text.remove_prefix(size_t(written));
        size_ += uint64_t(written);
    }
}

RunLog::RunLog(const std::filesystem::path& run, const LogPosition& keep)
    : main_(run / "main.log", keep.main_bytes), metrics_(run / "metrics.jsonl", keep.metrics_bytes) {}

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

void RunLog::note(int64_t step, const std::string& name, const std::string& value) {
    main_.append(concat("s:", step, " ", name, ":", value, "\n"));
    metrics_.append(json_line({{"step", step}, {"note", name}, {"value", value}}));
}

}  // namespace kiln
