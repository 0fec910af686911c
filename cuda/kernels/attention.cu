// Plain causal attention: float32 arithmetic on CUDA cores, for every head size and element type. E is the element
// type; T the length of a sequence.
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/reduce.cuh"

namespace kiln {
namespace {

constexpr int kThreads = 256;

// How a block's threads share a kTile x kTile tile of scores and a kTile x HS tile of sums. Thread (ty, tx) has rows
// ty * kRows to (ty + 1) * kRows - 1. Its columns are tx * kCols to (tx + 1) * kCols - 1 of the scores, and tx, tx +
// kTx, tx + 2 kTx, ... of the sums.
template <int kTile>
struct Tile {
    static constexpr int kBlock = kTile >= 16 ? kThreads : 64;
    static constexpr int kCols = kTile >= 32 ? 4 : 1, kTx = kTile / kCols, kTy = kBlock / kTx, kRows = kTile / kTy;
    static constexpr int kPitch = kTile + 1;
    static_assert(kRows * kTy == kTile);
    static KILN_DEVICE int tx() { return threadIdx.x % kTx; }
    static KILN_DEVICE int ty() { return threadIdx.x / kTx; }
};

size_t shared_bytes(int operands, int tiles_of_scores, int tile, int HS) {
    return sizeof(float) * (size_t(operands) * tile * (HS + 1) + size_t(tiles_of_scores) * tile * (tile + 1));
}
// The largest tile, from `tile` down, whose block fits into the shared memory. Only sm_75, with 64 KB, needs another
// one: from head sizes of 96 (forward) and 112 (backward) on, and again from 240 and 248 on.
int tile_that_fits(int operands, int tiles_of_scores, int tile, int HS) {
    while (shared_bytes(operands, tiles_of_scores, tile, HS) > size_t(max_shared_bytes())) tile /= 2;
    return tile;
}

// How many elements a thread loads at a time: HS is a multiple of 4, not always of a pack.
constexpr int kWidth = 4;
template <class E>
KILN_DEVICE Elements<E, kWidth> load_four(const E* x) {
    return *reinterpret_cast<const Elements<E, kWidth>*>(x);
}

// tile (kTile, HS + 1) = the first `rows` rows at x, `stride` elements apart, then rows of zeros.
template <int kTile, class E>
KILN_DEVICE void load_tile(float* tile, const E* x, int64_t stride, int rows, int HS) {
    const int parts = HS / kWidth;
    for (int i = threadIdx.x; i < kTile * parts; i += Tile<kTile>::kBlock) {
        const int r = i / parts, c = i % parts * kWidth;
        Elements<E, kWidth> part;
        if (r < rows) part = load_four(x + r * stride + c);
        for (int j = 0; j < kWidth; ++j) tile[r * (HS + 1) + c + j] = r < rows ? to_float(part.v[j]) : 0.0f;
    }
}

// s = this thread's part of a b^T; a, b (kTile, HS + 1).
template <int kTile>
KILN_DEVICE void multiply_rows(float (&s)[Tile<kTile>::kRows][Tile<kTile>::kCols], const float* a, const float* b,
                               int HS) {
    using L = Tile<kTile>;
    for (auto& row : s) {
        for (float& x : row) x = 0;
    }
    a += L::ty() * L::kRows * (HS + 1);
    b += L::tx() * L::kCols * (HS + 1);
    for (int c = 0; c < HS; ++c) {
        float of_b[L::kCols];
        for (int j = 0; j < L::kCols; ++j) of_b[j] = b[j * (HS + 1) + c];
        for (int i = 0; i < L::kRows; ++i) {
            const float of_a = a[i * (HS + 1) + c];
            for (int j = 0; j < L::kCols; ++j) s[i][j] += of_a * of_b[j];
        }
    }
}

// sums (kTile, HS) += this thread's part of p x, or of p^T x; p (kTile, kTile + 1), x (kTile, HS + 1).
template <int kTile, bool kTransposed, int kOut>
KILN_DEVICE void add_matmul(float (&sums)[Tile<kTile>::kRows][kOut], const float* p, const float* x, int HS) {
    using L = Tile<kTile>;
    for (int k = 0; k < kTile; ++k) {
        float of_p[L::kRows];
        for (int i = 0; i < L::kRows; ++i) {
            const int row = L::ty() * L::kRows + i;
            of_p[i] = kTransposed ? p[k * L::kPitch + row] : p[row * L::kPitch + k];
        }
        for (int j = 0; j < kOut; ++j) {
            const int c = L::tx() + j * L::kTx;
            const float of_x = c < HS ? x[k * (HS + 1) + c] : 0.0f;
            for (int i = 0; i < L::kRows; ++i) sums[i][j] += of_p[i] * of_x;
        }
    }
}

// The first `rows` rows of x, `stride` elements apart, = sums times the factor of each row.
template <int kTile, int kOut, class E>
KILN_DEVICE void store_sums(E* x, int64_t stride, const float (&sums)[Tile<kTile>::kRows][kOut],
                            const float (&factors)[Tile<kTile>::kRows], int rows, int HS) {
    using L = Tile<kTile>;
    for (int i = 0; i < L::kRows; ++i) {
        const int row = L::ty() * L::kRows + i;
        for (int j = 0; j < kOut; ++j) {
            const int c = L::tx() + j * L::kTx;
            if (row < rows && c < HS) x[row * stride + c] = from_float<E>(sums[i][j] * factors[i]);
        }
    }
}

// x *= mask / (1 - p). x holds the probabilities of query q and keys k, k + 1, ...: one key, or four with k % 4 == 0.
template <int kCols>
KILN_DEVICE void drop(float (&x)[kCols], const Dropout& d, int b, int h, int q, int k) {
    const Philox4 words = dropout_words(d.seed, d.stream, d.first_sample + b, d.layer, h, q, unsigned(k) / 4);
    const float keep_scale = 1.0f / (1.0f - d.p);
    const uint32_t threshold = threshold01(d.p);
    for (int j = 0; j < kCols; ++j) {
        const int i = (k + j) % 4;  // a variable index would move the array from registers to memory
        const uint32_t word = i == 0 ? words.v[0] : i == 1 ? words.v[1] : i == 2 ? words.v[2] : words.v[3];
        x[j] = word < threshold ? 0.0f : x[j] * keep_scale;
    }
}

// Which tile of which head a block has. The blocks with the most work start first, so that all end at about one time.
struct Place {
    int tile, b, h;
    KILN_DEVICE Place(int tiles, int B, int heads, bool last_first) {
        const int sequences = B * heads, i = blockIdx.x / sequences;
        tile = last_first ? tiles - 1 - i : i;
        b = blockIdx.x % sequences / heads;
        h = blockIdx.x % heads;
    }
};

// out = dropout(softmax(Q K^T / sqrt(HS), causal)) V, lse = log(sum(exp(scores))).  arXiv:1706.03762, 2205.14135
//
// qkv (B, T, (NH + 2 NKV) HS), query head h reads key head h / (NH / NKV); out (B, T, NH HS); lse (B, NH, T) float.
// A block has kTile queries of a head. It takes kTile keys at a time, and scales its sums down when it finds a
// larger maximum.
//
// Moves B T (2 NH + 2 NKV) HS elements if the L2 cache holds K and V, for ~2 B NH T^2 HS FLOPs: bound by reads of
// shared memory, far below the rate of tensor cores.
template <class E, int kTile, int kMaxHS>
__global__ void __launch_bounds__(Tile<kTile>::kBlock, kMaxHS == 128 ? 2 : 1)
    attention_forward_kernel(E* out, float* lse, const E* qkv, Dropout d, int B, int T, int NH, int NKV, int HS,
                             float scale) {
    using L = Tile<kTile>;
    constexpr int kOut = kMaxHS / L::kTx;
    KILN_DYNAMIC_SHARED(float, queries);             // (kTile, HS + 1)
    float* const keys = queries + kTile * (HS + 1);  // then values, (kTile, HS + 1)
    float* const scores = keys + kTile * (HS + 1);   // (kTile, kTile + 1)
    const Place place((T + kTile - 1) / kTile, B, NH, true);
    const int b = place.b, h = place.h, q0 = place.tile * kTile, kv = h / (NH / NKV);
    const int64_t stride = int64_t(NH + 2 * NKV) * HS;
    const E* const sequence = qkv + b * T * stride;
    load_tile<kTile>(queries, sequence + q0 * stride + h * HS, stride, T - q0, HS);

    float sums[L::kRows][kOut] = {}, highest[L::kRows], total[L::kRows] = {};
    for (float& x : highest) x = -INFINITY;
    for (int k0 = 0; k0 <= q0; k0 += kTile) {
        __syncthreads();
        load_tile<kTile>(keys, sequence + k0 * stride + (NH + kv) * HS, stride, T - k0, HS);
        __syncthreads();
        float s[L::kRows][L::kCols];
        multiply_rows<kTile>(s, queries, keys, HS);
        for (int i = 0; i < L::kRows; ++i) {
            const int row = L::ty() * L::kRows + i, column = L::tx() * L::kCols;
            float row_highest = highest[i], row_sum = 0;
            for (int j = 0; j < L::kCols; ++j) {
                s[i][j] = k0 + column + j <= q0 + row ? s[i][j] * scale : -INFINITY;
                row_highest = fmaxf(row_highest, s[i][j]);
            }
            for (int bits = L::kTx / 2; bits > 0; bits /= 2) {
                row_highest = fmaxf(row_highest, __shfl_xor_sync(~0u, row_highest, bits));
            }
            for (int j = 0; j < L::kCols; ++j) {
                s[i][j] = __expf(s[i][j] - row_highest);
                row_sum += s[i][j];
            }
            for (int bits = L::kTx / 2; bits > 0; bits /= 2) row_sum += __shfl_xor_sync(~0u, row_sum, bits);
            const float correction = __expf(highest[i] - row_highest);
            highest[i] = row_highest;
            total[i] = total[i] * correction + row_sum;
            for (int j = 0; j < kOut; ++j) sums[i][j] *= correction;
            if (d.p > 0) drop(s[i], d, b, h, q0 + row, k0 + column);
            for (int j = 0; j < L::kCols; ++j) scores[row * L::kPitch + column + j] = s[i][j];
        }
        __syncthreads();
        load_tile<kTile>(keys, sequence + k0 * stride + (NH + NKV + kv) * HS, stride, T - k0, HS);
        __syncthreads();
        add_matmul<kTile, false>(sums, scores, keys, HS);
    }

    float inverse[L::kRows];
    for (int i = 0; i < L::kRows; ++i) {
        inverse[i] = 1.0f / total[i];
        const int q = q0 + L::ty() * L::kRows + i;
        if (L::tx() == 0 && q < T) lse[(int64_t(b) * NH + h) * T + q] = highest[i] + logf(total[i]);
    }
    const int64_t out_stride = int64_t(NH) * HS;
    store_sums<kTile>(out + (int64_t(b) * T + q0) * out_stride + h * HS, out_stride, sums, inverse, T - q0, HS);
}

// delta[b, h, t] = sum over HS of dout * out. `lanes` threads, a power of two, add up one sum.      arXiv:2205.14135
// dout, out (B, T, NH HS); delta (B, NH, T) float. Moves 2 B T NH HS elements for as many FLOPs: bound by bandwidth.
template <class E>
__global__ void __launch_bounds__(kThreads)
    attention_delta_kernel(float* delta, const E* dout, const E* out, int64_t heads, int T, int NH, int HS, int lanes) {
    const int64_t head = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / lanes;  // (B, T, NH)
    const int lane = threadIdx.x % lanes;
    float sum = 0;
    for (int c = lane * kWidth; c < HS && head < heads; c += lanes * kWidth) {
        const auto x = load_four(dout + head * HS + c), y = load_four(out + head * HS + c);
        for (int i = 0; i < kWidth; ++i) sum += to_float(x.v[i]) * to_float(y.v[i]);
    }
    for (int bits = lanes / 2; bits > 0; bits /= 2) sum += __shfl_xor_sync(~0u, sum, bits);
    if (lane != 0 || head >= heads) return;
    const int64_t token = head / NH, h = head % NH;
    delta[(token / T * NH + h) * T + token % T] = sum;
}

// The arguments of both kernels of the backward pass.
template <class E>
struct Backward {
    E* dqkv;
    const E *dout, *qkv;
    const float *lse, *delta;
    float* bias_partials;  // (B, tiles, (NH + 2 NKV) HS), or null
    Dropout d;
    int B, T, NH, NKV, HS;
    float scale;
};

// The bias's gradient for one head of dqkv: bias_partials = the sums of the columns of `sums`, before they are rounded.
// tile (kTile, HS + 1) is shared memory that is no longer needed.
template <int kTile, int kOut, class E>
KILN_DEVICE void store_bias_partial(const Backward<E>& a, float* tile, const float (&sums)[Tile<kTile>::kRows][kOut],
                                    const float (&ones)[Tile<kTile>::kRows], const Place& place, int head) {
    if (!a.bias_partials) return;
    __syncthreads();
    store_sums<kTile>(tile, a.HS + 1, sums, ones, kTile, a.HS);
    __syncthreads();
    const int64_t row = int64_t(place.b) * ((a.T + kTile - 1) / kTile) + place.tile;
    for (int c = threadIdx.x; c < a.HS; c += Tile<kTile>::kBlock) {
        float sum = 0;
        for (int r = 0; r < kTile; ++r) sum += tile[r * (a.HS + 1) + c];
        a.bias_partials[(row * (a.NH + 2 * a.NKV) + head) * a.HS + c] = sum;
    }
}

// For queries from q0 on and keys from k0 on: dscores (kTile, kTile + 1) = scale P (M dO V^T - delta) and, unless null,
// probabilities (kTile, kTile + 1) = M P. P are the probabilities; M is the mask of dropout over 1 - p.
template <class E, int kTile>
KILN_DEVICE void tile_gradient(float* dscores, float* probabilities, const float* queries, const float* douts,
                               const float* keys, const float* values, const Backward<E>& a, int b, int h, int q0,
                               int k0) {
    using L = Tile<kTile>;
    float s[L::kRows][L::kCols], dp[L::kRows][L::kCols];
    multiply_rows<kTile>(s, queries, keys, a.HS);
    multiply_rows<kTile>(dp, douts, values, a.HS);
    for (int i = 0; i < L::kRows; ++i) {
        const int row = L::ty() * L::kRows + i, column = L::tx() * L::kCols, q = q0 + row;
        const int64_t at = (int64_t(b) * a.NH + h) * a.T + q;
        const float lse = q < a.T ? a.lse[at] : 0.0f, delta = q < a.T ? a.delta[at] : 0.0f;
        for (int j = 0; j < L::kCols; ++j) {
            s[i][j] = k0 + column + j <= q && q < a.T ? __expf(s[i][j] * a.scale - lse) : 0.0f;
        }
        if (a.d.p > 0) drop(dp[i], a.d, b, h, q, k0 + column);
        for (int j = 0; j < L::kCols; ++j) {
            dscores[row * L::kPitch + column + j] = a.scale * s[i][j] * (dp[i][j] - delta);
        }
        if (!probabilities) continue;
        if (a.d.p > 0) drop(s[i], a.d, b, h, q, k0 + column);
        for (int j = 0; j < L::kCols; ++j) probabilities[row * L::kPitch + column + j] = s[i][j];
    }
}

// dQ = dS K. A block has kTile queries of a head. Shapes as in the forward pass.                     arXiv:2307.08691
// Together with the kernel below and delta: moves B T (6 NH + 4 NKV) HS elements if the L2 cache holds what is read
// again, for ~7 B NH T^2 HS FLOPs: bound by reads of shared memory. Two of the five matmuls are computed twice, so that
// neither kernel needs atomics.
template <class E, int kTile, int kMaxHS>
__global__ void __launch_bounds__(Tile<kTile>::kBlock, kMaxHS == 128 ? 2 : 1)
    attention_backward_q_kernel(Backward<E> a) {
    using L = Tile<kTile>;
    constexpr int kOut = kMaxHS / L::kTx;
    const int T = a.T, HS = a.HS;
    KILN_DYNAMIC_SHARED(float, queries);
    float *const douts = queries + kTile * (HS + 1), *const keys = douts + kTile * (HS + 1);
    float *const values = keys + kTile * (HS + 1), *const dscores = values + kTile * (HS + 1);
    const Place place((T + kTile - 1) / kTile, a.B, a.NH, true);
    const int b = place.b, h = place.h, q0 = place.tile * kTile, kv = h / (a.NH / a.NKV);
    const int64_t stride = int64_t(a.NH + 2 * a.NKV) * HS, out_stride = int64_t(a.NH) * HS;
    const int64_t first = b * T * stride;
    load_tile<kTile>(queries, a.qkv + first + q0 * stride + h * HS, stride, T - q0, HS);
    load_tile<kTile>(douts, a.dout + (int64_t(b) * T + q0) * out_stride + h * HS, out_stride, T - q0, HS);

    float dq[L::kRows][kOut] = {};
    for (int k0 = 0; k0 <= q0; k0 += kTile) {
        __syncthreads();
        const E* const key = a.qkv + first + k0 * stride + (a.NH + kv) * HS;
        load_tile<kTile>(keys, key, stride, T - k0, HS);
        load_tile<kTile>(values, key + a.NKV * HS, stride, T - k0, HS);
        __syncthreads();
        tile_gradient<E, kTile>(dscores, nullptr, queries, douts, keys, values, a, b, h, q0, k0);
        __syncthreads();
        add_matmul<kTile, false>(dq, dscores, keys, HS);
    }
    float ones[L::kRows];
    for (float& x : ones) x = 1;
    store_sums<kTile>(a.dqkv + first + q0 * stride + h * HS, stride, dq, ones, T - q0, HS);
    store_bias_partial<kTile>(a, queries, dq, ones, place, h);
}

// dV = (M P)^T dO, dK = dS^T Q. A block has kTile keys of a key head. It takes the query heads of that key head one
// after the other, each from the diagonal on, so that the sums have one order.
template <class E, int kTile, int kMaxHS>
__global__ void __launch_bounds__(Tile<kTile>::kBlock, kMaxHS == 128 ? 2 : 1)
    attention_backward_kv_kernel(Backward<E> a) {
    using L = Tile<kTile>;
    constexpr int kOut = kMaxHS / L::kTx;
    const int T = a.T, HS = a.HS, group = a.NH / a.NKV;
    KILN_DYNAMIC_SHARED(float, queries);
    float *const douts = queries + kTile * (HS + 1), *const keys = douts + kTile * (HS + 1);
    float *const values = keys + kTile * (HS + 1), *const dscores = values + kTile * (HS + 1);
    float* const probabilities = dscores + kTile * L::kPitch;
    const Place place((T + kTile - 1) / kTile, a.B, a.NKV, false);
    const int b = place.b, kv = place.h, k0 = place.tile * kTile;
    const int64_t stride = int64_t(a.NH + 2 * a.NKV) * HS, out_stride = int64_t(a.NH) * HS;
    const int64_t first = b * T * stride, key = first + k0 * stride + (a.NH + kv) * HS;
    load_tile<kTile>(keys, a.qkv + key, stride, T - k0, HS);
    load_tile<kTile>(values, a.qkv + key + a.NKV * HS, stride, T - k0, HS);

    float dk[L::kRows][kOut] = {}, dv[L::kRows][kOut] = {};
    for (int h = kv * group; h < (kv + 1) * group; ++h) {
        for (int q0 = k0; q0 < T; q0 += kTile) {
            __syncthreads();
            load_tile<kTile>(queries, a.qkv + first + q0 * stride + h * HS, stride, T - q0, HS);
            load_tile<kTile>(douts, a.dout + (int64_t(b) * T + q0) * out_stride + h * HS, out_stride, T - q0, HS);
            __syncthreads();
            tile_gradient<E, kTile>(dscores, probabilities, queries, douts, keys, values, a, b, h, q0, k0);
            __syncthreads();
            add_matmul<kTile, true>(dv, probabilities, douts, HS);
            add_matmul<kTile, true>(dk, dscores, queries, HS);
        }
    }
    float ones[L::kRows];
    for (float& x : ones) x = 1;
    store_sums<kTile>(a.dqkv + key, stride, dk, ones, T - k0, HS);
    store_sums<kTile>(a.dqkv + key + a.NKV * HS, stride, dv, ones, T - k0, HS);
    store_bias_partial<kTile>(a, queries, dk, ones, place, a.NH + kv);
    store_bias_partial<kTile>(a, queries, dv, ones, place, a.NH + a.NKV + kv);
}

int backward_tile(int HS) {
    return tile_that_fits(4, 2, HS <= 128 ? 32 : 16, HS);
}
// Of the partial sums of the bias's gradient.
size_t bias_rows(int B, int T, int tile) {
    return size_t(B) * ((T + tile - 1) / tile);
}

void check(const char* name, int B, int T, int NH, int NKV, int HS, int tile) {
    KILN_CHECK(B > 0 && T > 0 && NKV > 0 && NH > 0 && NH % NKV == 0 && HS > 0 && HS <= 256 && HS % 4 == 0, name, ": B ",
               B, ", T ", T, ", NH ", NH, ", NKV ", NKV, ", HS ", HS,
               "; NKV must divide NH; HS must be a multiple of 4 up to 256");
    KILN_CHECK(int64_t(B) * NH * ((T + tile - 1) / tile) < int64_t(1) << 31, name, ": B ", B, ", T ", T, ", NH ", NH,
               " are more blocks than a grid can have");
}

}  // namespace

template <class E>
void attention_forward(E* out, float* lse, const E* qkv, const Dropout& d, int B, int T, int NH, int NKV, int HS,
                       cudaStream_t stream) {
    const int tile = tile_that_fits(2, 1, HS <= 128 ? 64 : 32, HS);
    check("attention_forward", B, T, NH, NKV, HS, tile);
    const float scale = 1.0f / std::sqrt(float(HS));
    const auto launch_tiles = [&]<int kTile, int kMaxHS> {
        launch<attention_forward_kernel<E, kTile, kMaxHS>>({.grid = unsigned(B * NH * ((T + kTile - 1) / kTile)),
                                                            .block = Tile<kTile>::kBlock,
                                                            .shared_bytes = shared_bytes(2, 1, kTile, HS),
                                                            .stream = stream},
                                                           out, lse, qkv, d, B, T, NH, NKV, HS, scale);
    };
    switch (tile) {
        case 64: return launch_tiles.template operator()<64, 128>();
        case 32: return launch_tiles.template operator()<32, 256>();
        default: return launch_tiles.template operator()<16, 256>();
    }
}

template <class E>
void attention_delta(float* delta, const E* dout, const E* out, int B, int T, int NH, int HS, cudaStream_t stream) {
    int lanes = 1;
    while (lanes < kWarp && lanes * kWidth < HS) lanes *= 2;
    const int64_t heads = int64_t(B) * T * NH;
    launch<attention_delta_kernel<E>>(
        {.grid = unsigned((heads * lanes + kThreads - 1) / kThreads), .block = kThreads, .stream = stream}, delta, dout,
        out, heads, T, NH, HS, lanes);
}

size_t attention_scratch_floats(int B, int T, int NH, int NKV, int HS, bool bias) {
    constexpr int kSmallestTile = 8;  // of any device: memory is planned where there is none, too
    return size_t(B) * NH * T + (bias ? bias_rows(B, T, kSmallestTile) * (NH + 2 * NKV) * HS : 0);
}

template <class E, class G>
void attention_backward(E* dqkv, const BiasGradient<G>& bias, float* scratch, const E* dout, const E* out, const E* qkv,
                        const float* lse, const Dropout& d, int B, int T, int NH, int NKV, int HS,
                        cudaStream_t stream) {
    const int tile = backward_tile(HS);
    check("attention_backward", B, T, NH, NKV, HS, tile);
    attention_delta(scratch, dout, out, B, T, NH, HS, stream);
    const Backward<E> a{.dqkv = dqkv,
                        .dout = dout,
                        .qkv = qkv,
                        .lse = lse,
                        .delta = scratch,
                        .bias_partials = bias.db ? scratch + size_t(B) * NH * T : nullptr,
                        .d = d,
                        .B = B,
                        .T = T,
                        .NH = NH,
                        .NKV = NKV,
                        .HS = HS,
                        .scale = 1.0f / std::sqrt(float(HS))};
    const auto launch_tiles = [&]<int kTile, int kMaxHS> {
        constexpr unsigned kBlock = Tile<kTile>::kBlock;
        const int tiles = (T + kTile - 1) / kTile;
        launch<attention_backward_q_kernel<E, kTile, kMaxHS>>(
            {unsigned(B * NH * tiles), kBlock, shared_bytes(4, 1, kTile, HS), stream}, a);
        launch<attention_backward_kv_kernel<E, kTile, kMaxHS>>(
            {unsigned(B * NKV * tiles), kBlock, shared_bytes(4, 2, kTile, HS), stream}, a);
    };
    switch (tile) {
        case 32: launch_tiles.template operator()<32, 128>(); break;
        case 16: launch_tiles.template operator()<16, 256>(); break;
        default: launch_tiles.template operator()<8, 256>(); break;
    }
    if (!bias.db) return;
    sum_partials<G>(bias.db, nullptr, a.bias_partials, int(bias_rows(B, T, tile)), (NH + 2 * NKV) * HS, bias.accumulate,
                    stream);
}

#define KILN_ATTENTION(E)                                                                                         \
    template void attention_forward(E*, float*, const E*, const Dropout&, int, int, int, int, int, cudaStream_t); \
    template void attention_delta(float*, const E*, const E*, int, int, int, int, cudaStream_t);
#define KILN_ATTENTION_BACKWARD(E, G)                                                                                \
    template void attention_backward(E*, const BiasGradient<G>&, float*, const E*, const E*, const E*, const float*, \
                                     const Dropout&, int, int, int, int, int, cudaStream_t);
KILN_FOR_TYPES(KILN_ATTENTION)
KILN_FOR_GRADIENT_TYPES(KILN_ATTENTION_BACKWARD)

}  // namespace kiln
