#pragma once
// Reads clocks, power and temperature of the current GPU from NVIDIA's management library. The library comes with the
// driver and is loaded at run time. If it is missing or refuses an answer (in containers, on laptops, on Tegra), the
// value is absent; this is not an error.
#include "cpu_reference/interface/backend.h"
#include "cuda/device/handles.h"

namespace kiln {

class Nvml final : public GpuMonitor {
public:
    // Finds the current CUDA device by its PCI address, because NVML's numbers ignore CUDA_VISIBLE_DEVICES.
    explicit Nvml(const char* library = "libnvidia-ml.so.1");
    bool available() const { return device_ != nullptr; }
    // Makes a few calls into the driver, 10 to 100 us each, and allocates nothing on the device.
    GpuSample sample() const override;

private:
    static void close(void* library);
    Handle<void*, close> library_;
    void* device_ = nullptr;  // NVML's handle, valid until the library is closed
};

}  // namespace kiln
