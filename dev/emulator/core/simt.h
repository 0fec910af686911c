#pragma once
// What a CUDA source sees when a host compiler compiles it: the keywords, threadIdx and its like, barriers, warp
// operations, atomics and intrinsics. scheduler.cpp runs the kernels, one fiber a CUDA thread. dev/docs/emulator.md
// explains it. cuda/device/launch.h includes this file; nothing else has to.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

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

// A block's copy. Blocks run on several threads; under a sanitizer on one, so that a static with red zones will do.
#if defined(SIMT_ASAN) || defined(SIMT_TSAN)
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

inline constinit thread_local uint3 threadIdx{}, blockIdx{};
inline constinit thread_local dim3 blockDim{}, gridDim{};
constexpr int warpSize = 32;

namespace simt {

// Where a kernel called something: a default argument, so that it is the caller's line.
struct Where {
    const char* file;
    int line;
    static constexpr Where here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
        return {file, line};
    }
};

// Ends the launch; what the host called last throws simt::Failure with kernel, block, thread, place and `what`, and
// with what the other threads wait for.
[[noreturn]] void fail(const char* what, Where where);

int thread_rank();  // of the running CUDA thread in its block
inline int lane() {
    return thread_rank() & 31;
}
unsigned char* dynamic_shared();  // of the running block, NaN at its start
size_t dynamic_shared_bytes();
void* shared_array(const void* key, size_t bytes);  // the running block's for this key, NaN at first

// --- Meetings. The last thread to come does `op` for all: args[i] points into thread i's suspended stack.
using WarpOp = void (*)(void* const* args, uint32_t mask);
using WarpgroupOp = void (*)(void* const* args);
void meet_warp(uint32_t mask, void* args, WarpOp op, const char* name, Where where);
void meet_warpgroup(void* args, WarpgroupOp op, const char* name, Where where);  // 128 threads, all of them
// Returns the votes of the whole block. Threads that returned count no more.
unsigned meet_block(const char* name, unsigned vote, Where where);
// PTX's bar.sync: `threads` threads of the block, in whole warps, meet at barrier `id`. arrive: goes on at once.
void meet_named(int id, int threads, bool arrive, Where where);
// Until another block, which has started, stores `value`: blocks run from start to end, one on each thread of the host.
void wait_for_block(const int* word, int value, Where where);
// Others run until `holds`, which looks at memory that they change.
void wait_until(bool (*holds)(const void* context), const void* context, const char* name, Where where);

// --- Asynchronous copies.
// cp.async: `bytes` from src (zeros if null) reach dst when the thread waits; until then dst is NaN.
void copy_async(void* dst, const void* src, int bytes, Where where);
void copy_async_commit();
void copy_async_wait(int pending_groups);
// Something that another unit of the chip does at a moment of its choice, before the block ends.
void defer(std::function<void()> work);

// --- What ThreadSanitizer knows of order; nothing without it.
void happens_before(void* token);
void happens_after(void* token);
// Its look-away: the emulator's own bookkeeping on memory of the kernel's.
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
struct Launch {
    const char* kernel;  // __PRETTY_FUNCTION__ of something that has the kernel as a template argument
    const void* address;
    dim3 grid, block;
    size_t shared_bytes;
    cudaStream_t stream;
};
// Puts the grid into its stream. Throws Failure on a configuration that no device of ours takes.
void launch(const Launch& config, std::function<void()> thread_body);

}  // namespace simt

#define SIMT_AT simt::Where where = simt::Where::here()

inline void __syncthreads(SIMT_AT) {
    simt::meet_block("__syncthreads", 0, where);
}
inline int __syncthreads_count(int predicate, SIMT_AT) {
    return int(simt::meet_block("__syncthreads_count", predicate != 0, where));
}
inline int __syncthreads_or(int predicate, SIMT_AT) {
    return simt::meet_block("__syncthreads_or", predicate != 0, where) != 0;
}
inline int __syncthreads_and(int predicate, SIMT_AT) {
    return simt::meet_block("__syncthreads_and", predicate == 0, where) == 0;
}
void __syncwarp(unsigned mask = ~0u, SIMT_AT);
inline void __threadfence() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
inline void __threadfence_block() {
    __threadfence();
}

