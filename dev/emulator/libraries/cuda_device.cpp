// libcudart for the emulated device: the properties of the device.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "dev/emulator/core/internal.h"

namespace {

constexpr int kMultiprocessors = 2;
constexpr int kSharedBytes = 227 << 10;
constexpr int kL2Bytes = 4 << 20;

// Tests set these to see what programs do on another machine, for example SIMT_GPUS=0 and SIMT_CAPABILITY=7.
int from_environment(const char* name, int otherwise) {
    const char* text = std::getenv(name);
    return text ? std::atoi(text) : otherwise;
}
int major_capability() {
    return from_environment("SIMT_CAPABILITY", 9);
}

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
    *count = from_environment("SIMT_GPUS", 1);
    return simt::returned(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int ordinal) {
    return simt::returned(ordinal == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int* ordinal) {
    *ordinal = 0;
    return simt::returned(cudaSuccess);
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int size, int) {
    return simt::returned(std::snprintf(id, size_t(size), "0000:07:00.0") < size ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaDriverGetVersion(int* version) {
    *version = CUDART_VERSION;
    return simt::returned(cudaSuccess);
}
cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = CUDART_VERSION;
    return simt::returned(cudaSuccess);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    *properties = {};
    std::strcpy(properties->name, "emulated device");
    properties->major = major_capability();
    properties->multiProcessorCount = kMultiprocessors;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->warpSize = 32;
    properties->totalGlobalMem = total;
    properties->sharedMemPerBlockOptin = kSharedBytes;
    properties->l2CacheSize = kL2Bytes;
    return simt::returned(cudaSuccess);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    switch (attribute) {
        case cudaDevAttrMultiProcessorCount: *value = kMultiprocessors; return simt::returned(cudaSuccess);
        case cudaDevAttrComputeCapabilityMajor: *value = major_capability(); return simt::returned(cudaSuccess);
        case cudaDevAttrComputeCapabilityMinor: *value = 0; return simt::returned(cudaSuccess);
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = kSharedBytes; return simt::returned(cudaSuccess);
        case cudaDevAttrL2CacheSize: *value = kL2Bytes; return simt::returned(cudaSuccess);
        default: return simt::returned(cudaErrorInvalidValue);
    }
}

}  // extern "C"
