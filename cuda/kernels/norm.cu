// LayerNorm and RMSNorm forward, alone and with a residual addition before them.
#include "cpu_reference/interface/error.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/reduce.cuh"

namespace kiln {
namespace {

constexpr int kRows = 4;                             // rows of a block if each has one warp
constexpr int kBlockPacks = 4, kBlockThreads = 512;  // so registers hold rows of up to 16384 elements of 16 bits

enum class Kind { rmsnorm, layernorm, residual_rmsnorm, residual_layernorm };
template <class T>
struct Norm {
    T *sum = nullptr, *y = nullptr;           // (N, C); sum is null without a branch
    float *mean = nullptr, *rstd = nullptr;   // (N), or null
    const T *x = nullptr, *branch = nullptr;  // (N, C)
    const T *w = nullptr, *b = nullptr;       // (C)
    float eps = 0;
    int N = 0, C = 0;
};

// LayerNorm: y = (s - mean) * rstd * w + b, rstd = 1 / sqrt(var + eps)                    arXiv:1607.06450
// RMSNorm: y = s * rstd * w, rstd = 1 / sqrt(mean(s^2) + eps)                             arXiv:1910.07467
// s = x, or s = sum = x + branch, rounded to T before the norm, because the backward pass reads the rounded sum.
// sum, x, branch, y (N, C) row-major; w, b (C); mean, rstd (N) float.  C % 8 == 0.
// Moves 2 N C elements (4 N C with a branch), 2 C of weights and 4 or 8 N bytes for ~4 N C FLOPs (LayerNorm ~7): bound
// by bandwidth. blockDim.x threads hold a row, kPacks packs each; if they are one warp, a block has blockDim.y rows.
// kPacks = 0 is for rows that are too wide for that, and reads them again for each sum.
template <class T, int kPacks, Kind kKind>
__global__ void __launch_bounds__(kBlockThreads, kKind < Kind::residual_rmsnorm ? 2 : 1)
    norm_forward_kernel(const Norm<T> p) {
    constexpr int kPack = Pack<T>::kSize, kHeld = kPacks > 0 ? kPacks : 1;
    constexpr bool kAgain = kPacks == 0;
    constexpr bool kLayerNorm = kKind == Kind::layernorm || kKind == Kind::residual_layernorm;
    constexpr bool kResidual = kKind == Kind::residual_rmsnorm || kKind == Kind::residual_layernorm;
    const int C = p.C;
    const int64_t row = int64_t(blockIdx.x) * blockDim.y + threadIdx.y, first = row * C;
    if (row >= p.N) return;  // whole warps: a block of one row never returns here, so its barriers are complete

    const auto each_pack = [&](auto&& f) {
        if constexpr (kAgain) {
            for (int c = threadIdx.x * kPack; c < C; c += blockDim.x * kPack) f(0, c);
        } else {
            for (int k = 0; k < kPacks; ++k) {
                const int c = (k * blockDim.x + threadIdx.x) * kPack;
                if (c < C) f(k, c);
            }
        }
    };
    const auto row_sum = [](float x) { return blockDim.x == kWarp ? warp_sum(x) : block_sum(x); };

    Pack<T> s[kHeld], branch[kHeld];
    const auto read = [&](int k, int c) {
        s[k] = load_once(p.x + first + c);
        if constexpr (kResidual) branch[k] = load_once(p.branch + first + c);
    };
    if (!kAgain) each_pack(read);
    float total = 0;
    each_pack([&](int k, int c) {
        if (kAgain) read(k, c);
        if constexpr (kResidual) {
            for (int i = 0; i < kPack; ++i) s[k].set(i, s[k][i] + branch[k][i]);
            store(p.sum + first + c, s[k]);
        }
        for (int i = 0; i < kPack; ++i) total += kLayerNorm ? s[k][i] : s[k][i] * s[k][i];
    });
    total = row_sum(total);
    const T* again = (kResidual ? p.sum : p.x) + first;
    const float mean = kLayerNorm ? total / C : 0.0f;
    if constexpr (kLayerNorm) {
        total = 0;  // a second pass over the row: E[x^2] - mean^2 would lose the digits
        each_pack([&](int k, int c) {
            if (kAgain) s[k] = load(again + c);
            for (int i = 0; i < kPack; ++i) total += (s[k][i] - mean) * (s[k][i] - mean);
        });
        total = row_sum(total);
    }
    const float rstd = rsqrtf(total / C + p.eps);
    each_pack([&](int k, int c) {
        if (kAgain) s[k] = load(again + c);
        const Pack<T> w = load(p.w + c);
        Pack<T> y;
        if constexpr (kLayerNorm) {
            const Pack<T> b = load(p.b + c);
            for (int i = 0; i < kPack; ++i) y.set(i, (s[k][i] - mean) * rstd * w[i] + b[i]);
        } else {
            for (int i = 0; i < kPack; ++i) y.set(i, s[k][i] * rstd * w[i]);
        }
        store(p.y + first + c, y);
    });
    if (threadIdx.x == 0) {
        if (kLayerNorm && p.mean) p.mean[row] = mean;
        if (p.rstd) p.rstd[row] = rstd;
    }
}

// A row of up to 128 packs has one warp, which needs no barrier; a row of up to 2048 packs has a block.
template <Kind kKind, class T>
void norm_forward(const Norm<T>& p, cudaStream_t stream) {
    KILN_CHECK(p.N > 0 && p.C > 0 && p.C % 8 == 0, "norm forward: N ", p.N, ", C ", p.C, "; C must be a multiple of 8");
    const int packs = p.C / Pack<T>::kSize;
    const LaunchConfig warps{.grid = (p.N + kRows - 1) / kRows, .block = {kWarp, kRows}, .stream = stream};
    if (packs <= kBlockPacks * kWarp) {
        launch<norm_forward_kernel<T, kBlockPacks, kKind>>(warps, p);
    } else if (packs <= kBlockPacks * kBlockThreads) {
        const unsigned threads = (packs + kBlockPacks * kWarp - 1) / (kBlockPacks * kWarp) * kWarp;
        launch<norm_forward_kernel<T, kBlockPacks, kKind>>({.grid = p.N, .block = threads, .stream = stream}, p);
    } else {
        launch<norm_forward_kernel<T, 0, kKind>>({.grid = p.N, .block = kBlockThreads, .stream = stream}, p);
    }
}

}  // namespace

template <class T>
void rmsnorm_forward(T* y, float* rstd, const T* x, const T* w, float eps, int N, int C, cudaStream_t stream) {
    norm_forward<Kind::rmsnorm>(Norm<T>{.y = y, .rstd = rstd, .x = x, .w = w, .eps = eps, .N = N, .C = C}, stream);
}
template <class T>
void layernorm_forward(T* y, float* mean, float* rstd, const T* x, const T* w, const T* b, float eps, int N, int C,
                       cudaStream_t stream) {
    norm_forward<Kind::layernorm>(
        Norm<T>{.y = y, .mean = mean, .rstd = rstd, .x = x, .w = w, .b = b, .eps = eps, .N = N, .C = C}, stream);
}
template <class T>
void residual_rmsnorm_forward(T* sum, T* y, float* rstd, const T* residual, const T* branch, const T* w, float eps,
                              int N, int C, cudaStream_t stream) {
    norm_forward<Kind::residual_rmsnorm>(
        Norm<T>{.sum = sum, .y = y, .rstd = rstd, .x = residual, .branch = branch, .w = w, .eps = eps, .N = N, .C = C},
        stream);
}
template <class T>
void residual_layernorm_forward(T* sum, T* y, float* mean, float* rstd, const T* residual, const T* branch, const T* w,
                                const T* b, float eps, int N, int C, cudaStream_t stream) {
    norm_forward<Kind::residual_layernorm>(Norm<T>{sum, y, mean, rstd, residual, branch, w, b, eps, N, C}, stream);
}

#define KILN_NORM(T)                                                                                                  \
    template void rmsnorm_forward(T*, float*, const T*, const T*, float, int, int, cudaStream_t);                     \
    template void layernorm_forward(T*, float*, float*, const T*, const T*, const T*, float, int, int, cudaStream_t); \
    template void residual_rmsnorm_forward(T*, T*, float*, const T*, const T*, const T*, float, int, int,             \
                                           cudaStream_t);                                                             \
    template void residual_layernorm_forward(T*, T*, float*, float*, const T*, const T*, const T*, const T*, float,   \
                                             int, int, cudaStream_t);
KILN_FOR_TYPES(KILN_NORM)

}  // namespace kiln
