// libcudart for the emulated device: the properties of the device.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <vector>

#include "dev/emulator/core/architecture.h"
#include "dev/emulator/core/internal.h"

namespace {

constexpr int kMultiprocessors = 2;
constexpr int kL2Bytes = 4 << 20;

// Tests set SIMT_GPUS to see what programs do on a machine without a GPU, or with several. CUDA_VISIBLE_DEVICES names
// those that the process sees, in their order, up to the first that is not there. A process uses one of them: its
// memory and its streams are those of whichever it has chosen.
std::vector<int> visible() {
    const char *const count = std::getenv("SIMT_GPUS"), *const names = std::getenv("CUDA_VISIBLE_DEVICES");
    const int all = count ? std::atoi(count) : 1;
    std::vector<int> gpus;
    if (names) {
        std::istringstream list(names);
        for (int gpu; list >> gpu && gpu >= 0 && gpu < all; list.ignore(1)) gpus.push_back(gpu);
    } else {
        for (int gpu = 0; gpu < all; gpu++) gpus.push_back(gpu);
    }
    return gpus;
}
int gpus() {
    return int(visible().size());
}
int chosen = 0;
int current() {
    return chosen + std::max(gpus(), 1) * simt::device_ordinal();
}

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
    *count = gpus();
    return simt::returned(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int ordinal) {
    if (ordinal == current()) return simt::returned(cudaSuccess);
    if (ordinal < 0 || ordinal >= gpus()) return simt::returned(cudaErrorInvalidDevice);
    chosen = ordinal;
    return simt::returned(cudaSuccess);
}
cudaError_t cudaGetDevice(int* ordinal) {
    *ordinal = current();
    return simt::returned(gpus() > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int size, int ordinal) {
    const std::vector<int> all = visible();
    const int gpu = all.empty() ? 0 : all[size_t(ordinal) % all.size()];
    const int written = std::snprintf(id, size_t(size), "0000:%02x:00.0", 7 + gpu);
    return simt::returned(written < size ? cudaSuccess : cudaErrorInvalidValue);
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
    const simt::Architecture& architecture = simt::architecture();
    properties->major = architecture.capability / 10;
    properties->minor = architecture.capability % 10;
    properties->multiProcessorCount = kMultiprocessors;
    properties->maxThreadsPerMultiProcessor = architecture.multiprocessor_threads;
    properties->maxBlocksPerMultiProcessor = architecture.multiprocessor_blocks;
    properties->maxThreadsPerBlock = simt::kMaxThreads;
    properties->regsPerBlock = properties->regsPerMultiprocessor = simt::kRegisters;
    properties->warpSize = 32;
    properties->totalGlobalMem = total;
    properties->sharedMemPerBlock = simt::kBlockShared;
    properties->sharedMemPerBlockOptin = size_t(architecture.block_shared);
    properties->sharedMemPerMultiprocessor = size_t(architecture.multiprocessor_shared);
    properties->reservedSharedMemPerBlock = size_t(architecture.reserved_shared);
    properties->l2CacheSize = kL2Bytes;
    return simt::returned(cudaSuccess);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    switch (attribute) {
        case cudaDevAttrMultiProcessorCount: *value = kMultiprocessors; return simt::returned(cudaSuccess);
        case cudaDevAttrComputeCapabilityMajor:
            *value = simt::architecture().capability / 10;
            return simt::returned(cudaSuccess);
        case cudaDevAttrComputeCapabilityMinor:
            *value = simt::architecture().capability % 10;
            return simt::returned(cudaSuccess);
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            *value = simt::architecture().block_shared;
            return simt::returned(cudaSuccess);
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
            *value = simt::architecture().multiprocessor_shared;
            return simt::returned(cudaSuccess);
        case cudaDevAttrL2CacheSize: *value = kL2Bytes; return simt::returned(cudaSuccess);
        default: return simt::returned(cudaErrorInvalidValue);
    }
}

}  // extern "C"
