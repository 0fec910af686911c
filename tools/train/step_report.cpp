#include "tools/train/step_report.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>

namespace kiln {

namespace {

[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...) {
    char buffer[256];
    va_list arguments;
    va_start(arguments, pattern);
    std::vsnprintf(buffer, sizeof buffer, pattern, arguments);
    va_end(arguments);
    return buffer;
}

std::string z_text(double z) {
    return std::isnan(z) ? "(z n/a)" : format("(z %+.2f)", z);
}

}  // namespace

std::string count_text(double n) {
    if (n >= 1e12) return format("%.2fT", n / 1e12);
    if (n >= 1e9) return format("%.2fG", n / 1e9);
    if (n >= 1e6) return format("%.1fM", n / 1e6);
    if (n >= 1e3) return format("%.1fk", n / 1e3);
    return format("%.0f", n);
}

std::string duration_text(double seconds) {
    if (!std::isfinite(seconds) || seconds < 0) return "?";
    const long s = std::lround(seconds);
    if (s >= 86400) return format("%ldd %02ldh", s / 86400, s % 86400 / 3600);
    if (s >= 3600) return format("%ldh %02ldm", s / 3600, s % 3600 / 60);
    if (s >= 60) return format("%ldm %02lds", s / 60, s % 60);
    return format("%lds", s);
}

std::string gpu_text(const GpuSample& s) {
    std::string line;
    const auto add = [&](const std::string& text) { line += (line.empty() ? "" : " | ") + text; };
    if (s.sm_clock_mhz) add(format("SM %d MHz", *s.sm_clock_mhz));
    if (s.memory_clock_mhz) add(format("memory %d MHz", *s.memory_clock_mhz));
    if (s.power_w)
        add(format("%.0f W", double(*s.power_w)) +
            (s.power_limit_w ? format(" of %.0f", double(*s.power_limit_w)) : ""));
    if (s.temperature_c) add(format("%d C", *s.temperature_c));
    if (s.memory_used_bytes) add(bytes_text(double(*s.memory_used_bytes)));
    if (s.utilisation_percent) add(format("busy %d%%", *s.utilisation_percent));
    if (s.throttled_by && !s.throttled_by->empty()) add("held back by " + *s.throttled_by);
    return line;
}

std::string step_line(const StepReport& r) {
    const int width = int(std::to_string(r.total_steps).size());
    std::string line = format("step %*lld/%lld | loss %.4f %s | norm %.4f %s | lr %.2e | %.0f ms | %s tok/s", width,
                              static_cast<long long>(r.step + 1), static_cast<long long>(r.total_steps), r.loss,
                              z_text(r.loss_z).c_str(), r.norm, z_text(r.norm_z).c_str(), double(r.learning_rate), r.ms,
                              count_text(r.tokens_per_second).c_str());
    line += std::isnan(r.mfu) ? " | MFU n/a" : format(" | MFU %.1f%%", 100 * r.mfu);
    line += " | " + bytes_text(double(r.memory_bytes)) + " | " + duration_text(r.seconds_left) + " left";
    if (!r.skipped.empty()) line += " | update skipped: " + r.skipped;
    return line;
}

}  // namespace kiln
