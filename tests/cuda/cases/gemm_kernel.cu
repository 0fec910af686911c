#include "tests/cuda/cases/gemm_kernel.h"

#include "cuda/kernels/ptx.cuh"

namespace kiln::test {
namespace {

constexpr int kM = 64, kN = 64, kK = 32, kPad = 8, kThreads = 128;

// Four warps of 16 rows each, two stages of cp.async, tiles padded against bank conflicts.
template <class T, bool kTransposeB>
__global__ void __launch_bounds__(kThreads) matmul_kernel(float* c, const T* a, const T* b, int N, int K) {
    constexpr int kPitchA = kK + kPad, kRowsB = kTransposeB ? kK : kN, kPitchB = (kTransposeB ? kN : kK) + kPad;
    KILN_DYNAMIC_SHARED(T, shared);  // two stages of a (kM, kPitchA) and b (kRowsB, kPitchB)
    constexpr int kStage = kM * kPitchA + kRowsB * kPitchB;
    const int m0 = blockIdx.y * kM, n0 = blockIdx.x * kN, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const auto load_stage = [&](int stage, int k0) {
        T* const to_a = shared + stage * kStage;
        T* const to_b = to_a + kM * kPitchA;
        for (int i = threadIdx.x; i < kM * kK / 8; i += kThreads) {
            const int row = i / (kK / 8), column = i % (kK / 8) * 8;
            cp_async_16(to_a + row * kPitchA + column, a + (m0 + row) * K + k0 + column);
        }
        constexpr int kWidthB = kTransposeB ? kN : kK;
        for (int i = threadIdx.x; i < kN * kK / 8; i += kThreads) {
            const int row = i / (kWidthB / 8), column = i % (kWidthB / 8) * 8;
            const T* const from = kTransposeB ? b + (k0 + row) * N + n0 + column : b + (n0 + row) * K + k0 + column;
            cp_async_16(to_b + row * kPitchB + column, from);
        }
        cp_async_commit();
    };
    float sums[kN / 8][4] = {};
    load_stage(0, 0);
    for (int k0 = 0, stage = 0; k0 < K; k0 += kK, stage ^= 1) {
        if (k0 + kK < K) {
            load_stage(stage ^ 1, k0 + kK);
            cp_async_wait<1>();
        } else {
            cp_async_wait<0>();
        }
        __syncthreads();
        const T* const tile_a = shared + stage * kStage;
        const T* const tile_b = tile_a + kM * kPitchA;
        for (int k = 0; k < kK; k += 16) {
            uint32_t of_a[4];
            ldmatrix_x4<false>(of_a, tile_a + (warp * 16 + lane % 16) * kPitchA + k + lane / 16 * 8);
            for (int n = 0; n < kN; n += 16) {
                uint32_t of_b[4];
                if constexpr (kTransposeB) {
                    ldmatrix_x4<true>(of_b, tile_b + (k + lane % 16) * kPitchB + n + lane / 16 * 8);
                } else {
                    ldmatrix_x4<false>(of_b, tile_b + (n + lane / 16 * 8 + lane % 8) * kPitchB + k + lane / 8 % 2 * 8);
                }
                mma_m16n8k16<T>(sums[n / 8], of_a, {of_b[0], of_b[1]});
                mma_m16n8k16<T>(sums[n / 8 + 1], of_a, {of_b[2], of_b[3]});
            }
        }
        __syncthreads();
    }
    for (int n = 0; n < kN / 8; ++n) {
        for (int i = 0; i < 4; ++i) {
            const int row = m0 + warp * 16 + lane / 4 + 8 * (i / 2), column = n0 + n * 8 + lane % 4 * 2 + i % 2;
            c[row * N + column] = sums[n][i];
        }
    }
}

}  // namespace

template <class T>
void tensor_core_matmul(float* c, const T* a, const T* b, bool transpose_b, int M, int N, int K, cudaStream_t stream) {
    const LaunchConfig config{
        .grid = {unsigned(N) / kN, unsigned(M) / kM},
        .block = kThreads,
        .shared_bytes = 2 * sizeof(T) * (kM * (kK + kPad) + (transpose_b ? kK * (kN + kPad) : kN * (kK + kPad))),
        .stream = stream};
    if (transpose_b) {
        launch<matmul_kernel<T, true>>(config, c, a, b, N, K);
    } else {
        launch<matmul_kernel<T, false>>(config, c, a, b, N, K);
    }
}

template void tensor_core_matmul(float*, const __nv_bfloat16*, const __nv_bfloat16*, bool, int, int, int, cudaStream_t);
template void tensor_core_matmul(float*, const __half*, const __half*, bool, int, int, int, cudaStream_t);

}  // namespace kiln::test
