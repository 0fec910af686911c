#pragma once
// Whether this machine's GPU can run this build: asked before anything else, and answered in words.
#include <cuda_runtime.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace kiln {

struct Gpu {
    std::string name;  // cudaDeviceProp::name
    int major = 0, minor = 0;
    int multiprocessors = 0;
    size_t total_bytes = 0, free_bytes = 0;
    size_t l2_bytes = 0;
};

// What the answer depends on.
struct GpuFacts {
    int driver_version = 0;            // the CUDA version that the driver offers, 1000 major + 10 minor; 0: no driver
    int runtime_version = 0;           // of the runtime linked, likewise
    cudaError_t status = cudaSuccess;  // of cudaGetDeviceCount, and of the first call that needs the GPU itself
    int gpus = 0;
    std::optional<std::string> visible_devices = {};  // CUDA_VISIBLE_DEVICES
    std::string name = {};                            // of the current one, if there is any
    int major = 0, minor = 0;
};

// Why `program`, built for the architectures `built_for` ("80 90a"; kEmulated: for no GPU), cannot run; empty: it can.
std::string why_not(const GpuFacts& facts, std::string_view program, std::string_view built_for);
inline constexpr std::string_view kEmulated = "the emulator";

// The current GPU. Throws Error that says what is missing and how to mend it, and names the program that needs no GPU:
// `program` without its "cu".
Gpu require_gpu(std::string_view program);

bool built_for_emulator();

}  // namespace kiln
