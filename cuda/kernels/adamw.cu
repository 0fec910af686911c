// AdamW over an arena, and what it needs first: the norm of the gradients, and whether all are finite.
#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/quad.cuh"
#include "cuda/kernels/reduce.cuh"
#include "cuda/kernels/rounding.cuh"

namespace kiln {
namespace {

constexpr int kThreads = 256;
// Eight blocks for each multiprocessor of a large GPU. It is a constant, so that the order of the sum is the same on
// every device.
constexpr int kSumBlocks = 1056, kSumPacks = 4;

// partials[block] = sum of x[i]^2 over tiles block, block + gridDim.x, ...; a thread has kSumPacks packs of a tile.
// Moves n elements for 2 n FLOPs: bound by bandwidth.
template <class T>
__global__ void __launch_bounds__(kThreads) sum_of_squares_kernel(float* partials, const T* x, size_t n) {
    constexpr int kPack = Pack<T>::kSize;
    constexpr size_t kTile = size_t(kThreads) * kPack * kSumPacks;
    float sums[kSumPacks] = {};
    for (size_t tile = blockIdx.x * kTile; tile < n; tile += gridDim.x * kTile) {
        const size_t first = tile + threadIdx.x * kPack;
        Pack<T> packs[kSumPacks] = {};
        for (int p = 0; p < kSumPacks; ++p) {
            const size_t i = first + p * (kThreads * kPack);
            if (i + kPack <= n) {
                packs[p] = load_once(x + i);
            } else {
                for (int k = 0; k < kPack; ++k) {
                    if (i + k < n) packs[p].v[k] = x[i + k];
                }
            }
        }
        for (int p = 0; p < kSumPacks; ++p) {
            for (int k = 0; k < kPack; ++k) sums[p] = fmaf(packs[p][k], packs[p][k], sums[p]);
        }
    }
    const float sum = block_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// sum = partials[0] + partials[1] + ... One block.
__global__ void __launch_bounds__(kThreads) finish_sum_of_squares_kernel(float* sum, const float* partials, int count) {
    float mine = 0;
    for (int i = threadIdx.x; i < count; i += kThreads) mine += partials[i];
    const float total = block_sum(mine);
    if (threadIdx.x == 0) *sum = total;
}

// norm = scale * sqrt(sum); grad_scale = scale * min(1, max_norm / norm), or scale if max_norm is 0; non_finite =
// whether the sum or a loss is infinite or NaN. Squares do not cancel, so one such gradient makes the sum so. Finite
// gradients whose sum exceeds 3e38 count as not finite too. One block.
__global__ void __launch_bounds__(kThreads) gradient_scale_kernel(GradientScale a) {
    bool bad = !(*a.sum < INFINITY);
    for (int i = threadIdx.x; i < a.n_losses; i += kThreads) bad |= !(fabsf(a.losses[i]) < INFINITY);
    bad = __syncthreads_or(bad);
    if (threadIdx.x > 0) return;
    const float length = a.scale * sqrtf(*a.sum);
    *a.non_finite = bad;
    *a.norm = length;
    *a.grad_scale = a.max_norm > 0 && length > a.max_norm ? a.scale * (a.max_norm / length) : a.scale;
}

// What the host computes once for a step.
struct Coefficients {
    float beta1, beta2, one_minus_beta1, one_minus_beta2, eps, step, root2, decay;
};

// AdamW. A thread has four elements.                                                              arXiv:1711.05101
//     m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,  g = grad_scale * gradient
//     p -= lr / correction1 * m / (sqrt(v / correction2) + eps) + lr * weight_decay * p
// with weight_decay only in the ranges of the arena that decay. p in T is rounded from the float32 master; without a
// master it is rounded stochastically by philox(element, step). fmaf is explicit, so that host and device compute the
// same bits.
// Moves, for each element, the gradient once, m, v and the master twice, and p once (twice without a master): 28 bytes
// with bf16 gradients, for ~15 FLOPs: bound by bandwidth.
template <class T, class G, class M>
__global__ void __launch_bounds__(kThreads, KILN_RESIDENT_THREADS >= 5 * kThreads ? 5 : 4)
    adamw_kernel(AdamWArena<T, G, M> a, AdamWRounding rounding, Coefficients k) {
    if (a.non_finite && *a.non_finite) return;
    const size_t first = (size_t(blockIdx.x) * kThreads + threadIdx.x) * 4;
    const bool mine = first < a.n;
    Quad<G> g = {};
    Quad<M> m = {}, v = {};
    Quad<float> p = {};
    if (mine) {
        g = load_quad_once(a.grads + first);
        m = load_quad_once(a.m + first);
        v = load_quad_once(a.v + first);
        if (a.master) {
            p = load_quad_once(a.master + first);
        } else {
            const Quad<T> old = load_quad_once(a.params + first);
            for (int i = 0; i < 4; ++i) p.set(i, old[i]);
        }
    }
    // While the loads run, count the switches of decay up to this element. If the count is even, the element decays.
    const size_t block_end = (size_t(blockIdx.x) + 1) * kThreads * 4;
    int switches = 0;
    for (int base = 0; base < a.switches; base += kThreads) {
        const int i = base + int(threadIdx.x);
        switches += __syncthreads_count(i < a.switches && a.decay_switches[i] + kThreads * 4 <= block_end);
    }
    if (!mine) return;
    while (switches < a.switches && a.decay_switches[switches] <= first) ++switches;
    const float decay = switches % 2 == 0 ? k.decay : 0.0f, grad_scale = *a.grad_scale;
    const uint64_t element4 = (rounding.first_element + first) / 4;
    Philox4 moment_words = {};
    if constexpr (!std::is_same_v<M, float>) {
        moment_words = rounding_words(rounding.seed, rounding.step, Rounded::moments, element4);
    }
    for (int i = 0; i < 4; ++i) {
        const float gradient = grad_scale * g[i];
        const float m_new = fmaf(k.beta1, m[i], k.one_minus_beta1 * gradient);
        const float v_new = fmaf(k.beta2, v[i], k.one_minus_beta2 * gradient * gradient);
        const float change = k.step * m_new / fmaf(sqrtf(v_new), k.root2, k.eps);
        // Rounded to nearest, a moment in bf16 would not change: 0.001 v is less than half of its last bit.
        m.v[i] = round_stochastically<M>(m_new, moment_words.v[i]);
        v.v[i] = round_stochastically<M>(v_new, moment_words.v[i] << 16);
        p.set(i, p[i] - fmaf(decay, p[i], change));
    }
    store_quad_once(a.m + first, m);
    store_quad_once(a.v + first, v);
    Quad<T> out;
    if (a.master) {
        store_quad_once(a.master + first, p);
        for (int i = 0; i < 4; ++i) out.set(i, p[i]);
    } else if constexpr (std::is_same_v<T, float>) {
        out = p;
    } else {
        const Philox4 words = rounding_words(rounding.seed, rounding.step, Rounded::params, element4);
        for (int i = 0; i < 4; ++i) out.v[i] = round_stochastically<T>(p[i], words.v[i]);
    }
    store_quad_once(a.params + first, out);
}

}  // namespace

size_t sum_of_squares_scratch_floats() {
    return kSumBlocks;
}

template <class T>
void sum_of_squares(float* sum, float* scratch, const T* x, size_t n, cudaStream_t stream) {
    constexpr size_t kTile = size_t(kThreads) * Pack<T>::kSize * kSumPacks;
    const int blocks = int(std::clamp<size_t>((n + kTile - 1) / kTile, 1, kSumBlocks));
    launch<sum_of_squares_kernel<T>>({.grid = blocks, .block = kThreads, .stream = stream}, scratch, x, n);
    launch<finish_sum_of_squares_kernel>({.grid = 1, .block = kThreads, .stream = stream}, sum, scratch, blocks);
}

void gradient_scale(const GradientScale& a, cudaStream_t stream) {
    launch<gradient_scale_kernel>({.grid = 1, .block = kThreads, .stream = stream}, a);
}

template <class T, class G, class M>
void adamw(const AdamWArena<T, G, M>& a, const AdamWStepSize& s, const AdamWRounding& rounding, cudaStream_t stream) {
    if (a.n == 0) return;
    KILN_CHECK(a.n % 4 == 0 && rounding.first_element % 4 == 0, "adamw: ", a.n, " elements from ",
               rounding.first_element, "; both must be multiples of 4");
    KILN_CHECK(s.correction1 > 0 && s.correction2 > 0, "adamw: corrections ", s.correction1, ", ", s.correction2);
    const Coefficients k = {s.beta1,
                            s.beta2,
                            1.0f - s.beta1,
                            1.0f - s.beta2,
                            s.eps,
                            s.lr / s.correction1,
                            1.0f / std::sqrt(s.correction2),
                            s.lr * s.weight_decay};
    launch<adamw_kernel<T, G, M>>(
        {.grid = unsigned((a.n / 4 + kThreads - 1) / kThreads), .block = kThreads, .stream = stream}, a, rounding, k);
}

#define KILN_SUM_OF_SQUARES(T) template void sum_of_squares(float*, float*, const T*, size_t, cudaStream_t);
KILN_FOR_TYPES(KILN_SUM_OF_SQUARES)

#define KILN_ADAMW(T, G, M) \
    template void adamw(const AdamWArena<T, G, M>&, const AdamWStepSize&, const AdamWRounding&, cudaStream_t);
#define KILN_ADAMW_MOMENTS(T, G) KILN_ADAMW(T, G, float) KILN_ADAMW(T, G, __nv_bfloat16)
KILN_FOR_GRADIENT_TYPES(KILN_ADAMW_MOMENTS)

}  // namespace kiln
