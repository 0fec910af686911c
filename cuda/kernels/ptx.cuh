#pragma once
// PTX instructions. Each wrapper holds the instruction and, for the emulator, the same in C++. Fragments are laid
// out as in "PTX ISA", section "Matrix fragments for mma.m16n8k16". With g = lane / 4 and t = lane % 4:
//   A (16, 16): a[i] holds row g + 8 (i % 2), columns 2 t + 8 (i / 2) and the next
//   B (16, 8):  b[i] holds rows 2 t + 8 i and the next, column g
//   C, D (16, 8): d[i] holds row g + 8 (i / 2), column 2 t + i % 2
#include "cuda/device/launch.h"

namespace kiln {

#ifdef __CUDACC__
KILN_DEVICE uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

// Two elements in one register, the first in the low half. One instruction from sm_80 on.
template <class T>
KILN_DEVICE uint32_t round2(float low, float high) {
    using Pair = std::conditional_t<std::is_same_v<T, __nv_bfloat16>, __nv_bfloat162, __half2>;
    Pair pair;
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        pair = __floats2bfloat162_rn(low, high);
    } else {
        pair = __floats2half2_rn(low, high);
    }
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

// d (16, 8) float32 += a (16, 16) b (16, 8), of bfloat16 or float16. All 32 lanes must call. sm_75 has no bfloat16, and
// takes two instructions for float16.
template <class T>
KILN_DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    static_assert(sizeof(T) == 2);
    if constexpr (std::is_same_v<T, __nv_bfloat16>) __trap();
    for (int k = 0; k < 2; ++k) {
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[2 * k]), "r"(a[2 * k + 1]), "r"(b[k]));
    }
#elif defined(__CUDACC__)
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    } else {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
#else
    struct Operands {
        float* d;
        const uint32_t *a, *b;
    } mine{d, a, b};
    simt::warp_barrier(
        ~0u, &mine,
        [](void* const* lanes, uint32_t present) {
            if (present != ~0u) simt::fail("mma.sync with a lane missing", simt::Where::here());
            const auto half = [](uint32_t bits, int high) {
                const auto word = static_cast<uint16_t>(bits >> (16 * high));
                return float(std::bit_cast<T>(word));
            };
            float A[16][16], B[16][8];
            for (int lane = 0; lane < 32; ++lane) {
                const auto& x = *static_cast<const Operands*>(lanes[lane]);
                const int g = lane / 4, t = lane % 4;
                for (int h = 0; h < 2; ++h) {
                    for (int i = 0; i < 4; ++i) A[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + h] = half(x.a[i], h);
                    for (int i = 0; i < 2; ++i) B[2 * t + 8 * i + h][g] = half(x.b[i], h);
                }
            }
            for (int lane = 0; lane < 32; ++lane) {
                float* const out = static_cast<const Operands*>(lanes[lane])->d;
                for (int i = 0; i < 4; ++i) {
                    const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
                    float sum = 0;
                    for (int k = 0; k < 16; ++k) sum += A[row][k] * B[k][column];
                    out[i] += sum;
                }
            }
        },
        "mma.m16n8k16", simt::Where::here());
#endif
}

// Loads four (8, 8) matrices of 16-bit elements from shared memory. Lane l passes the address of row l % 8 of matrix
// l / 8, aligned to 16 bytes, and gets in r[m] row l / 4, columns 2 (l % 4) and the next of matrix m, or of its
// transpose.
template <bool kTransposed>
KILN_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
#ifdef __CUDACC__
    const uint32_t address = shared_address(row);
    if constexpr (kTransposed) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(address)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(address)
                     : "memory");
    }
#else
    simt::check_aligned(row, 16, simt::Where::here());
    struct Operands {
        uint32_t* r;
        uint16_t row[8];
    } mine{r, {}};
    std::memcpy(mine.row, row, 16);  // read by this lane itself, so that a sanitizer knows whose it is
    simt::warp_barrier(
        ~0u, &mine,
        [](void* const* lanes, uint32_t present) {
            if (present != ~0u) simt::fail("ldmatrix with a lane missing", simt::Where::here());
            for (int lane = 0; lane < 32; ++lane) {
                for (int m = 0; m < 4; ++m) {
                    const auto at = [&](int i, int j) {
                        return uint32_t(static_cast<const Operands*>(lanes[8 * m + i])->row[j]);
                    };
                    const int i = lane / 4, j = 2 * (lane % 4);
                    static_cast<const Operands*>(lanes[lane])->r[m] =
                        kTransposed ? at(j, i) | at(j + 1, i) << 16 : at(i, j) | at(i, j + 1) << 16;
                }
            }
        },
        kTransposed ? "ldmatrix.trans" : "ldmatrix", simt::Where::here());
