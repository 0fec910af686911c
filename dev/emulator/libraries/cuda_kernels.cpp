// libcudart for the emulated device: kernels, what ptxas gave them, and which launches an architecture refuses.
#include <cuda_occupancy.h>
#include <cuda_runtime.h>
#include <cxxabi.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <regex>
#include <tuple>
#include <utility>

#include "dev/emulator/core/architecture.h"
#include "dev/emulator/core/kernels.h"
#include "dev/emulator/core/worker.h"

namespace simt {

namespace {

// The makefile writes the rows from dev/bench/kernel_resources.txt: for each of these architectures the registers, then
// for each the bytes of static shared memory, then of stack, then of spills.
constexpr int kColumns[] = {75, 80, 90, 100, 120};
struct Row {
    const char* name;
    int figures[4 * std::size(kColumns)];
};
constexpr Row kTable[] = {
#include "kernel_resources.inc"
};

struct Kernel {
    std::string name = "a kernel without a name";
    const Row* row = nullptr;  // null: not in the table
    bool loaded = false;
    size_t noted_shared = 0;                                // static bytes that a block had, for kernels of tests
    std::map<const Architecture*, size_t> allowed_dynamic;  // by cudaFuncSetAttribute
};
struct Kernels {
    std::mutex mutex;
    std::map<const void*, Kernel> by_address;
};
Kernels& kernels() {
    static Kernels all;
    return all;
}
Kernel find(const void* address) {
    const std::lock_guard lock(kernels().mutex);
    return kernels().by_address[address];
}

std::optional<Resources> by_ptxas(const Kernel& kernel) {
    if (!kernel.row) return std::nullopt;
    const auto column = size_t(std::ranges::find(kColumns, architecture().code) - kColumns);
    const auto figure = [&](size_t i) { return kernel.row->figures[i * std::size(kColumns) + column]; };
    return Resources{figure(0), figure(1), figure(3)};
}
size_t static_bytes(const Kernel& kernel) {
    return kernel.row ? size_t(by_ptxas(kernel)->shared_bytes) : kernel.noted_shared;
}

std::string on_architecture() {
    return " on sm_" + std::to_string(architecture().capability) + ": ";
}
std::string text_of_shared(size_t dynamic, size_t fixed) {
    return std::to_string(dynamic) + " bytes of dynamic and " + std::to_string(fixed) + " of static shared memory";
}

// Why a launch cannot have so much; empty: it can.
std::string too_much_shared(const Kernel& kernel, size_t dynamic) {
    const size_t fixed = static_bytes(kernel);
    const auto allowed = kernel.allowed_dynamic.find(&architecture());
    if (allowed == kernel.allowed_dynamic.end()) {
        if (dynamic + fixed <= kBlockShared) return "";
        return text_of_shared(dynamic, fixed) + ", of " + std::to_string(kBlockShared) +
               " without cudaFuncSetAttribute";
    }
    if (dynamic <= allowed->second && dynamic + fixed <= size_t(architecture().block_shared)) return "";
    return text_of_shared(dynamic, fixed) + "; cudaFuncSetAttribute allowed " + std::to_string(allowed->second) +
           " dynamic ones";
}

}  // namespace

std::optional<Resources> resources_of(const void* kernel) {
    return by_ptxas(find(kernel));
}

std::vector<std::string> kernels_of_table() {
    std::vector<std::string> names;
    for (const Row& row : kTable) names.emplace_back(row.name);
    return names;
}

int blocks_of_multiprocessor(const Resources& kernel, int threads, size_t dynamic_bytes) {
    cudaDeviceProp properties;
    cudaGetDeviceProperties(&properties, device_ordinal());
    const cudaOccDeviceProp device(properties);
    const cudaOccDeviceState state;
    cudaOccFuncAttributes attributes;
    attributes.maxThreadsPerBlock = kMaxThreads;
    attributes.numRegs = kernel.registers;
    attributes.sharedSizeBytes = size_t(kernel.shared_bytes);
    attributes.maxDynamicSharedSizeBytes = dynamic_bytes;
    attributes.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    attributes.numBlockBarriers = 1;
    cudaOccResult result;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &attributes, &state, threads, dynamic_bytes) !=
        CUDA_OCC_SUCCESS) {
        throw Failure("simt: cuda_occupancy.h does not know the architecture");
    }
    return result.activeBlocksPerMultiprocessor;
}

