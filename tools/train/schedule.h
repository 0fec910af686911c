#pragma once
// The learning rate of each step: a linear warm-up, then one of llm.c's schedules. All but `constant` end at
// final_fraction of the peak.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"

namespace kiln {

struct Schedule {
    double peak = 3e-4;
    int64_t warmup_steps = 0, total_steps = 1;
    double final_fraction = 0.1;  // of the peak, reached at total_steps; constant ignores it
    double decay_fraction = 0.2;  // wsd: the last part of the run, in which the rate falls
    double (*rate)(const Schedule& s, double step) = nullptr;  // after the warm-up; from kSchedules

    double floor() const { return peak * final_fraction; }
    double drop() const { return peak - floor(); }
    // The fraction of the steps from `start` to the end of the run that is done at `step`.
    double done(double start, double step) const {
        const double length = double(total_steps) - start;
        return length <= 0 ? 1.0 : std::clamp((step - start) / length, 0.0, 1.0);
    }
};

struct NamedSchedule {
    const char* name;
    double (*rate)(const Schedule& s, double step);
};

inline constexpr NamedSchedule kSchedules[] = {
    {"constant", [](const Schedule& s, double) { return s.peak; }},
    {"linear", [](const Schedule& s, double step) { return s.peak - s.drop() * s.done(double(s.warmup_steps), step); }},
    {"cosine",
     [](const Schedule& s, double step) {
         return s.floor() + s.drop() * 0.5 * (1 + std::cos(M_PI * s.done(double(s.warmup_steps), step)));
     }},
    // Warm-up, stable, decay, with 1 - sqrt in the decay: A. Hagele et al., arXiv:2405.18392.
    {"wsd",
     [](const Schedule& s, double step) {
         const double start = std::max(double(s.warmup_steps), double(s.total_steps) * (1 - s.decay_fraction));
         return step < start ? s.peak : s.floor() + s.drop() * (1 - std::sqrt(s.done(start, step)));
     }},
};

inline std::vector<std::string> schedule_names() {
    std::vector<std::string> names;
    for (const NamedSchedule& schedule : kSchedules) names.emplace_back(schedule.name);
    return names;
}

inline auto find_schedule(const std::string& name) {
    for (const NamedSchedule& schedule : kSchedules) {
        if (name == schedule.name) return schedule.rate;
    }
    throw UsageError(concat("--schedule: there is no schedule \"", name, "\""));
}

// The rate of update number `step`; the first update is number 0. After total_steps the rate stays at its final value.
inline float learning_rate(const Schedule& s, int64_t step) {
    if (step < s.warmup_steps) return float(s.peak * double(step + 1) / double(s.warmup_steps));
    return float(s.rate(s, double(step)));
}

}  // namespace kiln