#endif
}

// The transpose of an (8, 8) matrix of 16-bit elements, laid out as ldmatrix_x4 loads it. All 32 lanes must call.
KILN_DEVICE uint32_t transpose_8x8(uint32_t x) {
#ifdef __CUDACC__
    uint32_t y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
#else
    struct Operands {
        uint32_t x, y;
    } mine{x, 0};
    simt::warp_barrier(
        ~0u, &mine,
        [](void* const* lanes, uint32_t present) {
            if (present != ~0u) simt::fail("movmatrix with a lane missing", simt::Where::here());
            const auto at = [&](int i, int j) {
                return static_cast<const Operands*>(lanes[4 * i + j / 2])->x >> (16 * (j % 2)) & 0xffff;
            };
            for (int lane = 0; lane < 32; ++lane) {
                const int i = lane / 4, j = 2 * (lane % 4);
                static_cast<Operands*>(lanes[lane])->y = at(j, i) | at(j + 1, i) << 16;
            }
        },
        "movmatrix", simt::Where::here());
    return mine.y;
#endif
}

// Starts copying 16 bytes from global to shared memory. This thread sees them after cp_async_wait, other threads after
// a barrier that follows it. If not `valid`, writes zeros and does not read `src`. On sm_75 the thread copies at once.
KILN_DEVICE void cp_async_16(void* dst, const void* src, bool valid = true) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    *static_cast<int4*>(dst) = valid ? *static_cast<const int4*>(src) : make_int4(0, 0, 0, 0);
#elif defined(__CUDACC__)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(dst)), "l"(src),
                 "r"(valid ? 16 : 0)
                 : "memory");
#else
    simt::copy_async(dst, valid ? src : nullptr, 16, simt::Where::here());
#endif
}
// Ends a group of this thread's copies.
KILN_DEVICE void cp_async_commit() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#elif defined(__CUDACC__)
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    simt::copy_async_commit();
#endif
}
// Waits until all of this thread's groups except the kPending newest are complete.
template <int kPending>
KILN_DEVICE void cp_async_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#elif defined(__CUDACC__)
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#else
    simt::copy_async_wait(kPending);
#endif
}

// Waits at barrier `id` (1 to 15; 0 is __syncthreads) until `threads` threads, in whole warps, have arrived.
KILN_DEVICE void barrier_sync(int id, int threads) {
#ifdef __CUDACC__
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#else
    simt::named_barrier(id, threads, false, simt::Where::here());
#endif
}
// Arrives at the barrier without waiting.
KILN_DEVICE void barrier_arrive(int id, int threads) {
#ifdef __CUDACC__
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#else
    simt::named_barrier(id, threads, true, simt::Where::here());
#endif
}

// One thread of a block publishes a value, after a barrier; one thread of another block waits for that value, before a
// barrier. Then the threads of the second barrier see what those of the first wrote before, if they read past the L1
// cache (__ldcg). A barrier is __syncthreads, or __syncwarp for the threads of a warp.
KILN_DEVICE void publish(int* word, int value) {
#ifdef __CUDACC__
    asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
#else
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
#endif
}
KILN_DEVICE void wait_for_value(const int* word, int value) {
#ifdef __CUDACC__
    int now;
    do {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(now) : "l"(word) : "memory");
    } while (now != value);
#else
    simt::wait_for_block(word, value, simt::Where::here());
#endif
}
// word += x; returns the old value. Acquire and release on the whole device: with a barrier before and after, the block
// whose addition comes later sees what the blocks before it wrote.
KILN_DEVICE int fetch_add_acq_rel(int* word, int x) {
#ifdef __CUDACC__
    int old;
    asm volatile("atom.add.acq_rel.gpu.s32 %0, [%1], %2;" : "=r"(old) : "l"(word), "r"(x) : "memory");
    return old;
#else
    return __atomic_fetch_add(word, x, __ATOMIC_ACQ_REL);
#endif
}

// 2^x, within 2 ulp; 2^-inf = 0.
KILN_DEVICE float exp2_approx(float x) {
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    const float y = std::exp2(x);
    return y < 0x1p-126f ? 0.0f : simt::approximated(y, {x}, 2);  // .ftz
#endif
}

}  // namespace kiln