// dev/kernel_table.sh makes the same of ptxas's names.
void name_kernel(const void* kernel, const char* type_name) {
    const std::lock_guard lock(kernels().mutex);
    const auto [known, is_new] = kernels().by_address.try_emplace(kernel);
    if (!is_new) return;
    const std::unique_ptr<char, decltype(&std::free)> demangled(
        abi::__cxa_demangle(type_name, nullptr, nullptr, nullptr), &std::free);
    std::string name = type_name;
    if (demangled) {
        // simt::KernelName<&(void kiln::norm_kernel<float, (kiln::(anonymous namespace)::Kind)4>(float*, int))>
        name = demangled.get();
        for (const char* const unwanted : {R"(\(anonymous namespace\)::|kiln::)", R"(\([A-Za-z_: ]+\)(?=[0-9]))",
                                           R"(^simt::KernelName<&\(?(void )?)", R"(\(.*|>$)"}) {
            name = std::regex_replace(name, std::regex(unwanted), "");
        }
    }
    const auto* const row = std::ranges::find(kTable, name, &Row::name);
    known->second = {name, row == std::end(kTable) ? nullptr : row, false, 0, {}};
}

std::string kernel_name(const void* kernel) {
    return find(kernel).name;
}

void check_launch(const Launch& launch) {
    const Kernel kernel = find(launch.kernel);
    const auto refuse = [&](const std::string& what) {
        throw Failure("simt: " + kernel.name + " cannot be launched" + on_architecture() + what);
    };
    const auto [gx, gy, gz] = std::tuple(launch.grid.x, launch.grid.y, launch.grid.z);
    const auto [bx, by, bz] = std::tuple(launch.block.x, launch.block.y, launch.block.z);
    const uint64_t threads = uint64_t(bx) * by * bz;
    if (threads < 1 || threads > kMaxThreads || bz > kMaxBlockZ) {
        refuse("a block of " + text_of(uint3{bx, by, bz}) + " threads");
    }
    if (gx < 1 || gy < 1 || gz < 1 || gx > kMaxGridX || gy > kMaxGridYZ || gz > kMaxGridYZ) {
        refuse("a grid of " + text_of(uint3{gx, gy, gz}) + " blocks");
    }
    const auto known = by_ptxas(kernel);
    if (known && known->registers < 0) refuse("it has no code for this architecture");
    if (const std::string why = too_much_shared(kernel, launch.shared_bytes); !why.empty()) refuse(why);
    if (known && blocks_of_multiprocessor(*known, int(threads), launch.shared_bytes) == 0) {
        refuse("a block of " + std::to_string(threads) + " threads with " + std::to_string(known->registers) +
               " registers each, and " + text_of_shared(launch.shared_bytes, size_t(known->shared_bytes)) +
               ", is too large for a multiprocessor");
    }
}

bool load_kernel(const void* kernel) {
    const std::lock_guard lock(kernels().mutex);
    return std::exchange(kernels().by_address[kernel].loaded, true);
}

std::string note_static_shared(const Launch& launch, size_t bytes) {
    const std::lock_guard lock(kernels().mutex);
    Kernel& kernel = kernels().by_address[launch.kernel];
    if (kernel.row) {
        if (bytes <= static_bytes(kernel)) return "";
        return "the block has " + std::to_string(bytes) + " bytes of static shared memory, more than the " +
               std::to_string(static_bytes(kernel)) +
               " of dev/bench/kernel_resources.txt, which is old: run `make kernel-table`";
    }
    kernel.noted_shared = std::max(kernel.noted_shared, bytes);
    const std::string why = too_much_shared(kernel, launch.shared_bytes);
    return why.empty() ? "" : "the launch is refused" + on_architecture() + why;
}

}  // namespace simt

extern "C" {

cudaError_t cudaFuncSetAttribute(const void* address, cudaFuncAttribute attribute, int value) {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0)
        return simt::returned(cudaErrorInvalidValue);
    std::unique_lock lock(simt::kernels().mutex);
    simt::Kernel& kernel = simt::kernels().by_address[address];
    kernel.loaded = true;
    const size_t fixed = simt::static_bytes(kernel);
    if (size_t(value) + fixed > size_t(simt::architecture().block_shared)) {
        throw simt::Failure("simt: cudaFuncSetAttribute: " + kernel.name + simt::on_architecture() +
                            simt::text_of_shared(size_t(value), fixed) + ", of " +
                            std::to_string(simt::architecture().block_shared) + ": cudaErrorInvalidValue");
    }
    kernel.allowed_dynamic[&simt::architecture()] = size_t(value);
    lock.unlock();  // a launch takes the lock of the device first
    return simt::returned(cudaSuccess);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* address) {
    simt::load_kernel(address);
    const simt::Kernel kernel = simt::find(address);
    const auto known = simt::by_ptxas(kernel);
    if (known && known->registers < 0) return simt::returned(cudaErrorNoKernelImageForDevice);
    *attributes = {};
    attributes->sharedSizeBytes = simt::static_bytes(kernel);
    attributes->maxThreadsPerBlock = simt::kMaxThreads;
    if (!known) return simt::returned(cudaSuccess);
    attributes->numRegs = known->registers;
    while (simt::blocks_of_multiprocessor(*known, attributes->maxThreadsPerBlock, 0) == 0) {
        attributes->maxThreadsPerBlock -= warpSize;
    }
    return simt::returned(cudaSuccess);
}

}  // extern "C"
