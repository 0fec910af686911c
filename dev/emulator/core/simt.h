#pragma once
// What CUDA sources use when a host compiler compiles them: the keywords, threadIdx and similar variables, barriers,
// warp operations, atomics and intrinsics. scheduler.cpp runs the kernels with one fiber for each CUDA thread.
// dev/docs/emulator.md explains it. cuda/device/launch.h includes this file; other files do not include it.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <type_traits>
#include <typeinfo>

// The headers above define these for gcc as attributes that it does not know.
#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __grid_constant__
#undef __launch_bounds__
#undef __forceinline__
#undef __restrict__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __restrict__ __restrict

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define SIMT_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define SIMT_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define SIMT_TSAN 1
#endif

// One copy for each block. Blocks run on several threads, but under a sanitizer only on one: there a plain static
// works, and it has red zones.
#if defined(SIMT_ASAN) || defined(SIMT_TSAN)
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

inline constinit thread_local uint3 threadIdx{}, blockIdx{};
inline constinit thread_local dim3 blockDim{}, gridDim{};
constexpr int warpSize = 32;

namespace simt {

// Returns `exact` with an error of at most `ulps`, which the seed of set_errors() and the operands determine. The
// same operands always give the same result, as on a GPU.
float approximated(float exact, std::initializer_list<float> operands, int ulps);

// The line of a kernel that called a function. As a default argument it is the caller's line.
struct Where {
    const char* file;
    int line;
    static constexpr Where here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
        return {file, line};
    }
};

// Ends the launch. The host's current call throws simt::Failure with the kernel, block, thread, place and `what`, and
// with what the other threads wait for.
[[noreturn]] void fail(const char* what, Where where);

int thread_rank();  // of the running CUDA thread in its block
inline int lane() {
    return thread_rank() & 31;
}
unsigned char* dynamic_shared();  // of the running block; NaN when the block starts
size_t dynamic_shared_bytes();
// A static array of the running block, by key; NaN at first.
void* shared_array(const void* key, size_t bytes, Where where = Where::here());

// --- Barriers. The last thread that arrives does `op` for all: args[i] points into the suspended stack of thread i.
using WarpOp = void (*)(void* const* args, uint32_t mask);
using WarpgroupOp = void (*)(void* const* args);
void warp_barrier(uint32_t mask, void* args, WarpOp op, const char* name, Where where);
void warpgroup_barrier(void* args, WarpgroupOp op, const char* name, Where where);  // all 128 threads
// Returns the sum of the votes of the block. Threads that have returned are not counted.
unsigned block_barrier(const char* name, unsigned vote, Where where);
// bar.sync of PTX: waits until `threads` threads, in whole warps, have arrived at barrier `id`. arrive: does not wait.
void named_barrier(int id, int threads, bool arrive, Where where);
// Waits until another block stores `value`. That block must have started before, because a host thread runs a block
// from start to end.
void wait_for_block(const int* word, int value, Where where);
// Other threads run until `holds` returns true for memory that they change.
void wait_until(bool (*holds)(const void* context), const void* context, const char* name, Where where);

// --- Asynchronous copies.
// cp.async: `bytes` from src (zeros if null) are in dst when the thread has waited; until then dst is NaN.
void copy_async(void* dst, const void* src, int bytes, Where where);
void copy_async_commit();
void copy_async_wait(int pending_groups);
// Work that another unit of the chip does at some moment before the block ends.
void defer(std::function<void()> work);

// --- Tells ThreadSanitizer about order. Without ThreadSanitizer these do nothing.
void happens_before(void* token);
void happens_after(void* token);
// In its scope ThreadSanitizer ignores accesses: those of the emulator to the kernel's memory.
struct Unseen {
#ifdef SIMT_TSAN
    Unseen();
    ~Unseen();
#else
    Unseen() {}
#endif
};

void check_aligned(const void* pointer, size_t bytes, Where where);

// --- Launching.
// Tells the emulator the kernel's name: that of KernelName<Kernel>, as typeid gives it.
template <auto Kernel>
struct KernelName {};
void name_kernel(const void* kernel, const char* type_name);
template <auto Kernel>
void name_kernel() {
    name_kernel(reinterpret_cast<const void*>(Kernel), typeid(KernelName<Kernel>).name());
}

