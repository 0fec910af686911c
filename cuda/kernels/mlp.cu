// GELU and SwiGLU, forward and backward.
#include "cpu_reference/interface/error.h"
#include "cuda/kernels/column_sums.cuh"
#include "cuda/kernels/kernels.h"

namespace kiln {
namespace {

constexpr int kThreads = 256;
constexpr int kPacks = 2;  // of each tensor that a thread loads at once

// For x far below 0, exp(-x) overflows and the result is 1 / inf = 0.
KILN_DEVICE float sigmoid(float x) {
    return __fdividef(1.0f, 1.0f + __expf(-x));
}
// The complement is sigmoid(-x). 1 - sigmoid(x) would keep the rounding error of the division, which a derivative
// multiplies by x and more. x is at least -80, since s e would be 0 times infinity far below.
struct SigmoidAndComplement {
    float s, complement;
};
KILN_DEVICE SigmoidAndComplement sigmoid_and_complement(float x) {
    const float e = __expf(fminf(-x, 80.0f)), s = __fdividef(1.0f, 1.0f + e);
    return {s, s * e};
}

// GELU's tanh form is x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3), since (1 + tanh u) / 2 = sigmoid(2 u).
constexpr float kSlope = 1.5957691216057308f;  // 2 sqrt(2 / pi)
constexpr float kCubic = 0.044715f;

KILN_DEVICE float gelu_argument(float x) {
    return kSlope * (x + kCubic * x * x * x);
}

// Calls load_pack(k, p), then store_pack(k, p), for each pack p of this thread. All loads come before the first store.
template <class Load, class Store>
KILN_DEVICE void each_pack(int64_t packs, Load&& load_pack, Store&& store_pack) {
    const int64_t first = int64_t(blockIdx.x) * (kThreads * kPacks) + threadIdx.x;
    for (int k = 0; k < kPacks; ++k) {
        if (first + k * kThreads < packs) load_pack(k, first + k * kThreads);
    }
    for (int k = 0; k < kPacks; ++k) {
        if (first + k * kThreads < packs) store_pack(k, first + k * kThreads);
    }
}

// act = gelu(fc); act, fc (N, F).                                                                 arXiv:1606.08415
// Moves 2 N F elements for ~9 N F FLOPs and 2 N F operations of the special function unit: bound by bandwidth.
template <class T>
__global__ void __launch_bounds__(kThreads) gelu_forward_kernel(T* act, const T* fc, int64_t packs) {
    constexpr int kPack = Pack<T>::kSize;
    Pack<T> x[kPacks];
    each_pack(
        packs, [&](int k, int64_t p) { x[k] = load_once(fc + p * kPack); },
        [&](int k, int64_t p) {
            for (int i = 0; i < kPack; ++i) x[k].set(i, x[k][i] * sigmoid(gelu_argument(x[k][i])));
            store(act + p * kPack, x[k]);
        });
}

// dfc = dact * gelu'(fc), and partials[chunk] = sum of the rows of dfc in that chunk, before they are rounded.
// dfc, dact, fc (N, F); partials (gridDim.y, F) float or null. Moves 3 N F elements for ~17 N F FLOPs: bound by
// bandwidth. Summing costs no reads; a kernel of its own would read N F elements again.
template <class T>
__global__ void __launch_bounds__(kColumnWarps* kWarp)
    gelu_backward_kernel(T* dfc, float* partials, const T* dact, const T* fc, int N, int F, int chunk_rows) {
    Pack<T> x[kPacks] = {}, dy[kPacks] = {};
    sum_columns<T, kPacks>(
        partials, N, F, chunk_rows,
        [&](int r, int64_t at) {
            x[r] = load_once(fc + at);
            dy[r] = load_once(dact + at);
        },
        [&](float* sum, int r, int64_t at) {
            keep_packed(x[r]), keep_packed(dy[r]);
            for (int i = 0; i < Pack<T>::kSize; ++i) {
                const float v = x[r][i];
                const auto [s, complement] = sigmoid_and_complement(gelu_argument(v));
                const float slope = s + v * s * complement * kSlope * (1.0f + 3.0f * kCubic * v * v);
                const float dx = dy[r][i] * slope;
                sum[i] += dx;
                dy[r].set(i, dx);
            }
            store(dfc + at, dy[r]);
        });
}

// A row of fc (N, 2 F) is gate, then up, each of F elements or `width` packs. For pack p of act (N, F), this is the
// pack of its gate.
KILN_DEVICE int64_t gate_pack(int64_t p, unsigned width) {
    return p + int64_t(unsigned(p) / width) * width;
}
template <class T>
KILN_DEVICE void load_gate_up(Pack<T>& gate, Pack<T>& up, const T* fc, int64_t p, unsigned width) {
    const T* const at = fc + gate_pack(p, width) * Pack<T>::kSize;
    gate = load_once(at);
    up = load_once(at + width * Pack<T>::kSize);
}

// act = gate * sigmoid(gate) * up.                                                                arXiv:2002.05202
// Moves 3 N F elements for ~5 N F FLOPs and 2 N F operations of the special function unit: bound by bandwidth.
template <class T>
__global__ void __launch_bounds__(kThreads) swiglu_forward_kernel(T* act, const T* fc, unsigned width, int64_t packs) {
    constexpr int kPack = Pack<T>::kSize;
    Pack<T> gate[kPacks], up[kPacks];
    each_pack(
        packs, [&](int k, int64_t p) { load_gate_up(gate[k], up[k], fc, p, width); },
        [&](int k, int64_t p) {
            for (int i = 0; i < kPack; ++i) up[k].set(i, gate[k][i] * sigmoid(gate[k][i]) * up[k][i]);
            store(act + p * kPack, up[k]);
        });
}

// With s = sigmoid(gate): dgate = dact * up * s * (1 + gate * (1 - s)), dup = dact * gate * s. Shapes as above.
// Moves 5 N F elements for ~10 N F FLOPs: bound by bandwidth.
template <class T>
__global__ void __launch_bounds__(kThreads)
    swiglu_backward_kernel(T* dfc, const T* dact, const T* fc, unsigned width, int64_t packs) {
    constexpr int kPack = Pack<T>::kSize;
    Pack<T> gate[kPacks], up[kPacks], dy[kPacks];
    each_pack(
        packs,
        [&](int k, int64_t p) {
            load_gate_up(gate[k], up[k], fc, p, width);
            dy[k] = load_once(dact + p * kPack);
        },
        [&](int k, int64_t p) {
            for (int i = 0; i < kPack; ++i) {
                const float g = gate[k][i], d = dy[k][i];
                const auto [s, complement] = sigmoid_and_complement(g);
                gate[k].set(i, d * up[k][i] * s * (1.0f + g * complement));
                up[k].set(i, d * g * s);
            }
            T* const at = dfc + gate_pack(p, width) * kPack;
            store(at, gate[k]);
            store(at + width * kPack, up[k]);
        });
}

template <class T>
int64_t packs_of(const char* name, int N, int F) {
    const int64_t packs = int64_t(N) * F / Pack<T>::kSize;
    KILN_CHECK(N > 0 && F > 0 && F % 8 == 0 && packs < int64_t(1) << 32, name, ": N ", N, ", F ", F,
               "; F must be a multiple of 8, and a tensor must be below 2^36 bytes");
    return packs;
}
LaunchConfig blocks_of(int64_t packs, cudaStream_t stream) {
    return {
        .grid = unsigned((packs + kThreads * kPacks - 1) / (kThreads * kPacks)), .block = kThreads, .stream = stream};
}

}  // namespace

template <class T>
void gelu_forward(T* act, const T* fc, int N, int F, cudaStream_t stream) {
    const int64_t packs = packs_of<T>("gelu_forward", N, F);
    launch<gelu_forward_kernel<T>>(blocks_of(packs, stream), act, fc, packs);
}
template <class T, class G>
void gelu_backward(T* dfc, const BiasGradient<G>& bias, float* scratch, const T* dact, const T* fc, int N, int F,
                   cudaStream_t stream) {
    KILN_CHECK(N > 0 && F > 0 && F % 8 == 0, "gelu_backward: N ", N, ", F ", F, "; F must be a multiple of 8");
    const ColumnPlan plan(N, F);
    launch<gelu_backward_kernel<T>>(plan.launch<T>(F, stream), dfc, bias.db ? scratch : nullptr, dact, fc, N, F,
                                    plan.chunk_rows);
    if (bias.db) sum_partials<G>(bias.db, nullptr, scratch, plan.chunks, F, bias.accumulate, stream);
}
template <class T>
void swiglu_forward(T* act, const T* fc, int N, int F, cudaStream_t stream) {
    const int64_t packs = packs_of<T>("swiglu_forward", N, F);
    launch<swiglu_forward_kernel<T>>(blocks_of(packs, stream), act, fc, unsigned(F / Pack<T>::kSize), packs);
}
template <class T>
void swiglu_backward(T* dfc, const T* dact, const T* fc, int N, int F, cudaStream_t stream) {
    const int64_t packs = packs_of<T>("swiglu_backward", N, F);
    launch<swiglu_backward_kernel<T>>(blocks_of(packs, stream), dfc, dact, fc, unsigned(F / Pack<T>::kSize), packs);
}

#define KILN_MLP(T)                                                     \
    template void gelu_forward(T*, const T*, int, int, cudaStream_t);   \
    template void swiglu_forward(T*, const T*, int, int, cudaStream_t); \
    template void swiglu_backward(T*, const T*, const T*, int, int, cudaStream_t);
#define KILN_GELU_BACKWARD(T, G) \
    template void gelu_backward(T*, const BiasGradient<G>&, float*, const T*, const T*, int, int, cudaStream_t);
KILN_FOR_TYPES(KILN_MLP)
KILN_FOR_GRADIENT_TYPES(KILN_GELU_BACKWARD)

}  // namespace kiln
