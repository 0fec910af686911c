// libnvidia-ml.so.1 for tests, for which all emulated devices are one GPU. SIMT_NVML_FAILS names a call that fails.
// SIMT_NVML_REASONS is the bit mask of throttle reasons. SIMT_NVML_MIG=1 divides the GPU into instances.
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kSuccess = 0, kInvalidArgument = 2, kNotSupported = 3, kNotFound = 6;

int gpu;
int users;

int result(const char* call) {
    const char* failing = std::getenv("SIMT_NVML_FAILS");
    return failing && std::strcmp(failing, call) == 0 ? kNotSupported : kSuccess;
}

template <class T>
int answer(const char* call, const void* device, T* out, T value) {
    if (device != &gpu) return kInvalidArgument;
    const int status = result(call);
    if (status == kSuccess) *out = value;
    return status;
}

struct Memory {
    unsigned long long total, free, used;
};
struct Utilization {
    unsigned gpu, memory;
};

}  // namespace

extern "C" {

int simt_nvml_users() {
    return users;
}
int nvmlInit_v2() {
    const int status = result(__func__);
    users += status == kSuccess;
    return status;
}
int nvmlShutdown() {
    --users;
    return kSuccess;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** device) {
    if (std::strncmp(id, "0000:", 5) != 0) return kNotFound;
    return answer<void*>(__func__, &gpu, device, &gpu);
}
int nvmlDeviceGetClockInfo(void* device, int type, unsigned* mhz) {
    if (type != 1 && type != 2) return kInvalidArgument;
    return answer(__func__, device, mhz, type == 1 ? 1980u : 3201u);
}
int nvmlDeviceGetPowerUsage(void* device, unsigned* milliwatts) {
    return answer(__func__, device, milliwatts, 543210u);
}
int nvmlDeviceGetEnforcedPowerLimit(void* device, unsigned* milliwatts) {
    return answer(__func__, device, milliwatts, 700000u);
}
int nvmlDeviceGetTemperature(void* device, int sensor, unsigned* celsius) {
    return sensor == 0 ? answer(__func__, device, celsius, 61u) : kInvalidArgument;
}
int nvmlDeviceGetMemoryInfo(void* device, Memory* memory) {
    return answer(__func__, device, memory, {16ull << 30, 11ull << 30, 5ull << 30});
}
int nvmlDeviceGetUtilizationRates(void* device, Utilization* utilization) {
    return answer(__func__, device, utilization, {97, 42});
}
int nvmlDeviceGetMigMode(void* device, unsigned* current, unsigned* pending) {
    const char* set = std::getenv("SIMT_NVML_MIG");
    if (!set) return kNotSupported;
    *pending = 0;
    return answer(__func__, device, current, unsigned(std::atoi(set)));
}
// By the older of its two names.
int nvmlDeviceGetCurrentClocksThrottleReasons(void* device, unsigned long long* reasons) {
    const char* set = std::getenv("SIMT_NVML_REASONS");
    return answer(__func__, device, reasons, set ? std::strtoull(set, nullptr, 0) : 0ull);
}

}  // extern "C"