struct Launch {
    const void* kernel;
    dim3 grid, block;
    size_t shared_bytes;
    cudaStream_t stream;
};
// Queues the grid on its stream. Throws Failure if the device refuses the launch.
void launch(const Launch& config, std::function<void()> thread_body);

}  // namespace simt

#define SIMT_AT simt::Where where = simt::Where::here()

inline void __syncthreads(SIMT_AT) {
    simt::block_barrier("__syncthreads", 0, where);
}
inline int __syncthreads_count(int predicate, SIMT_AT) {
    return int(simt::block_barrier("__syncthreads_count", predicate != 0, where));
}
inline int __syncthreads_or(int predicate, SIMT_AT) {
    return simt::block_barrier("__syncthreads_or", predicate != 0, where) != 0;
}
void __syncwarp(unsigned mask = ~0u, SIMT_AT);

// --- Shuffles.
namespace simt {

template <class T>
struct ShuffleArgs {
    T value, result;
    int source;
};

template <class T>
T shuffle(uint32_t mask, T value, int source, const char* name, Where where) {
    ShuffleArgs<T> mine{value, value, source};
    warp_barrier(
        mask, &mine,
        [](void* const* args, uint32_t present) {
            for (int l = 0; l < 32; ++l) {
                if (!(present >> l & 1)) continue;
                auto& to = *static_cast<ShuffleArgs<T>*>(args[l]);
                if (present >> to.source & 1) {
                    to.result = static_cast<ShuffleArgs<T>*>(args[to.source])->value;
                } else {
                    std::memset(static_cast<void*>(&to.result), 0xff, sizeof(T));  // undefined on a GPU, NaN here
                }
            }
        },
        name, where);
    return mine.result;
}

}  // namespace simt

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_AT) {
    const int first = simt::lane() & ~(width - 1);
    return simt::shuffle(mask, value, first | (source & (width - 1)), "__shfl_sync", where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SIMT_AT) {
    const int lane = simt::lane(), source = lane ^ bits;
    const bool own = (source & ~(width - 1)) > (lane & ~(width - 1));
    return simt::shuffle(mask, value, own ? lane : source, "__shfl_xor_sync", where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_AT) {
    const int lane = simt::lane(), source = lane + int(delta);
    return simt::shuffle(mask, value, (lane & (width - 1)) + int(delta) >= width ? lane : source, "__shfl_down_sync",
                         where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_AT) {
    const int lane = simt::lane(), source = lane - int(delta);
    return simt::shuffle(mask, value, (lane & (width - 1)) < int(delta) ? lane : source, "__shfl_up_sync", where);
}

// --- Atomics. They are real atomics of the host, because blocks run on several threads, and ThreadSanitizer knows
// them.
template <class T>
T atomicAdd(T* p, std::type_identity_t<T> value) {
    using U = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    U* word = reinterpret_cast<U*>(p);
    U old = __atomic_load_n(word, __ATOMIC_RELAXED);
    for (;;) {
        const U sum = std::bit_cast<U>(static_cast<T>(std::bit_cast<T>(old) + value));
        if (__atomic_compare_exchange_n(word, &old, sum, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            return std::bit_cast<T>(old);
        }
    }
}

// --- Loads and stores with cache hints, and intrinsics.
template <class T>
T __ldcs(const T* p) {
    return *p;
}
template <class T>
T __ldcg(const T* p) {
    return *p;
}
template <class T>
void __stcs(T* p, std::type_identity_t<T> value) {
    *p = value;
}
template <class T>
void __stcg(T* p, std::type_identity_t<T> value) {
    *p = value;
}
// Approximations err by no more than the CUDA C++ Programming Guide says ("Mathematical Functions").
inline float rsqrtf(float x) {
    return simt::approximated(1.0f / std::sqrt(x), {x}, 2);
}
inline float __expf(float x) {
    return simt::approximated(std::exp(x), {x}, 2 + int(1.173f * std::min(std::fabs(x), 128.0f)));
}
inline float __fdividef(float a, float b) {
    if (std::fabs(b) > 0x1p126f && std::isfinite(b)) return std::isinf(a) ? NAN : 0.0f;
    return simt::approximated(a / b, {a, b}, 2);
}
inline unsigned __float_as_uint(float x) {
    return std::bit_cast<unsigned>(x);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>;
    return T(a) > T(b) ? T(a) : T(b);
}
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>;
    return T(b) < T(a) ? T(b) : T(a);
}
