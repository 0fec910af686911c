#pragma once
// The results of one training step, and the line that shows them.
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "cpu_reference/interface/backend.h"
#include "cpu_reference/interface/text.h"

namespace kiln {

struct StepReport {
    static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
    int64_t step = 0, total_steps = 0;            // step: from 0 (progress.h)
    double loss = 0, norm = 0;                    // mean over the targets; L2 before clipping
    double loss_z = kUnknown, norm_z = kUnknown;  // among the last 128 values; NaN until there are 128
    float overflow_scale = 0;  // the new, lower loss scale if a scaled float16 gradient overflowed, else 0
    float learning_rate = 0;
    double ms = 0, tokens_per_second = 0;
    double mfu = kUnknown;  // relative to the device's peak; NaN if that is not known
    size_t memory_bytes = 0;
    double seconds_left = kUnknown;
    std::string skipped;  // why the update was not applied; empty: it was applied

    // AdamW's second moment is a mean of squares, so a gradient whose square is infinite in float32 must not be applied
    // either. The GPU kernel that decides this adds the squares in float32.
    bool is_finite() const { return std::isfinite(loss) && norm * norm <= std::numeric_limits<float>::max(); }
};

// At most `columns` wide: what matters least is left out first. The columns of successive lines are aligned, unless a
// number is unusually long.
inline constexpr int kMaxColumns = 100;
std::string step_line(const StepReport& report, int columns = kMaxColumns);

// Chooses the steps that get a line.
class StepLines {
public:
    using Clock = std::chrono::steady_clock;

    // Every step whose number, counted from 1, is a multiple of `every`. 0: about one step a second on a terminal, else
    // every step.
    StepLines(int64_t every, bool terminal) : every_(every), terminal_(terminal) {}

    // The first and the last step and those without an update always get a line.
    bool due(const StepReport& report, Clock::time_point now = Clock::now());

private:
    int64_t every_;
    bool terminal_;
    std::optional<Clock::time_point> shown_;
};

// "1980 MHz, memory 3201 MHz | 543 of 700 W | 61 C | ...", without the values that the GPU does not give.
std::string gpu_text(const GpuSample& sample);

}  // namespace kiln
