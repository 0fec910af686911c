#include "cuda/kernels/hopper.cuh"
#include "tests/cuda/hopper/kernels.h"

namespace kiln::test {
namespace {

constexpr int kM = 64, kK = 64, kThreads = 128;

// One tile by one warpgroup. A K-major operand lies in panels of `span` bytes along K; each panel has all rows. An
// MN-major operand lies in panels of `span` bytes along M or N; each panel has kK rows.
template <class T, int N, Swizzle kSwizzle, OperandA kA, bool kTransposedB>
__global__ void __launch_bounds__(kThreads)
    tile_kernel(float* c, const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b) {
    constexpr bool kTransposedA = kA == OperandA::m_major;
    constexpr int kSpanBytes = 256 >> int(kSwizzle), kSpan = kSpanBytes / int(sizeof(T));
    KILN_DYNAMIC_SHARED(T, tile_a);  // A (kM kK elements), B (N kK elements), the mbarrier
    T* const tile_b = tile_a + kM * kK;
    auto* const full = reinterpret_cast<uint64_t*>(tile_b + N * kK);
    if (threadIdx.x == 0) {
        mbarrier_init(full, 1);
        fence_mbarrier_init();
        mbarrier_arrive_expect(full, (kM + N) * kK * sizeof(T));
        for (int i = 0; i < (kTransposedA ? kM : kK); i += kSpan) {
            tma_load(tile_a + i * (kTransposedA ? kK : kM), &a, i, 0, full);
        }
        for (int i = 0; i < (kTransposedB ? N : kK); i += kSpan) {
            tma_load(tile_b + i * (kTransposedB ? kK : N), &b, i, 0, full);
        }
    }
    __syncthreads();
    mbarrier_wait(full, 0);
    const auto operand = [](const T* tile, int rows, bool transposed, int k) {
        const T* const start = tile + (transposed ? k * kSpan : k / kSpan * kSpan * rows + k % kSpan);
        return wgmma_descriptor(start, transposed ? kK * kSpanBytes : 0, 8 * kSpanBytes, kSwizzle);
    };
    float d[N / 2];
    uint32_t of_a[kK / 16][4];
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
    for (int k = 0; k < kK / 16; ++k) {
        for (int i = 0; kA == OperandA::registers && i < 4; ++i) {
            const int r = row + 8 * (i % 2), column = k * 16 + lane % 4 * 2 + 8 * (i / 2);
            const int offset = (column / kSpan * kM + r) * kSpan + column % kSpan;  // without the swizzle
            const int chunk = offset / 8 ^ (offset / 64 & (kSpanBytes / 16 - 1));
            of_a[k][i] = *reinterpret_cast<const uint32_t*>(tile_a + chunk * 8 + offset % 8);
        }
    }
    wgmma_fence();
    for (int k = 0; k < kK / 16; ++k) {
        const uint64_t of_b = operand(tile_b, N, kTransposedB, k * 16);
        if constexpr (kA == OperandA::registers) {
            wgmma<T, N, kTransposedB>(d, of_a[k], of_b, k > 0);
        } else {
            wgmma<T, N, kTransposedA, kTransposedB>(d, operand(tile_a, kM, kTransposedA, k * 16), of_b, k > 0);
        }
    }
    wgmma_commit();
    wgmma_wait<0>();
    for (int i = 0; i < N / 2; ++i) {
        c[(row + 8 * (i / 2 % 2)) * N + i / 4 * 8 + lane % 4 * 2 + i % 2] = d[i];
    }
}

template <class T, int N, Swizzle kSwizzle, OperandA kA, bool kTransposedB>
void tile(float* c, const T* a, const T* b, cudaStream_t stream) {
    const auto map = [](const T* data, bool transposed, int side) {
        const uint32_t span = 256u >> int(kSwizzle) >> 1, rows = uint32_t(transposed ? kK : side);
        const uint64_t width = uint64_t(transposed ? side : kK);
        return tensor_map(data, {{width, rows}, {width}, {span, rows}, kSwizzle});
    };
    launch<tile_kernel<T, N, kSwizzle, kA, kTransposedB>>(
        {.grid = 1, .block = kThreads, .shared_bytes = (kM + N) * kK * sizeof(T) + sizeof(uint64_t), .stream = stream},
        c, map(a, kA == OperandA::m_major, kM), map(b, kTransposedB, N));
}

template <class T, int N, Swizzle kSwizzle>
void tile_of(float* c, const T* a, OperandA from, const T* b, bool transposed_b, cudaStream_t stream) {
    if (from == OperandA::k_major && !transposed_b) tile<T, N, kSwizzle, OperandA::k_major, false>(c, a, b, stream);
    if (from == OperandA::k_major && transposed_b) tile<T, N, kSwizzle, OperandA::k_major, true>(c, a, b, stream);
    if (from == OperandA::m_major && !transposed_b) tile<T, N, kSwizzle, OperandA::m_major, false>(c, a, b, stream);
    if (from == OperandA::m_major && transposed_b) tile<T, N, kSwizzle, OperandA::m_major, true>(c, a, b, stream);
    if (from == OperandA::registers && !transposed_b) tile<T, N, kSwizzle, OperandA::registers, false>(c, a, b, stream);
    if (from == OperandA::registers && transposed_b) tile<T, N, kSwizzle, OperandA::registers, true>(c, a, b, stream);
}

}  // namespace

template <class T>
void wgmma_tile(float* c, const T* a, OperandA from, const T* b, bool transposed_b, int N, Swizzle swizzle,
                cudaStream_t stream) {
    KILN_CHECK(swizzle == Swizzle::bytes_128 || N == 64, "wgmma_tile: swizzles below 128 bytes need N = 64, not ", N);
    if (swizzle == Swizzle::bytes_64) return tile_of<T, 64, Swizzle::bytes_64>(c, a, from, b, transposed_b, stream);
    if (swizzle == Swizzle::bytes_32) return tile_of<T, 64, Swizzle::bytes_32>(c, a, from, b, transposed_b, stream);
    if (N == 64) tile_of<T, 64, Swizzle::bytes_128>(c, a, from, b, transposed_b, stream);
    if (N == 128) tile_of<T, 128, Swizzle::bytes_128>(c, a, from, b, transposed_b, stream);
    if (N == 192) tile_of<T, 192, Swizzle::bytes_128>(c, a, from, b, transposed_b, stream);
    if (N == 256) tile_of<T, 256, Swizzle::bytes_128>(c, a, from, b, transposed_b, stream);
    if (N == 96) {  // a row of transposed B would not be whole spans of 128 bytes
        KILN_CHECK(!transposed_b, "wgmma_tile: N = 96 is not a multiple of 64");
        if (from == OperandA::registers) {
            tile<T, 96, Swizzle::bytes_128, OperandA::registers, false>(c, a, b, stream);
        } else {
            tile<T, 96, Swizzle::bytes_128, OperandA::k_major, false>(c, a, b, stream);
        }
    }
}

template void wgmma_tile(float*, const __nv_bfloat16*, OperandA, const __nv_bfloat16*, bool, int, Swizzle,
                         cudaStream_t);
template void wgmma_tile(float*, const __half*, OperandA, const __half*, bool, int, Swizzle, cudaStream_t);

}  // namespace kiln::test
