#include "cuda/device/nvml.h"

#include <dlfcn.h>

namespace kiln {

namespace {

// From nvml.h, which is not always installed with CUDA: https://docs.nvidia.com/deploy/nvml-api
constexpr int kSuccess = 0;
constexpr int kClockSm = 1, kClockMemory = 2;  // nvmlClockType_t
constexpr int kTemperatureGpu = 0;             // nvmlTemperatureSensors_t
struct Memory {                                // nvmlMemory_t, bytes
    unsigned long long total, free, used;
};
struct Utilization {  // nvmlUtilization_t, per cent
    unsigned gpu, memory;
};
constexpr struct {  // nvmlClocksEventReason*; bit 0, an idle GPU, is left out
    unsigned long long bit;
    const char* text;
} kReasons[] = {{0x2, "clock setting"}, {0x4, "power cap"}, {0x8, "hardware slowdown"}, {0x10, "sync boost"},
                {0x20, "heat"},         {0x40, "overheat"}, {0x80, "power brake"},      {0x100, "display clocks"}};

// True if the library has the function and the call succeeded.
template <class... Arguments>
bool call(void* library, const char* name, Arguments... arguments) {
    void* symbol = library ? dlsym(library, name) : nullptr;
    return symbol && reinterpret_cast<int (*)(Arguments...)>(symbol)(arguments...) == kSuccess;
}

// The value that a call returns through its last argument.
template <class T, class... Arguments>
std::optional<T> ask(void* library, const char* name, Arguments... arguments) {
    T value{};
    return call(library, name, arguments..., &value) ? std::optional<T>(value) : std::nullopt;
}

template <class To, class From, class F>
std::optional<To> map(const std::optional<From>& from, F f) {
    return from ? std::optional<To>(To(f(*from))) : std::nullopt;
}

std::string text_of(unsigned long long reasons) {
    std::string text;
    for (const auto& reason : kReasons) {
        if (reasons & reason.bit) text += (text.empty() ? "" : ", ") + std::string(reason.text);
    }
    return text;
}

}  // namespace

void Nvml::close(void* library) {
    call(library, "nvmlShutdown");
    dlclose(library);
}

Nvml::Nvml(const char* library) {
    char address[32] = "";
    int device = 0;
    void* loaded = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!loaded) return;
    if (!call(loaded, "nvmlInit_v2")) {
        dlclose(loaded);
        return;
    }
    library_ = Handle<void*, close>(loaded);
    if (taken(cudaGetDevice(&device)) != cudaSuccess ||
        taken(cudaDeviceGetPCIBusId(address, sizeof address, device)) != cudaSuccess) {
        return;
    }
    device_ =
        ask<void*>(loaded, "nvmlDeviceGetHandleByPciBusId_v2", static_cast<const char*>(address)).value_or(nullptr);
}

GpuSample Nvml::sample() const {
    if (!device_) return {};
    void* const nvml = library_;
    // The PCI address is that of the whole GPU: with MIG, its memory and utilisation are those of all instances.
    unsigned mig = 0, pending = 0;
    const bool whole = !call(nvml, "nvmlDeviceGetMigMode", device_, &mig, &pending) || mig == 0;
    const auto to_int = [](unsigned x) { return int(x); };
    const auto milli = [](unsigned x) { return float(x) / 1000; };
    // Release 535 of the driver gave the function its first name; older drivers know only the second.
    auto reasons = ask<unsigned long long>(nvml, "nvmlDeviceGetCurrentClocksEventReasons", device_);
    if (!reasons) reasons = ask<unsigned long long>(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", device_);
    return {
        .sm_clock_mhz = map<int>(ask<unsigned>(nvml, "nvmlDeviceGetClockInfo", device_, kClockSm), to_int),
        .memory_clock_mhz = map<int>(ask<unsigned>(nvml, "nvmlDeviceGetClockInfo", device_, kClockMemory), to_int),
        .power_w = map<float>(ask<unsigned>(nvml, "nvmlDeviceGetPowerUsage", device_), milli),
        .power_limit_w = map<float>(ask<unsigned>(nvml, "nvmlDeviceGetEnforcedPowerLimit", device_), milli),
        .temperature_c = map<int>(ask<unsigned>(nvml, "nvmlDeviceGetTemperature", device_, kTemperatureGpu), to_int),
        .memory_used_bytes = map<size_t>(ask<Memory>(whole ? nvml : nullptr, "nvmlDeviceGetMemoryInfo", device_),
                                         [](const Memory& m) { return m.used; }),
        .utilisation_percent =
            map<int>(ask<Utilization>(whole ? nvml : nullptr, "nvmlDeviceGetUtilizationRates", device_),
                     [](const Utilization& u) { return u.gpu; }),
        .throttled_by = map<std::string>(reasons, text_of),
    };
}

}  // namespace kiln
