#pragma once
// PTX instructions of sm_90a: mbarriers, TMA, wgmma. Each wrapper holds the instruction and, for the emulator, a call
// of dev/emulator/core/hopper.h. Compiled for another architecture, a kernel that uses them traps. See "PTX ISA",
// sections "mbarrier", "cp.async.bulk.tensor", "Asynchronous warpgroup level matrix instructions".
#include "cuda/device/tensor_map.h"
#include "cuda/kernels/ptx.cuh"

#ifndef __CUDACC__
#include "dev/emulator/core/hopper.h"
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define KILN_SM90_ASM(...) asm volatile(__VA_ARGS__)
#else
#define KILN_SM90_ASM(...) __trap()
#endif

namespace kiln {

// --- mbarriers, 8 bytes in shared memory. A phase is complete when all threads have arrived and all expected bytes
// have landed; the next phase begins at once. Phases have parity 0, 1, 0, ...

// One thread calls it, then fence_mbarrier_init; other threads may use the barrier after a __syncthreads.
KILN_DEVICE void mbarrier_init(uint64_t* barrier, unsigned arrivals KILN_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#else
    simt::mbarrier_init(barrier, arrivals, where);
#endif
}
// Makes the mbarriers that this thread initialised visible to TMA.
KILN_DEVICE void fence_mbarrier_init(KILN_ONLY_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
    simt::fence_mbarrier_init(where);
#endif
}
KILN_DEVICE void mbarrier_arrive(uint64_t* barrier KILN_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#else
    simt::mbarrier_arrive(barrier, 0, where);
#endif
}
// Arrives, and makes the phase wait for `bytes` from TMA: whole boxes, which include the zeros outside the tensor.
KILN_DEVICE void mbarrier_arrive_expect(uint64_t* barrier, unsigned bytes KILN_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                  : "memory");
#else
    simt::mbarrier_arrive(barrier, bytes, where);
#endif
}
// Waits until the phase of this parity is complete. On a new barrier, a wait for parity 1 ends at once. The emulator
// reports a wait that can never end.
KILN_DEVICE void mbarrier_wait(uint64_t* barrier, unsigned parity KILN_AT) {
#ifdef __CUDACC__
    uint32_t done = 0;
    while (!done) {
        KILN_SM90_ASM(
            "{\n"
            ".reg .pred p;\n"
            "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
            "selp.u32 %0, 1, 0, p;\n"
            "}"
            : "=r"(done)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
    }
#else
    simt::mbarrier_wait(barrier, parity, where);
#endif
}

// Makes what this thread wrote to shared memory visible to TMA stores and wgmma. Each writer calls it before the
// barrier at which the reader waits.
KILN_DEVICE void fence_proxy_async(KILN_ONLY_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("fence.proxy.async.shared::cta;" ::: "memory");
#else
    simt::fence_proxy_async(where);
#endif
}

// --- TMA: one thread copies a tile. Its corner lies at coordinates x, y, ... of the tensor, innermost first.

// Loads the descriptor early, so that the first copy does not wait for it.
KILN_DEVICE void prefetch_tensor_map([[maybe_unused]] const CUtensorMap* map) {
#ifdef __CUDACC__
    KILN_SM90_ASM("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#endif
}

// Copies to dst in shared memory; `barrier` counts the bytes that land. dst is aligned to 128 bytes, with a swizzle to
// 8 rows of the swizzle's width.
KILN_DEVICE void tma_load(void* dst, const CUtensorMap* map, int x, int y, uint64_t* barrier KILN_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
            shared_address(dst)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y)
        : "memory");
#else
    const int at[] = {x, y};
    simt::tma_load(dst, map, at, 2, barrier, where);
#endif
}
KILN_DEVICE void tma_load(void* dst, const CUtensorMap* map, int x, int y, int z, uint64_t* barrier KILN_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
        "[%2];" ::"r"(shared_address(dst)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
        : "memory");
#else
    const int at[] = {x, y, z};
    simt::tma_load(dst, map, at, 3, barrier, where);
#endif
}
KILN_DEVICE void tma_load(void* dst, const CUtensorMap* map, int x, int y, int z, int w, uint64_t* barrier KILN_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
        "[%2];" ::"r"(shared_address(dst)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w)
        : "memory");
#else
    const int at[] = {x, y, z, w};
    simt::tma_load(dst, map, at, 4, barrier, where);
#endif
}

// Copies from src in shared memory, aligned as for a load. Nothing is written outside the tensor.
KILN_DEVICE void tma_store(const CUtensorMap* map, int x, int y, const void* src KILN_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
                  "r"(shared_address(src)), "r"(x), "r"(y)
                  : "memory");
#else
    const int at[] = {x, y};
    simt::tma_store(map, at, 2, src, where);
#endif
}
KILN_DEVICE void tma_store(const CUtensorMap* map, int x, int y, int z, const void* src KILN_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
                  "r"(shared_address(src)), "r"(x), "r"(y), "r"(z)
                  : "memory");
