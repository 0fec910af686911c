#pragma once
// What a program asks of the backend that it is linked against, beside the engine itself. Each backend library defines
// these once.
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace kiln {

// Whether EngineOptions from `precision` on are taken. Asks no driver.
bool backend_is_gpu();

struct Device {
    std::string name;
    bool bfloat16 = false, tf32 = false;  // computes in them
    size_t free_bytes = 0;                // of its memory; 0: not known
};
// Throws Error that says what is missing if `program` cannot compute on this machine.
Device require_device(std::string_view program);

struct GpuSample {
    std::optional<int> sm_clock_mhz, memory_clock_mhz;
    std::optional<float> power_w, power_limit_w;
    std::optional<int> temperature_c;
    std::optional<size_t> memory_used_bytes;  // by all processes
    std::optional<int> utilisation_percent;   // of the last second or so, in which a kernel ran
    std::optional<std::string> throttled_by;  // "power cap, heat", or "" when nothing holds the clocks back
};

class GpuMonitor {
public:
    virtual ~GpuMonitor() = default;
    virtual GpuSample sample() const = 0;
};
// Null where the device has nobody who would tell.
std::unique_ptr<GpuMonitor> make_gpu_monitor();

}  // namespace kiln
