#pragma once
// How kernels are written and launched. nvcc compiles them for a GPU; a host compiler compiles the same source for the
// emulator (dev/emulator).
#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define KILN_DEVICE __device__ __forceinline__
// Within a kernel: T* name, the dynamic shared memory of the launch; T (&name)[n], a static shared array.
#define KILN_DYNAMIC_SHARED(T, name)                                       \
    extern __shared__ __align__(1024) unsigned char kiln_dynamic_shared[]; \
    T* const name = reinterpret_cast<T*>(kiln_dynamic_shared)
#define KILN_SHARED(T, name, n) __shared__ T name[n]
// How many threads every multiprocessor of the architecture can hold.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define KILN_RESIDENT_THREADS 1024
#else
#define KILN_RESIDENT_THREADS 1536
#endif
// Goes before a loop that must be unrolled, so that the arrays it indexes stay in registers.
#define KILN_UNROLL _Pragma("unroll")
// A function's last parameter, or its only one: the emulator reports the caller's line.
#define KILN_AT
#define KILN_ONLY_AT

#else

#include "dev/emulator/core/simt.h"

#define KILN_DEVICE inline
#define KILN_RESIDENT_THREADS 1536
#define KILN_UNROLL
#define KILN_AT , SIMT_AT
#define KILN_ONLY_AT SIMT_AT
#define KILN_DYNAMIC_SHARED(T, name) T* const name = reinterpret_cast<T*>(simt::dynamic_shared())
#define KILN_SHARED(T, name, n) \
    static char name##_key;     \
    T(&name)[n] = *static_cast<T(*)[n]>(simt::shared_array(&name##_key, sizeof(T[n])))

#endif

#include <type_traits>
#include <utility>

#include "cuda/device/attributes.h"

namespace kiln {

struct LaunchConfig {
    dim3 grid, block;
    size_t shared_bytes = 0;  // dynamic
    cudaStream_t stream = nullptr;
};

// Of a block.
template <auto Kernel>
size_t static_shared_bytes() {
    return once_per_device([](int) {
        cudaFuncAttributes attributes{};
        CUDA_CHECK(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(Kernel)));
        return attributes.sharedSizeBytes;
    });
}
// Once, and as much as a block can have: a lower limit later would be below what a captured launch needs.
template <auto Kernel>
void allow_all_shared_memory() {
    once_per_device([](int) {
        const int dynamic = max_shared_bytes() - int(static_shared_bytes<Kernel>());
        CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(Kernel),
                                        cudaFuncAttributeMaxDynamicSharedMemorySize, dynamic));
        return dynamic;
    });
}

template <auto Kernel, class... P>
void launch_as(void (*)(P...), const LaunchConfig& config, std::type_identity_t<P>... args) {
#ifndef __CUDACC__
    simt::name_kernel<Kernel>();
#endif
    constexpr size_t kDefaultLimit = 48 << 10;  // static and dynamic
    if (config.shared_bytes > 0 && config.shared_bytes + static_shared_bytes<Kernel>() > kDefaultLimit) {
        allow_all_shared_memory<Kernel>();
    }
#ifdef __CUDACC__
    Kernel<<<config.grid, config.block, config.shared_bytes, config.stream>>>(args...);
#else
    simt::launch({reinterpret_cast<const void*>(Kernel), config.grid, config.block, config.shared_bytes, config.stream},
                 [=] { Kernel(args...); });
#endif
    CUDA_CHECK(cudaGetLastError());
}

// launch<norm_kernel<float>>({grid, block, shared_bytes, stream}, args...): queues the kernel. Throws Error.
template <auto Kernel, class... A>
void launch(const LaunchConfig& config, A&&... args) {
    launch_as<Kernel>(Kernel, config, std::forward<A>(args)...);
}

}  // namespace kiln