#else
    const int at[] = {x, y, z};
    simt::tma_store(map, at, 3, src, where);
#endif
}
KILN_DEVICE void tma_store(const CUtensorMap* map, int x, int y, int z, int w, const void* src KILN_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
                  "r"(shared_address(src)), "r"(x), "r"(y), "r"(z), "r"(w)
                  : "memory");
#else
    const int at[] = {x, y, z, w};
    simt::tma_store(map, at, 4, src, where);
#endif
}
// Ends a group of this thread's stores.
KILN_DEVICE void tma_store_commit() {
#ifdef __CUDACC__
    KILN_SM90_ASM("cp.async.bulk.commit_group;" ::: "memory");
#else
    simt::tma_store_commit();
#endif
}
// Waits until all of this thread's groups except the kPending newest have read shared memory. A block must not end
// before its stores have.
template <int kPending>
KILN_DEVICE void tma_store_wait_read() {
#ifdef __CUDACC__
    KILN_SM90_ASM("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
#else
    simt::tma_store_wait(kPending, true);
#endif
}
// Waits until all groups except the kPending newest are in global memory.
template <int kPending>
KILN_DEVICE void tma_store_wait() {
#ifdef __CUDACC__
    KILN_SM90_ASM("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
#else
    simt::tma_store_wait(kPending, false);
#endif
}

// --- wgmma: a warpgroup (four warps, the first one's number a multiple of four) multiplies A (64, 16) by B (16, N)
// into float32 accumulators D (64, N). Thread t holds in d[i] row 16 (t / 32 % 4) + t % 32 / 4 + 8 (i / 2 % 2), column
// 8 (i / 4) + 2 (t % 4) + i % 2. Each warp holds its 16 rows of A in the layout of mma_m16n8k16.

// Describes where an operand lies in shared memory. Distances, with rows of `swizzle` bytes:
//   layout               leading_bytes                           stride_bytes
//   K-major, swizzled    not used                                from 8 rows of M or N to the next 8
//   MN-major, swizzled   to the next `swizzle` bytes of M or N   from 8 rows of K to the next 8
//   no swizzle           to the next 8 x 16 bytes along K        to the next 8 x 16 bytes along M or N
// K-major and swizzled, the next K = 16 begins at start + 32 bytes.
KILN_DEVICE uint64_t wgmma_descriptor(const void* start, unsigned leading_bytes, unsigned stride_bytes,
                                      Swizzle swizzle KILN_AT) {
#ifdef __CUDACC__
    const uint32_t address = shared_address(start);
#else
    const uint32_t address = simt::shared_offset(start, where);
#endif
    return uint64_t((address & 0x3ffff) >> 4) | uint64_t(leading_bytes >> 4) << 16 | uint64_t(stride_bytes >> 4) << 32 |
           uint64_t(swizzle) << 62;
}

// Needed before the first wgmma, and again after other instructions have used its registers.
KILN_DEVICE void wgmma_fence(KILN_ONLY_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("wgmma.fence.sync.aligned;" ::: "memory");
#else
    simt::wgmma_fence(where);
#endif
}
KILN_DEVICE void wgmma_commit(KILN_ONLY_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
    simt::wgmma_commit(where);
#endif
}
// Waits until all groups except the kPending newest are complete. Before that the program must not touch d, nor A and B
// in registers or shared memory.
template <int kPending>
KILN_DEVICE void wgmma_wait(KILN_ONLY_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
#else
    simt::wgmma_wait(kPending, where);
#endif
}

#ifdef __CUDACC__
#define KILN_TEN(t) ",%" #t "0,%" #t "1,%" #t "2,%" #t "3,%" #t "4,%" #t "5,%" #t "6,%" #t "7,%" #t "8,%" #t "9"
#define KILN_NAMES_30 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9" KILN_TEN(1) KILN_TEN(2)
#define KILN_NAMES_60 KILN_NAMES_30 KILN_TEN(3) KILN_TEN(4) KILN_TEN(5)
#define KILN_NAMES_90 KILN_NAMES_60 KILN_TEN(6) KILN_TEN(7) KILN_TEN(8)
#define KILN_NAMES_120 KILN_NAMES_90 KILN_TEN(9) KILN_TEN(10) KILN_TEN(11)
#define KILN_NAMES_32 KILN_NAMES_30 ",%30,%31"
#define KILN_NAMES_48 KILN_NAMES_30 KILN_TEN(3) ",%40,%41,%42,%43,%44,%45,%46,%47"
#define KILN_NAMES_64 KILN_NAMES_60 ",%60,%61,%62,%63"
#define KILN_NAMES_96 KILN_NAMES_90 ",%90,%91,%92,%93,%94,%95"
#define KILN_NAMES_128 KILN_NAMES_120 ",%120,%121,%122,%123,%124,%125,%126,%127"
#define KILN_HELD_8(i)                                                                                          \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
        "+f"(d[i + 7])
#define KILN_HELD_16(i) KILN_HELD_8(i), KILN_HELD_8(i + 8)
#define KILN_HELD_32 KILN_HELD_16(0), KILN_HELD_16(16)
#define KILN_HELD_48 KILN_HELD_32, KILN_HELD_16(32)
#define KILN_HELD_64 KILN_HELD_48, KILN_HELD_16(48)
#define KILN_HELD_96 KILN_HELD_64, KILN_HELD_16(64), KILN_HELD_16(80)
#define KILN_HELD_128 KILN_HELD_96, KILN_HELD_16(96), KILN_HELD_16(112)
// p is the number of the first operand after the accumulators (scale-d). It is passed because the preprocessor cannot
// compute it within a string.
#define KILN_WGMMA(n, held, type, operands, p, ...)                                                                    \
    KILN_SM90_ASM("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type \
                  "." type " {" KILN_NAMES_##held "}, " operands ";\n}"                                                \
                  : KILN_HELD_##held                                                                                   \
                  : "r"(int(add)), __VA_ARGS__)
#define KILN_WGMMA_TYPES(n, held, ...)                          \
    if constexpr (N == n && std::is_same_v<T, __nv_bfloat16>) { \
        KILN_WGMMA(n, held, "bf16", __VA_ARGS__);               \
    } else if constexpr (N == n) {                              \
        KILN_WGMMA(n, held, "f16", __VA_ARGS__);                \
    }
#define KILN_FROM_SHARED(n, held, p, a, b, ta, tb)                                                                   \
    KILN_WGMMA_TYPES(n, held, "%" #a ", %" #b ", p, 1, 1, %" #ta ", %" #tb, p, "l"(a_descriptor), "l"(b_descriptor), \
                     "n"(int(kTransposedA)), "n"(int(kTransposedB)))
#define KILN_FROM_REGISTERS(n, held, p, a0, a1, a2, a3, b, tb)                                                \
    KILN_WGMMA_TYPES(n, held, "{%" #a0 ",%" #a1 ",%" #a2 ",%" #a3 "}, %" #b ", p, 1, 1, %" #tb, p, "r"(a[0]), \
                     "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_descriptor), "n"(int(kTransposedB)))
#else
template <class T>
float wgmma_element(uint16_t bits) {
    return float(std::bit_cast<T>(bits));
}
#endif

// d (64, N) = a (64, 16) b (16, N), plus d if `add`. kTransposedX: that operand is MN-major. The result is there after
// wgmma_commit and wgmma_wait.
template <class T, int N, bool kTransposedA = false, bool kTransposedB = false>
KILN_DEVICE void wgmma(float (&d)[N / 2], uint64_t a_descriptor, uint64_t b_descriptor, bool add KILN_AT) {
    static_assert(N == 64 || N == 96 || N == 128 || N == 192 || N == 256);
#ifdef __CUDACC__
    KILN_FROM_SHARED(64, 32, 32, 33, 34, 35, 36)
    KILN_FROM_SHARED(96, 48, 48, 49, 50, 51, 52)
    KILN_FROM_SHARED(128, 64, 64, 65, 66, 67, 68)
    KILN_FROM_SHARED(192, 96, 96, 97, 98, 99, 100)
    KILN_FROM_SHARED(256, 128, 128, 129, 130, 131, 132)
#else
    simt::wgmma({d, nullptr, a_descriptor, b_descriptor, N, add, kTransposedA, kTransposedB, wgmma_element<T>}, where);
#endif
}
template <class T, int N, bool kTransposedB = false>
KILN_DEVICE void wgmma(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b_descriptor, bool add KILN_AT) {
    static_assert(N == 64 || N == 96 || N == 128 || N == 192 || N == 256);
#ifdef __CUDACC__
    KILN_FROM_REGISTERS(64, 32, 32, 33, 34, 35, 36, 37, 38)
    KILN_FROM_REGISTERS(96, 48, 48, 49, 50, 51, 52, 53, 54)
    KILN_FROM_REGISTERS(128, 64, 64, 65, 66, 67, 68, 69, 70)
    KILN_FROM_REGISTERS(192, 96, 96, 97, 98, 99, 100, 101, 102)
    KILN_FROM_REGISTERS(256, 128, 128, 129, 130, 131, 132, 133, 134)
#else
    simt::wgmma({d, a, 0, b_descriptor, N, add, false, kTransposedB, wgmma_element<T>}, where);
#endif
}

// All warps of a warpgroup free registers of each thread, or get more. A multiprocessor has 65536.
template <int kRegisters>
KILN_DEVICE void registers_decrease() {
    static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0);
#ifdef __CUDACC__
    KILN_SM90_ASM("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}
template <int kRegisters>
KILN_DEVICE void registers_increase() {
    static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0);
#ifdef __CUDACC__
    KILN_SM90_ASM("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}

}  // namespace kiln
