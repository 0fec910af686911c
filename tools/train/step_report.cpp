#include "tools/train/step_report.h"

#include <cmath>

#include "cpu_reference/interface/text.h"

namespace kiln {

namespace {

std::string z_text(double z) {
    return std::isnan(z) ? "(z n/a)" : formatted("(z %+.2f)", z);
}

}  // namespace

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

std::string step_line(const StepReport& r) {
    const int width = int(std::to_string(r.total_steps).size());
    std::string line = formatted("step %*lld/%lld | loss %.4f %s | norm %.4f %s | lr %.2e | %.0f ms | %s tok/s", width,
                                 static_cast<long long>(r.step + 1), static_cast<long long>(r.total_steps), r.loss,
                                 z_text(r.loss_z).c_str(), r.norm, z_text(r.norm_z).c_str(), double(r.learning_rate),
                                 r.ms, count_text(r.tokens_per_second).c_str());
    line += std::isnan(r.mfu) ? " | MFU n/a" : formatted(" | MFU %.1f%%", 100 * r.mfu);
    line += " | " + bytes_text(double(r.memory_bytes)) + " | " + duration_text(r.seconds_left) + " left";
    if (!r.skipped.empty()) line += " | update skipped: " + r.skipped;
    return line;
}

}  // namespace kiln
