#pragma once
// What a program asks its backend apart from the engine. Each backend library defines these functions, and a program is
// linked against one of them.
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace kiln {

// Whether the engine accepts the EngineOptions that are for GPUs. It does not call the driver.
bool backend_is_gpu();

struct Device {
    std::string name;
    bool bfloat16 = false, tf32 = false;  // it can compute in these types
    bool fuses_gelu = false;              // its library applies GELU within a matmul, without another kernel
    size_t free_bytes = 0;                // of its memory; 0: unknown
    int capability = 0;                   // EngineOptions::capability
};
// Throws Error, with what is missing, if `program` cannot compute on this machine.
Device require_device(std::string_view program);

// How many devices this process can use. It calls the driver.
int device_count();

size_t available_memory_bytes();  // free on this machine, or in this process's control group; 0: unknown

// A GPU that need not be in this machine, by a name such as "RTX 4090", with the memory that its driver leaves. With an
// empty name, any that has every type. Throws UsageError if there is none of that name.
Device planned_device(const std::string& name);

struct GpuSample {
    std::optional<int> sm_clock_mhz, memory_clock_mhz;
    std::optional<float> power_w, power_limit_w;
    std::optional<int> temperature_c;
    std::optional<size_t> memory_used_bytes;  // by all processes
    std::optional<int> utilisation_percent;   // share of about the last second during which a kernel ran
    std::optional<std::string> throttled_by;  // "power cap, heat", or "" if the clocks are not reduced
};

class GpuMonitor {
public:
    virtual ~GpuMonitor() = default;
    virtual GpuSample sample() const = 0;
};
// Null if the device has no such sensors.
std::unique_ptr<GpuMonitor> make_gpu_monitor();

}  // namespace kiln
