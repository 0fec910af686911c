// The best rate of mma.sync, for bench_attention.
#include "dev/bench/support/mma_rate.h"

#include "cuda/kernels/ptx.cuh"

namespace kiln::bench {
namespace {

constexpr int kThreads = 256, kM = 2, kN = 4;

// Each warp does steps * kM * kN matmuls of (16, 16) and (16, 8). It writes the sums to out (blocks * kThreads), so
// that the compiler keeps them. 4096 kM kN steps FLOPs a warp in independent chains: bound by the tensor cores.
__global__ void __launch_bounds__(kThreads, 2) mma_rate_kernel(float* out, int steps) {
    const uint32_t thread = blockIdx.x * kThreads + threadIdx.x;
    // Random numbers of magnitude 1 to 2, because zeros would draw less power.
    const auto operand = [&](uint32_t i) { return ((thread * 8 + i) * 2654435761u & 0x807f807fu) | 0x3f803f80u; };
    uint32_t a[kM][4], b[kN][2];
    float sums[kM][kN][4] = {};
    KILN_UNROLL
    for (int m = 0; m < kM; ++m) {
        KILN_UNROLL
        for (int i = 0; i < 4; ++i) a[m][i] = operand(4 * m + i);
    }
    KILN_UNROLL
    for (int n = 0; n < kN; ++n) {
        KILN_UNROLL
        for (int i = 0; i < 2; ++i) b[n][i] = operand(4 * kM + 2 * n + i);
    }
    for (int step = 0; step < steps; ++step) {
        KILN_UNROLL
        for (int m = 0; m < kM; ++m) {
            KILN_UNROLL
            for (int n = 0; n < kN; ++n) mma_m16n8k16<__nv_bfloat16>(sums[m][n], a[m], b[n]);
        }
    }
    float sum = 0;
    KILN_UNROLL
    for (int m = 0; m < kM; ++m) {
        KILN_UNROLL
        for (int n = 0; n < kN; ++n) {
            KILN_UNROLL
            for (int i = 0; i < 4; ++i) sum += sums[m][n][i];
        }
    }
    out[thread] = sum;
}

}  // namespace

double measure_mma_tflop_per_s(Timer& timer, bool small) {
    const int blocks = small ? 1 : 2 * multiprocessors(), steps = small ? 4 : 8192;
    const DeviceBuffer<float> out(size_t(blocks) * kThreads);
    const double ms = timer.median_ms([&](cudaStream_t stream) {
        launch<mma_rate_kernel>({.grid = unsigned(blocks), .block = kThreads, .stream = stream}, out.get(), steps);
    });
    return 4096.0 * kM * kN * steps * (kThreads / 32.0) * blocks / ms * 1e-9;
}

}  // namespace kiln::bench
