// Softmax, cross-entropy and its gradient in one pass over the logits; the sum of the losses.
#include <bit>

#include "cpu_reference/interface/error.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/reduce.cuh"

namespace kiln {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kBatch = 4;  // packs that a thread loads at once

// Pack p of a row of V logits. Beyond them it has minus infinity, whose exponential is 0.
template <class T>
KILN_DEVICE Pack<T> load_logits(const T* row, int p, int V) {
    constexpr int kPack = Pack<T>::kSize;
    Pack<T> x;
    if (p * kPack < V) x = load_once(row + p * kPack);
    if ((p + 1) * kPack > V) {
        for (int i = 0; i < kPack; ++i) {
            if (p * kPack + i >= V) x.set(i, -INFINITY);
        }
    }
    return x;
}

// losses[n] = log(sum_v exp(x[n, v])) - x[n, target], and x[n, v] = scale * (softmax(x[n])[v] - [v == target]). The sum
// is scaled down when a larger maximum is found.                           arXiv:1805.02867 (online softmax)
// x (N, Vp): logits, then their gradient; the columns from V on are padding, and get 0. losses (N) float; targets (N).
// One block a row. The first `held_packs` packs of the row stay in shared memory; the others are read again, mostly
// from the L2 cache. Moves N (V + Vp) elements and 8 N bytes for ~8 N V FLOPs, two exponentials an element: bound by
// bandwidth.
template <class T>
__global__ void __launch_bounds__(kMaxThreads)
    cross_entropy_kernel(float* losses, T* logits, const int* targets, float gradient_scale,
                         const float* gradient_factor, int held_packs, int V, int Vp) {
    constexpr int kPack = Pack<T>::kSize;
    KILN_DYNAMIC_SHARED(T, held);  // (held_packs, kPack): each thread reads only what it wrote, so no barrier is needed
    const int threads = blockDim.x, tid = threadIdx.x, packs = (V + kPack - 1) / kPack, all_packs = Vp / kPack;
    T* const row = logits + int64_t(blockIdx.x) * Vp;
    const int target = targets[blockIdx.x];
    if (target < 0 || target >= V) {
        const float value = target < 0 ? 0 : NAN;
        if (tid == 0) losses[blockIdx.x] = value;
        if (gradient_scale == 0) return;
        Pack<T> values;
        for (int i = 0; i < kPack; ++i) values.set(i, value);
        for (int p = tid; p < all_packs; p += threads) store_once(row + p * kPack, values);
        return;
    }
    const float target_logit = to_float(row[target]);  // barriers stand between this and the gradient's store

    float highest = -INFINITY, sum = 0;
    for (int first = tid; first < packs; first += kBatch * threads) {
        Pack<T> x[kBatch];
        for (int j = 0; j < kBatch; ++j) x[j] = load_logits(row, first + j * threads, V);
        float batch_highest = highest;
        for (int j = 0; j < kBatch; ++j) {
            if (first + j * threads < held_packs) store(held + (first + j * threads) * kPack, x[j]);
            for (int i = 0; i < kPack; ++i) batch_highest = fmaxf(batch_highest, x[j][i]);
        }
        // Minus infinity minus itself would be NaN.
        const float shift = batch_highest == -INFINITY ? 0 : batch_highest;
        float parts[kBatch] = {};
        for (int j = 0; j < kBatch; ++j) {
            for (int i = 0; i < kPack; ++i) parts[j] += __expf(x[j][i] - shift);
        }
        sum *= __expf(highest - shift);
        for (const float part : parts) sum += part;
        highest = batch_highest;
    }
    const float row_highest = block_max(highest);
    const float row_sum = block_sum(highest == -INFINITY ? sum : sum * __expf(highest - row_highest));
    if (tid == 0) losses[blockIdx.x] = logf(row_sum) - (target_logit - row_highest);

    if (gradient_scale == 0) return;
    const float scale = gradient_factor ? gradient_scale * *gradient_factor : gradient_scale;
    const float scale_of_exp = scale / row_sum;
    for (int p = tid; p < all_packs; p += threads) {
        const Pack<T> x = p < held_packs ? load(held + p * kPack) : load_logits(row, p, V);
        Pack<T> gradient;
        for (int i = 0; i < kPack; ++i) {
            const float of_target = p * kPack + i == target ? scale : 0;
            gradient.set(i, __expf(x[i] - row_highest) * scale_of_exp - of_target);
        }
        store_once(row + p * kPack, gradient);
    }
}

// sum = sum of losses (N): each thread adds up its losses in order, then a tree adds up the threads. One block, which
// reads 256 KB at N = 65536.
__global__ void __launch_bounds__(kMaxThreads) sum_losses_kernel(float* sum, const float* losses, int N) {
    float mine = 0;
    for (int n = threadIdx.x; n < N; n += kMaxThreads) mine += losses[n];
    const float total = block_sum(mine);
    if (threadIdx.x == 0) *sum = total;
}

}  // namespace

template <class T>
void cross_entropy(float* losses, T* logits, const int* targets, float gradient_scale, const float* gradient_factor,
                   int N, int V, int Vp, cudaStream_t stream) {
    constexpr int kPack = Pack<T>::kSize, kReserve = 1024;  // bytes of shared memory for the sums
    KILN_CHECK(N > 0 && V > 0 && Vp >= V && Vp % 128 == 0, "cross_entropy: N ", N, ", V ", V, ", Vp ", Vp,
               "; Vp must be a multiple of 128, and V at most Vp");
    const int packs = (V + kPack - 1) / kPack;
    const int held_packs = gradient_scale == 0 ? 0 : std::min(packs, (max_shared_bytes() - kReserve) / 16);
    // Two blocks of 512 threads if two rows fit into a multiprocessor's shared memory, else one of 1024.
    const unsigned widest = blocks_with_shared_bytes(held_packs * 16 + kReserve) < 2 ? kMaxThreads : kMaxThreads / 2;
    const unsigned threads = std::min(std::max(std::bit_ceil(unsigned(packs)), unsigned(kWarp)), widest);
    launch<cross_entropy_kernel<T>>(
        {.grid = unsigned(N), .block = threads, .shared_bytes = size_t(held_packs) * 16, .stream = stream}, losses,
        logits, targets, gradient_scale, gradient_factor, held_packs, V, Vp);
}

void sum_losses(float* sum, const float* losses, int N, cudaStream_t stream) {
    KILN_CHECK(N > 0, "sum_losses: N ", N);
    launch<sum_losses_kernel>({.grid = 1, .block = kMaxThreads, .stream = stream}, sum, losses, N);
}

#define KILN_LOSS(T) \
    template void cross_entropy(float*, T*, const int*, float, const float*, int, int, int, cudaStream_t);
KILN_FOR_TYPES(KILN_LOSS)

}  // namespace kiln
