#pragma once
// Whether this machine's GPU can run this build, and if not, why. Programs ask this first.
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
    int driver_version = 0;            // CUDA version of the driver, 1000 major + 10 minor; 0: no driver
    int runtime_version = 0;           // CUDA version of the linked runtime, in the same form
    cudaError_t status = cudaSuccess;  // of cudaGetDeviceCount or of the first call that uses the GPU
    int gpus = 0;
    std::optional<std::string> visible_devices = {};  // CUDA_VISIBLE_DEVICES
    std::string name = {};                            // of the current GPU, if there is one
    int major = 0, minor = 0;
};

// Why `program` cannot run, or "" if it can. built_for: its architectures ("80 90a"), or kEmulated.
std::string why_not(const GpuFacts& facts, std::string_view program, std::string_view built_for);
inline constexpr std::string_view kEmulated = "the emulator";

// The current GPU. Throws Error with what is missing, how to fix it, and the name of the program that needs no GPU:
// `program` without its "cu".
Gpu require_gpu(std::string_view program);

bool built_for_emulator();
// Whether the kernels are compiled for exactly this architecture ("90a"). The emulator has all of them.
bool built_for(const std::string& arch);

}  // namespace kiln
