#include "tools/train/step_report.h"

#include <algorithm>
#include <cmath>

#include "cpu_reference/interface/text.h"

namespace kiln {

std::string gpu_text(const GpuSample& s) {
    std::string line;
    const auto add = [&](const std::string& text) { line += (line.empty() ? "" : " | ") + text; };
    if (s.sm_clock_mhz) add(formatted("SM %d MHz", *s.sm_clock_mhz));
    if (s.memory_clock_mhz) add(formatted("memory %d MHz", *s.memory_clock_mhz));
    if (s.power_w)
        add(formatted("%.0f W", double(*s.power_w)) +
            (s.power_limit_w ? formatted(" of %.0f", double(*s.power_limit_w)) : ""));
    if (s.temperature_c) add(formatted("%d C", *s.temperature_c));
    if (s.memory_used_bytes) add(bytes_text(double(*s.memory_used_bytes)));
    if (s.utilisation_percent) add(formatted("busy %d%%", *s.utilisation_percent));
    if (s.throttled_by && !s.throttled_by->empty()) add("throttled by " + *s.throttled_by);
    return line;
}

std::string step_line(const StepReport& r, int columns) {
    struct Field {
        int rank;  // fields with a large rank are left out first
        std::string text;
    };
    const auto long_long = [](int64_t n) { return static_cast<long long>(n); };
    const auto z_text = [](double z) { return std::isnan(z) ? "" : formatted(" (z %+.2f)", z); };
    const int width = int(std::to_string(r.total_steps).size());
    std::vector<Field> fields = {
        {0, formatted("step %*lld/%lld", width, long_long(r.step + 1), long_long(r.total_steps))},
        {1, formatted(" | loss %6.4f", r.loss)},
        {8, z_text(r.loss_z)},
        {5, formatted(" | norm %6.4f", r.norm)},
        {9, z_text(r.norm_z)},
        {4, formatted(" | lr %.2e", double(r.learning_rate))},
        {7, formatted(" | %4.0f ms", r.ms)},
        {3, formatted(" | %6s tok/s", count_text(r.tokens_per_second).c_str())},
        {6, std::isnan(r.mfu) ? "" : formatted(" | MFU %4.1f%%", 100 * r.mfu)},
        {1, r.skipped.empty() ? "" : " | update skipped: " + r.skipped},
        {2, formatted(" | %-12s", (duration_text(r.seconds_left) + " left").c_str())},
    };
    const auto length = [&] {
        size_t sum = 0;
        for (const Field& field : fields) sum += field.text.size();
        return sum;
    };
    for (int rank = 9; rank > 1 && length() > size_t(columns); rank--) {
        std::erase_if(fields, [&](const Field& field) { return field.rank == rank; });
    }
    std::string line;
    for (const Field& field : fields) line += field.text;
    line.erase(line.find_last_not_of(' ') + 1);
    return line.substr(0, size_t(columns));
}

bool StepLines::due(const StepReport& report, Clock::time_point now) {
    const bool always = report.step + 1 == report.total_steps || !report.skipped.empty() || !shown_;
    const bool chosen = every_ > 0   ? (report.step + 1) % every_ == 0
                        : !terminal_ ? true
                                     : shown_ && now - *shown_ >= std::chrono::seconds(1);
    if (always || chosen) shown_ = now;
    return always || chosen;
}

}  // namespace kiln
