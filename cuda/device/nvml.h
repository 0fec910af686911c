#pragma once
// What NVIDIA's management library says of the current GPU. It comes with the driver and is loaded at run time: where
// it is missing, or refuses an answer (in containers, on laptops, on Tegra), there is none, and that is all.
#include <memory>

#include "cpu_reference/interface/backend.h"

namespace kiln {

class Nvml final : public GpuMonitor {
public:
    // Of the current CUDA device, found by its PCI address: NVML counts GPUs without regard to CUDA_VISIBLE_DEVICES.
    explicit Nvml(const char* library = "libnvidia-ml.so.1");
    bool available() const { return device_ != nullptr; }
    GpuSample sample()
        const override;  // a few calls into the driver, some 10 to 100 us each; no allocation on the device

private:
    struct Close {
        void operator()(void* library) const;
    };
    std::unique_ptr<void, Close> library_;
    void* device_ = nullptr;  // NVML's own; valid until the library is closed
};

}  // namespace kiln
