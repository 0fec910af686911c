#pragma once
// PTX instructions of sm_90a, each wrapped once, with what it means on the host beside it (dev/simt/hopper.h):
// mbarriers, TMA, wgmma. Compiled for another architecture, a kernel that uses them traps. "PTX ISA", sections
// "mbarrier", "cp.async.bulk.tensor", "Asynchronous warpgroup level matrix instructions".
#include "cuda/launch.h"
#include "cuda/tensor_map.h"

#ifndef __CUDACC__
#include "dev/simt/hopper.h"
#define KILN_AT , SIMT_AT  // so that a report names the caller's line
#define KILN_ONLY_AT SIMT_AT
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define KILN_SM90_ASM(...) asm volatile(__VA_ARGS__)
#else
#define KILN_SM90_ASM(...) __trap()
#endif
#ifdef __CUDACC__
#define KILN_AT
#define KILN_ONLY_AT
#endif

namespace kiln {

#ifdef __CUDACC__
KILN_DEVICE uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

// --- mbarriers, 8 bytes in shared memory. A phase is complete when all arrivals came and all bytes that were expected
// landed; the next begins at once. Phases have parity 0, 1, 0, ...

// One thread; before the others use it: fence_mbarrier_init, __syncthreads.
KILN_DEVICE void mbarrier_init(uint64_t* barrier, unsigned arrivals KILN_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#else
    simt::mbarrier_init(barrier, arrivals, where);
#endif
}
// Lets TMA see the mbarriers that this thread initialised.
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
// Arrives, and lets the phase wait for `bytes` that TMA will deliver: whole boxes, with the zeros outside the tensor.
KILN_DEVICE void mbarrier_arrive_expect(uint64_t* barrier, unsigned bytes KILN_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                  : "memory");
#else
    simt::mbarrier_arrive(barrier, bytes, where);
#endif
}
// Until the phase of this parity is complete: with 1, at once on a fresh barrier. The chip lets a thread sleep for a
// while in each try; the emulator lets the others run, and reports a wait that can never end.
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

// What this thread wrote to shared memory becomes visible to TMA stores and wgmma: each writer calls it, before the
// barrier that the reader waits at.
KILN_DEVICE void fence_proxy_async(KILN_ONLY_AT) {
#ifdef __CUDACC__
    KILN_SM90_ASM("fence.proxy.async.shared::cta;" ::: "memory");
#else
    simt::fence_proxy_async(where);
#endif
}

// --- TMA: one thread copies a tile. Its corner lies at coordinates x, y, ... of the tensor, innermost first.

// So that the first copy need not wait for the descriptor.
KILN_DEVICE void prefetch_tensor_map([[maybe_unused]] const CUtensorMap* map) {
#ifdef __CUDACC__
    KILN_SM90_ASM("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#endif
}

// To dst in shared memory, aligned to 128 bytes (with a swizzle, to 8 rows of it), counted by `barrier` as it lands.
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

// From src in shared memory, aligned likewise; what lies outside the tensor is not written.
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
// Until at most kPending of this thread's groups still read shared memory, the youngest. A block may not end before.
template <int kPending>
KILN_DEVICE void tma_store_wait_read() {
#ifdef __CUDACC__
    KILN_SM90_ASM("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
#else
    simt::tma_store_wait(kPending, true);
#endif
}
// Until at most kPending are not yet in global memory.
template <int kPending>
KILN_DEVICE void tma_store_wait() {
#ifdef __CUDACC__
    KILN_SM90_ASM("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
#else
    simt::tma_store_wait(kPending, false);
#endif
}

}  // namespace kiln
