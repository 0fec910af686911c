#include "tests/cuda/hopper/kernels.h"

#include "cuda/kernels/hopper.cuh"
#include "cuda/kernels/ptx.cuh"

namespace kiln::test {
namespace {

constexpr int kM = 128, kN = 128, kK = 64, kStages = 3, kGroup = 128, kThreads = 3 * kGroup;
constexpr int kStageElems = (kM + kN) * kK, kWideC = 32;  // columns of a tile of C that one TMA store takes

// C = A B^T. One thread of the first warpgroup loads, up to three stages ahead; the other warpgroups multiply 64 rows
// each, and store C through shared memory in tiles (64, 32).
__global__ void __launch_bounds__(kThreads, 1)
    matmul_kernel(const __grid_constant__ CUtensorMap c, const __grid_constant__ CUtensorMap a,
                  const __grid_constant__ CUtensorMap b, int K) {
    KILN_DYNAMIC_SHARED(unsigned char, shared);
    auto* const stages = reinterpret_cast<__nv_bfloat16*>(shared);                  // (kStages, kM + kN, kK)
    auto* const tile_c = reinterpret_cast<float*>(stages + kStages * kStageElems);  // (2, kN / kWideC, 64, kWideC)
    auto* const full = reinterpret_cast<uint64_t*>(tile_c + kM * kN);
    uint64_t* const empty = full + kStages;
    const int m0 = blockIdx.y * kM, n0 = blockIdx.x * kN, steps = (K + kK - 1) / kK;
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; ++i) {
            mbarrier_init(full + i, 1);
            mbarrier_init(empty + i, 2 * kGroup);
        }
        fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x < kGroup) {
        registers_decrease<40>();
        for (int i = 0; threadIdx.x == 0 && i < steps; ++i) {
            __nv_bfloat16* const stage = stages + i % kStages * kStageElems;
            mbarrier_wait(empty + i % kStages, 1 - i / kStages % 2);
            mbarrier_arrive_expect(full + i % kStages, kStageElems * sizeof(__nv_bfloat16));
            tma_load(stage, &a, i * kK, m0, full + i % kStages);
            tma_load(stage + kM * kK, &b, i * kK, n0, full + i % kStages);
        }
        return;
    }
    registers_increase<232>();
    const int group = threadIdx.x / kGroup - 1, t = threadIdx.x % kGroup;
    float d[kN / 2];
    for (int i = 0; i < steps; ++i) {
        const __nv_bfloat16* const stage = stages + i % kStages * kStageElems;
        mbarrier_wait(full + i % kStages, i / kStages % 2);
        wgmma_fence();
        for (int k = 0; k < kK; k += 16) {
            wgmma<__nv_bfloat16, kN>(d, wgmma_descriptor(stage + group * 64 * kK + k, 0, 1024, Swizzle::bytes_128),
                                     wgmma_descriptor(stage + kM * kK + k, 0, 1024, Swizzle::bytes_128), i + k > 0);
        }
        wgmma_commit();
        wgmma_wait<0>();
        mbarrier_arrive(empty + i % kStages);
    }
    float* const mine = tile_c + group * 64 * kN;
    for (int i = 0; i < kN / 2; ++i) {
        const int row = t / 32 * 16 + t % 32 / 4 + 8 * (i / 2 % 2), column = i / 4 * 8 + t % 4 * 2 + i % 2;
        const int chunk = column % kWideC / 4 ^ row % 8;  // the swizzle
        mine[(column / kWideC * 64 + row) * kWideC + chunk * 4 + column % 4] = d[i];
    }
    fence_proxy_async();
    barrier_sync(1 + group, kGroup);
    if (t == 0) {
        for (int n = 0; n < kN; n += kWideC) tma_store(&c, n0 + n, m0 + group * 64, mine + n * 64);
        tma_store_commit();
        tma_store_wait_read<0>();
    }
}

}  // namespace

void hopper_matmul(float* c, const __nv_bfloat16* a, const __nv_bfloat16* b, int M, int N, int K, cudaStream_t stream) {
    const auto map = [](const auto* data, int rows, int columns, uint32_t box_columns, uint32_t box_rows) {
        const uint64_t width = uint64_t(columns);
        return tensor_map(data, {{width, uint64_t(rows)}, {width}, {box_columns, box_rows}, Swizzle::bytes_128});
    };
    launch<matmul_kernel>({.grid = dim3((N + kN - 1) / kN, (M + kM - 1) / kM),
                           .block = kThreads,
                           .shared_bytes = kStages * kStageElems * sizeof(__nv_bfloat16) + kM * kN * sizeof(float) +
                                           2 * kStages * sizeof(uint64_t),
                           .stream = stream},
                          map(c, M, N, kWideC, 64), map(a, M, K, kK, kM), map(b, N, K, kK, kN), K);
}

}  // namespace kiln::test
