#pragma once
// The learning rate of each step: linear warm-up, then one of llm.c's schedules down to final_fraction of the peak.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "cpu_reference/interface/error.h"

namespace kiln {

enum class ScheduleKind : uint8_t { constant, linear, cosine, wsd };

struct Schedule {
    ScheduleKind kind = ScheduleKind::cosine;
    double peak = 3e-4;
    int64_t warmup_steps = 0, total_steps = 1;
    double final_fraction = 0.1;  // of the peak, reached at total_steps; constant ignores it
    double decay_fraction = 0.2;  // wsd: the last part of the run, in which the rate falls
};

inline ScheduleKind parse_schedule(const std::string& name) {
    if (name == "constant") return ScheduleKind::constant;
    if (name == "linear") return ScheduleKind::linear;
    if (name == "cosine") return ScheduleKind::cosine;
    if (name == "wsd") return ScheduleKind::wsd;
    throw UsageError(concat("--schedule: \"", name, "\" is not one of constant, linear, cosine, wsd"));
}

// The rate of update number `step`, the first being 0. Beyond total_steps it stays at its final value.
// wsd: "warm-up, stable, decay" with 1 - sqrt in the decay: A. Hagele et al., arXiv:2405.18392.
inline float learning_rate(const Schedule& s, int64_t step) {
    if (step < s.warmup_steps) return float(s.peak * double(step + 1) / double(s.warmup_steps));
    const double floor = s.peak * s.final_fraction, drop = s.peak - floor;
    // How much of the way from `start` to the end of the run lies behind us.
    const auto behind = [&](double start) {
        const double length = double(s.total_steps) - start;
        return length <= 0 ? 1.0 : std::clamp((double(step) - start) / length, 0.0, 1.0);
    };
    const double warmup = double(s.warmup_steps);
    switch (s.kind) {
        case ScheduleKind::constant:
            return float(s.peak);
        case ScheduleKind::linear:
            return float(s.peak - drop * behind(warmup));
        case ScheduleKind::cosine:
            return float(floor + drop * 0.5 * (1 + std::cos(M_PI * behind(warmup))));
        case ScheduleKind::wsd: {
            const double decay_start = std::max(warmup, double(s.total_steps) * (1 - s.decay_fraction));
            if (double(step) < decay_start) return float(s.peak);
            return float(floor + drop * (1 - std::sqrt(behind(decay_start))));
        }
    }
    return float(s.peak);
}

}  // namespace kiln