// --- Shuffles and votes.
namespace simt {

template <class T>
struct ShuffleArgs {
    T value, result;
    int source;
};

template <class T>
T shuffle(uint32_t mask, T value, int source, const char* name, Where where) {
    ShuffleArgs<T> mine{value, value, source};
    meet_warp(
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

template <class T, class Op>
T reduce_warp(uint32_t mask, T value, const char* name, Where where, Op) {
    meet_warp(
        mask, &value,
        [](void* const* args, uint32_t present) {
            T result = *static_cast<T*>(args[std::countr_zero(present)]);
            for (int l = std::countr_zero(present) + 1; l < 32; ++l) {
                if (present >> l & 1) result = Op{}(result, *static_cast<T*>(args[l]));
            }
            for (int l = 0; l < 32; ++l) {
                if (present >> l & 1) *static_cast<T*>(args[l]) = result;
            }
        },
        name, where);
    return value;
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
inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_AT) {
    return simt::reduce_warp(mask, predicate ? 1u << simt::lane() : 0u, "__ballot_sync", where,
                             std::bit_or<unsigned>{});
}
inline int __any_sync(unsigned mask, int predicate, SIMT_AT) {
    return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, SIMT_AT) {
    return __ballot_sync(mask, !predicate, where) == 0;
}

// --- Atomics: real ones, so that blocks may meet in them and ThreadSanitizer knows them.
namespace simt {

template <class T, class Op>
T read_modify_write(T* p, Op op) {
    using U = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    U* word = reinterpret_cast<U*>(p);
    U old = __atomic_load_n(word, __ATOMIC_RELAXED);
    for (;;) {
        const U next = std::bit_cast<U>(static_cast<T>(op(std::bit_cast<T>(old))));
        if (__atomic_compare_exchange_n(word, &old, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            return std::bit_cast<T>(old);
        }
    }
}

}  // namespace simt

template <class T>
T atomicAdd(T* p, std::type_identity_t<T> value) {
    return simt::read_modify_write(p, [&](T old) { return old + value; });
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> value) {
    return simt::read_modify_write(p, [&](T old) { return old > value ? old : value; });
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> value) {
    return simt::read_modify_write(p, [&](T old) { return old < value ? old : value; });
}
template <class T>
T atomicOr(T* p, std::type_identity_t<T> value) {
    return simt::read_modify_write(p, [&](T old) { return old | value; });
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> value) {
    return simt::read_modify_write(p, [&](T) { return value; });
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
    return simt::read_modify_write(p, [&](T old) { return old == expected ? value : old; });
}

// --- Loads and stores with hints, and intrinsics, by what they mean. Approximations are exact here.
template <class T>
T __ldg(const T* p) {
    return *p;
}
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
inline float rsqrtf(float x) {
    return 1.0f / std::sqrt(x);
}
inline float __expf(float x) {
    return std::exp(x);
}
inline float __logf(float x) {
    return std::log(x);
}
inline float __fdividef(float a, float b) {
    return a / b;
}
inline float __frcp_rn(float x) {
    return 1.0f / x;
}
inline unsigned __float_as_uint(float x) {
    return std::bit_cast<unsigned>(x);
}
inline float __uint_as_float(unsigned x) {
    return std::bit_cast<float>(x);
}
inline int __float_as_int(float x) {
    return std::bit_cast<int>(x);
}
inline float __int_as_float(int x) {
    return std::bit_cast<float>(x);
}
inline int __popc(unsigned x) {
    return std::popcount(x);
}
inline int __clz(int x) {
    return std::countl_zero(unsigned(x));
}
inline int __ffs(int x) {
    return x == 0 ? 0 : std::countr_zero(unsigned(x)) + 1;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
    return unsigned(uint64_t(a) * b >> 32);
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
