#pragma once
// What NVIDIA's management library says of the current GPU. It comes with the driver and is loaded at run time: where
// it is missing, or refuses an answer (in containers, on laptops, on Tegra), there is none, and that is all.
#include <cstddef>
#include <memory>
#include <optional>
#include <string>

namespace kiln {

struct GpuSample {
    std::optional<int> sm_clock_mhz, memory_clock_mhz;
    std::optional<float> power_w, power_limit_w;
    std::optional<int> temperature_c;
    std::optional<size_t> memory_used_bytes;  // by all processes
    std::optional<int> utilisation_percent;   // of the last second or so, in which a kernel ran
    std::optional<std::string> throttled_by;  // "power cap, heat", or "" when nothing holds the clocks back
};

class Nvml {
public:
    // Of the current CUDA device, found by its PCI address: NVML counts GPUs without regard to CUDA_VISIBLE_DEVICES.
    explicit Nvml(const char* library = "libnvidia-ml.so.1");
    bool available() const { return device_ != nullptr; }
    GpuSample sample() const;  // a few calls into the driver, some 10 to 100 us each; no allocation on the device

private:
    struct Close {
        void operator()(void* library) const;
    };
    std::unique_ptr<void, Close> library_;
    void* device_ = nullptr;  // NVML's own; valid until the library is closed
};

}  // namespace kiln
