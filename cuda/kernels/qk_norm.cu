// QK-norm: RMSNorm over each head of q and k.
#include <algorithm>
#include <bit>

#include "cpu_reference/interface/error.h"
#include "cuda/device/planned_device.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/reduce.cuh"

namespace kiln {
namespace {

constexpr int kThreads = 256, kMaxHeadSize = 256;
constexpr int kHeads = 2;  // heads that a group of lanes loads at once

template <class T>
struct Heads {
    const T *q_norm, *k_norm;  // (HS)
    int N, NH, heads, HS, stride;
    int group;  // how many lanes hold a head, kPacks packs each; a power of two
};

KILN_DEVICE float group_sum(float x, int group) {
    for (int bits = group / 2; bits > 0; bits /= 2) x += __shfl_xor_sync(~0u, x, bits);
    return x;
}

// x = x * rstd * w for each head of q and k, rstd = 1 / sqrt(mean(x^2) + eps), w = q_norm or k_norm.  arXiv:2010.04245
// qkv (N, (NH + 2 NKV) HS) in place; x are its first NH + NKV heads. raw (N, NH + NKV, HS), the copy of x, and rstd
// (N, NH + NKV) float may be null.  HS % 8 == 0, HS <= 256.
// Moves 2 N (NH + NKV) HS elements (3 with raw) and 4 N (NH + NKV) bytes for ~4 FLOPs an element: bound by bandwidth.
// A group of lanes holds a head in registers, and has kHeads heads.
template <class T, int kPacks>
__global__ void __launch_bounds__(kThreads)
    qk_norm_forward_kernel(T* qkv, T* raw, float* rstds, const Heads<T> p, float eps) {
    constexpr int kPack = Pack<T>::kSize;
    const int lane = threadIdx.x % p.group, groups = kThreads / p.group, all = p.N * p.heads;
    const int first = blockIdx.x * groups * kHeads + threadIdx.x / p.group;
    Pack<T> x[kHeads][kPacks] = {};
    for (int k = 0; k < kHeads; ++k) {
        const int head = first + k * groups;
        for (int j = 0; j < kPacks; ++j) {
            const int c = (j * p.group + lane) * kPack;
            if (head >= all || c >= p.HS) continue;
            x[k][j] = load(qkv + int64_t(head / p.heads) * p.stride + head % p.heads * p.HS + c);
        }
    }
    for (int k = 0; k < kHeads; ++k) {
        const int head = first + k * groups, n = head / p.heads, h = head % p.heads;
        float sum = 0;
        for (int j = 0; j < kPacks; ++j) {
            for (int i = 0; i < kPack; ++i) sum += x[k][j][i] * x[k][j][i];
        }
        const float rstd = rsqrtf(group_sum(sum, p.group) / p.HS + eps);
        if (head >= all) continue;
        if (lane == 0 && rstds) rstds[head] = rstd;
        const T* const w = h < p.NH ? p.q_norm : p.k_norm;
        for (int j = 0; j < kPacks; ++j) {
            const int c = (j * p.group + lane) * kPack;
            if (c >= p.HS) continue;
            if (raw) store_once(raw + int64_t(head) * p.HS + c, x[k][j]);
            const Pack<T> weight = load(w + c);
            Pack<T> y;
            for (int i = 0; i < kPack; ++i) y.set(i, x[k][j][i] * rstd * weight[i]);
            store(qkv + int64_t(n) * p.stride + h * p.HS + c, y);
        }
    }
}

// With x = raw, xhat = x * rstd, g = dy * w over a head: dqkv holds dy, which becomes rstd * (g - xhat * mean(g *
// xhat)); dq_norm and dk_norm = or += sum over rows and heads of dy * xhat. Shapes as above. Moves 3 N (NH + NKV) HS
// elements and 4 N (NH + NKV) bytes for ~12 FLOPs an element: bound by bandwidth. Groups of lanes as above. Each takes
// heads that are gridDim.x blocks apart, and keeps the sums of its columns for q and for k in registers. Each block
// stores its sums to partials (gridDim.x, 2, HS), and sum_partials adds those up.
template <class T, int kPacks>
__global__ void __launch_bounds__(kThreads, kPacks == 1 ? 3 : 2)
    qk_norm_backward_kernel(T* dqkv, float* partials, const T* raw, const float* rstds, const Heads<T> p) {
    constexpr int kPack = Pack<T>::kSize;
    const int lane = threadIdx.x % p.group, group = threadIdx.x / p.group, groups = kThreads / p.group;
    const int all = p.N * p.heads, step = gridDim.x * groups * kHeads;
    float dq[kPacks][kPack] = {}, dk[kPacks][kPack] = {};
    for (int base = blockIdx.x * groups * kHeads; base < all; base += step) {
        Pack<T> x[kHeads][kPacks] = {}, dy[kHeads][kPacks] = {};
        float rstd[kHeads] = {};
        for (int k = 0; k < kHeads; ++k) {
            const int head = base + k * groups + group;
            if (head >= all) continue;
            rstd[k] = rstds[head];
            for (int j = 0; j < kPacks; ++j) {
                const int c = (j * p.group + lane) * kPack;
                if (c >= p.HS) continue;
                x[k][j] = load_once(raw + int64_t(head) * p.HS + c);
                dy[k][j] = load(dqkv + int64_t(head / p.heads) * p.stride + head % p.heads * p.HS + c);
            }
        }
        for (int k = 0; k < kHeads; ++k) {
            const int head = base + k * groups + group, n = head / p.heads, h = head % p.heads;
            const T* const w = h < p.NH ? p.q_norm : p.k_norm;
            Pack<T> weight[kPacks] = {};
            float dot = 0;
            for (int j = 0; j < kPacks; ++j) {
                const int c = (j * p.group + lane) * kPack;
                if (c < p.HS) weight[j] = load(w + c);
                for (int i = 0; i < kPack; ++i) {
                    const float d = dy[k][j][i] * x[k][j][i] * rstd[k];
                    dot += d * weight[j][i];
                    dq[j][i] += h < p.NH ? d : 0.0f;
                    dk[j][i] += h < p.NH ? 0.0f : d;
                }
                keep_packed(x[k][j]), keep_packed(dy[k][j]);
            }
            const float along = group_sum(dot, p.group) / p.HS;
            if (head >= all) continue;
            for (int j = 0; j < kPacks; ++j) {
                const int c = (j * p.group + lane) * kPack;
                if (c >= p.HS) continue;
                Pack<T> dx;
                for (int i = 0; i < kPack; ++i) {
                    dx.set(i, rstd[k] * (dy[k][j][i] * weight[j][i] - x[k][j][i] * rstd[k] * along));
                }
                store(dqkv + int64_t(n) * p.stride + h * p.HS + c, dx);
            }
        }
    }
    // Adds up the sums of the groups, in the order of the groups. columns (groups, HS).
    KILN_SHARED(float, columns, kThreads* kPacks* kPack);
    for (int s = 0; s < 2; ++s) {
        if (s > 0) __syncthreads();
        for (int j = 0; j < kPacks; ++j) {
            const int c = (j * p.group + lane) * kPack;
            if (c >= p.HS) continue;
            for (int i = 0; i < kPack; ++i) columns[group * p.HS + c + i] = s == 0 ? dq[j][i] : dk[j][i];
        }
        __syncthreads();
        for (int c = threadIdx.x; c < p.HS; c += kThreads) {
            float sum = 0;
            for (int g = 0; g < groups; ++g) sum += columns[g * p.HS + c];
            partials[(blockIdx.x * 2 + s) * p.HS + c] = sum;
        }
    }
}

template <class T>
Heads<T> heads_of(const T* q_norm, const T* k_norm, int N, int NH, int NKV, int HS) {
    KILN_CHECK(N > 0 && NH > 0 && NKV > 0 && HS > 0 && HS % 8 == 0 && HS <= kMaxHeadSize, "qk_norm: N ", N, ", NH ", NH,
               ", NKV ", NKV, ", HS ", HS, "; HS must be a multiple of 8 up to ", kMaxHeadSize);
    KILN_CHECK(int64_t(N) * (NH + NKV) < 1 << 30, "qk_norm: ", N, " rows of ", NH + NKV, " heads are too many");
    const int group = std::min(kWarp, int(std::bit_ceil(unsigned(HS / Pack<T>::kSize))));
    return {q_norm, k_norm, N, NH, NH + NKV, HS, (NH + 2 * NKV) * HS, group};
}

int blocks_needed(int heads, int group) {
    const int a_block = kThreads / group * kHeads;
    return (heads + a_block - 1) / a_block;
}
int resident_blocks() {
    return 3 * multiprocessors_to_plan_for();
}

}  // namespace

template <class T>
void qk_norm_forward(T* qkv, T* raw, float* rstd, const T* q_norm, const T* k_norm, float eps, int N, int NH, int NKV,
                     int HS, cudaStream_t stream) {
    const Heads<T> p = heads_of(q_norm, k_norm, N, NH, NKV, HS);
    const LaunchConfig config{.grid = blocks_needed(N * p.heads, p.group), .block = kThreads, .stream = stream};
    if (HS <= kWarp * Pack<T>::kSize) {
        launch<qk_norm_forward_kernel<T, 1>>(config, qkv, raw, rstd, p, eps);
    } else {
        launch<qk_norm_forward_kernel<T, kMaxHeadSize / kWarp / Pack<T>::kSize>>(config, qkv, raw, rstd, p, eps);
    }
}

size_t qk_norm_backward_scratch_floats(int HS) {
    return size_t(resident_blocks()) * 2 * HS;
}

template <class T, class G>
void qk_norm_backward(const QkNormBackward<T, G>& a, cudaStream_t stream) {
    const Heads<T> p = heads_of(a.q_norm, a.k_norm, a.N, a.NH, a.NKV, a.HS);
    const int blocks = std::min(resident_blocks(), blocks_needed(a.N * p.heads, p.group));
    const LaunchConfig config{.grid = blocks, .block = kThreads, .stream = stream};
    if (a.HS <= kWarp * Pack<T>::kSize) {
        launch<qk_norm_backward_kernel<T, 1>>(config, a.dqkv, a.scratch, a.raw, a.rstd, p);
    } else {
        launch<qk_norm_backward_kernel<T, kMaxHeadSize / kWarp / Pack<T>::kSize>>(config, a.dqkv, a.scratch, a.raw,
                                                                                  a.rstd, p);
    }
    sum_partials(a.dq_norm, a.dk_norm, a.scratch, blocks, a.HS, a.accumulate, stream);
}

#define KILN_QK_NORM(T) \
    template void qk_norm_forward(T*, T*, float*, const T*, const T*, float, int, int, int, int, cudaStream_t);
#define KILN_QK_NORM_BACKWARD(T, G) template void qk_norm_backward(const QkNormBackward<T, G>&, cudaStream_t);
KILN_FOR_TYPES(KILN_QK_NORM)
KILN_FOR_GRADIENT_TYPES(KILN_QK_NORM_BACKWARD)

}  // namespace kiln
