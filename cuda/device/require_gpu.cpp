#include "cuda/device/require_gpu.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <sstream>
#include <vector>

#include "cuda/device/cuda_check.h"

namespace kiln {

namespace {

std::vector<std::string> words(std::string_view text) {
    std::istringstream in{std::string(text)};
    std::vector<std::string> result;
    for (std::string word; in >> word;) result.push_back(word);
    return result;
}

// Machine code also runs on later minor versions of its architecture. Exceptions: code for one chip only ("90a"), and
// Tegra, which needs its own code.
bool runs_on(const std::string& arch, int capability) {
    const int built = std::atoi(arch.c_str());
    const auto tegra = [](int c) { return c == 87 || c == 110; };
    if (arch.back() == 'a' || tegra(built) || tegra(capability)) return built == capability;
    return built / 10 == capability / 10 && built <= capability;
}

std::string version(int v) {
    return concat(v / 1000, ".", v % 1000 / 10);
}

std::string minimum_driver(int runtime) {  // the driver of a major version runs all its minor versions
    switch (runtime / 1000) {
        case 12: return "driver 525 or later";
        case 13: return "driver 580 or later";
        default: return concat("a driver for CUDA ", runtime / 1000);
    }
}

}  // namespace

std::string why_not(const GpuFacts& facts, std::string_view program, std::string_view built_for) {
    const std::string cpu_program(program.ends_with("cu") ? program.substr(0, program.size() - 2) : program);
    const auto answer = [&](const auto&... what) {
        return concat(what..., ". Without a GPU, use ", cpu_program, ", which runs on the CPU");
    };
    if (facts.driver_version == 0) {
        return answer("no NVIDIA driver on this machine. With an NVIDIA GPU, install ",
                      minimum_driver(facts.runtime_version),
                      "; in a container, pass the GPU in (docker run --gpus all)");
    }
    if (facts.driver_version / 1000 < facts.runtime_version / 1000 || facts.status == cudaErrorInsufficientDriver) {
        return answer("the NVIDIA driver has CUDA ", version(facts.driver_version), ", but this program needs CUDA ",
                      version(facts.runtime_version), ". Install ", minimum_driver(facts.runtime_version));
    }
    if (facts.status != cudaSuccess && facts.status != cudaErrorNoDevice) {
        return answer("the GPUs cannot be used: ", cudaGetErrorName(facts.status), ": ",
                      cudaGetErrorString(facts.status), ". See what nvidia-smi says");
    }
    if (facts.gpus == 0 && facts.visible_devices) {
        return answer("CUDA_VISIBLE_DEVICES=\"", *facts.visible_devices,
                      "\" leaves no GPU to use. Unset it, or name one that nvidia-smi -L lists");
    }
    if (facts.gpus == 0) return answer("no NVIDIA GPU found. See what nvidia-smi -L lists");
    if (built_for == kEmulated) return "";

    const int capability = 10 * facts.major + facts.minor;
    const auto archs = words(built_for);
    if (std::ranges::any_of(archs, [&](const auto& arch) { return runs_on(arch, capability); })) return "";
    std::string list;
    for (const auto& arch : archs) list += (list.empty() ? "sm_" : ", sm_") + arch;
    const auto wanted = concat(capability, capability == 90 || capability == 100 ? "a" : "");
    if (capability < 75) {
        return answer("built for ", list, "; ", facts.name, " is sm_", capability, ", older than the oldest that CUDA ",
                      version(facts.runtime_version), " supports, sm_75");
    }
    return answer("built for ", list, "; ", facts.name, " is sm_", capability, ": make GPU_ARCHS=", wanted, " ",
                  program);
}

Gpu require_gpu(std::string_view program) {
    GpuFacts facts;
    cudaDeviceProp properties{};
    CUDA_CHECK(cudaRuntimeGetVersion(&facts.runtime_version));
    if (taken(cudaDriverGetVersion(&facts.driver_version)) != cudaSuccess) facts.driver_version = 0;
    facts.status = taken(cudaGetDeviceCount(&facts.gpus));
    if (facts.status != cudaSuccess) facts.gpus = 0;
    if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) facts.visible_devices = visible;
    Gpu gpu;
    if (facts.gpus > 0) {
        int device = 0;
        CUDA_CHECK(cudaGetDevice(&device));
        CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
        facts.name = gpu.name = properties.name;
        facts.major = gpu.major = properties.major;
        facts.minor = gpu.minor = properties.minor;
        gpu.multiprocessors = properties.multiProcessorCount;
        gpu.l2_bytes = size_t(properties.l2CacheSize);
        facts.status = taken(cudaMemGetInfo(&gpu.free_bytes, &gpu.total_bytes));
    }
    const std::string why = why_not(facts, program, KILN_GPU_ARCHS);
    KILN_CHECK(why.empty(), why);
    return gpu;
}

bool built_for_emulator() {
    return KILN_GPU_ARCHS == kEmulated;
}

bool built_for(const std::string& arch) {
    const auto archs = words(KILN_GPU_ARCHS);
    return built_for_emulator() || std::ranges::find(archs, arch) != archs.end();
}

}  // namespace kiln
