#pragma once
// What one training step has to tell, and the line that tells it.
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "cpu_reference/interface/backend.h"
#include "cpu_reference/interface/bytes_text.h"

namespace kiln {

struct StepReport {
    static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
    int64_t step = 0, total_steps = 0;            // step: updates before this one
    double loss = 0, norm = 0;                    // mean over the targets; L2 before clipping
    double loss_z = kUnknown, norm_z = kUnknown;  // among the last 128; NaN: not enough of them yet
    float learning_rate = 0;
    double ms = 0, tokens_per_second = 0;
    double mfu = kUnknown;  // of the device's peak; NaN: not known
    size_t memory_bytes = 0;
    double seconds_left = kUnknown;
    std::string skipped;  // why the update was not applied; empty: it was
};

std::string step_line(const StepReport& report);

// "1980 MHz, memory 3201 MHz | 543 of 700 W | 61 C | ..."; what the GPU does not tell is left out.
std::string gpu_text(const GpuSample& sample);

std::string count_text(double n);           // "124.4M"
std::string duration_text(double seconds);  // "1h 02m"

}  // namespace kiln
