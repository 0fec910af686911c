// LayerNorm and RMSNorm, alone and after a residual addition, forward and backward; QK-norm.
#include "cpu_reference/error.h"
#include "cuda/kernels.h"
#include "cuda/pack.cuh"
#include "cuda/reduce.cuh"

namespace kiln {
namespace {

constexpr int kWarpsPerBlock = 4;

// RMSNorm forward: y = x * rstd * w, one warp a row.                                             arXiv:1910.07467
// x, y (N, C) row-major; w (C); rstd (N) float, may be null.  C % 8 == 0.
// Moves 2 N C elements and 4 N bytes for ~4 N C FLOPs: bound by bandwidth. The second reading of x hits the L1 cache.
template <class T>
__global__ void __launch_bounds__(kWarpsPerBlock* kWarp)
    rmsnorm_forward_kernel(T* y, float* rstd, const T* x, const T* w, float eps, int N, int C) {
    constexpr int kPack = Pack<T>::kSize;
    const int lane = threadIdx.x % kWarp;
    const int64_t row = int64_t(blockIdx.x) * kWarpsPerBlock + threadIdx.x / kWarp;
    if (row >= N) return;
    x += row * C;
    y += row * C;
    float sum = 0;
    for (int c = lane * kPack; c < C; c += kWarp * kPack) {
        const Pack<T> pack = load(x + c);
        for (int i = 0; i < kPack; ++i) sum += pack[i] * pack[i];
    }
    const float scale = rsqrtf(warp_sum(sum) / C + eps);
    for (int c = lane * kPack; c < C; c += kWarp * kPack) {
        const Pack<T> pack = load(x + c), weight = load(w + c);
        Pack<T> out;
        for (int i = 0; i < kPack; ++i) out.set(i, pack[i] * scale * weight[i]);
        store(y + c, out);
    }
    if (lane == 0 && rstd) rstd[row] = scale;
}

int blocks_of_rows(int N) {
    return (N + kWarpsPerBlock - 1) / kWarpsPerBlock;
}

}  // namespace

template <class T>
void rmsnorm_forward(T* y, float* rstd, const T* x, const T* w, float eps, int N, int C, cudaStream_t stream) {
    KILN_CHECK(N > 0 && C > 0 && C % 8 == 0, "rmsnorm_forward: N ", N, ", C ", C, "; C must be a multiple of 8");
    launch<rmsnorm_forward_kernel<T>>({.grid = blocks_of_rows(N), .block = kWarpsPerBlock * kWarp, .stream = stream}, y,
                                      rstd, x, w, eps, N, C);
}

#define KILN_NORM(T) template void rmsnorm_forward(T*, float*, const T*, const T*, float, int, int, cudaStream_t);
KILN_NORM(float)
KILN_NORM(__nv_bfloat16)
KILN_NORM(__half)

}  // namespace kiln
