// Causal attention on tensor cores, backward. E is the element type, of 16 bits; T the length of a sequence.
#include <algorithm>
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "cuda/kernels/flash_tiles.cuh"

namespace kiln {

// The tiles of a block for one head size: kKeys keys, kRows queries at a time, kStages of them in shared memory.
// kLarge: for a block that may use more than 99 KB of shared memory (not on sm_86, sm_89 and sm_120) and, since it has
// no dropout, has enough registers. The warps share three results: kS* the scores (queries, keys), kV* the gradients of
// keys and values (keys, HS), kQ* the gradient of queries (queries, HS).
// Not in the unnamed namespace, where nvcc warns of members that some instance does not use.
template <int HS, bool kLarge>
struct BackwardTiles {
    static constexpr int kKeys = HS > 128 ? 32 : HS > 80 && !kLarge ? 64 : 128;
    static constexpr int kRows = HS > 128 ? 32 : HS == 64 && kLarge ? 128 : 64;
    static constexpr int kWarps = HS > 128 ? 4 : 8, kThreads = 32 * kWarps;
    static constexpr int kSDown = kRows > 64 ? 4 : 2, kVDown = HS > 128 ? 2 : 4, kQDown = kSDown;
    static constexpr int kSAcross = kWarps / kSDown, kVAcross = kWarps / kVDown, kQAcross = kWarps / kQDown;
    // The rows and columns of a warp, in units of 16. The last warps may have fewer columns, or none.
    static constexpr int kSM = kRows / kSDown / 16, kSN = kKeys / kSAcross / 16;
    static constexpr int kVM = kKeys / kVDown / 16, kVN = (HS / 16 + kVAcross - 1) / kVAcross;
    static constexpr int kQM = kRows / kQDown / 16, kQN = (HS / 16 + kQAcross - 1) / kQAcross;
    static constexpr int kVEnd = HS % (16 * kVN * kVAcross) == 0 ? 0 : HS;
    static constexpr int kQEnd = HS % (16 * kQN * kQAcross) == 0 ? 0 : HS;
    static constexpr int kPartFloats = kThreads * kQM * 2 * kQN * 4;  // dq of kRows queries, ordered by thread

    // How many warps, one after the other, add up the columns of the dq of as many queries as the block has keys.
    static constexpr int kQSums = kKeys / (16 * kQM);

    // Of the dynamic shared memory; elements have 2 bytes.
    static constexpr int bytes(int stages) {
        return 2 * (2 * kKeys * HS + stages * 2 * kRows * HS + 2 * kRows * kKeys) + 4 * (2 * kRows + kQSums * HS + 1);
    }
    // Two stages if they fit; at head size 256 two blocks of one stage share a multiprocessor instead.
    static constexpr int kStages = HS <= 128 && (kLarge || bytes(2) <= 99 << 10) ? 2 : 1;
};

namespace {

template <class E>
struct FlashBackward {
    E* dqkv;
    const E *dout, *qkv;
    const float* lse;
    const float* delta = nullptr;
    float* parts = nullptr;  // (B, NH, tiles of queries, kPartFloats): partial sums of dq
    int* turns = nullptr;    // (B, NH, tiles of queries, kWarps): how many blocks of keys have added this warp's part
    int* started = nullptr;  // how many blocks have started
    float* bias_partials = nullptr;  // (B, tiles of keys, (NH + 2 NKV) HS), or null
    AttentionMask mask;
    Dropout d;
    int B, T, NH, NKV;
    float scale;
};

// to (HS) = the sums of the columns of this warp's part, which begins at column n0; if kEnd is not 0, only columns
// below kEnd.
template <int kEnd, int kM, int kN>
KILN_DEVICE void store_column_sums(float* to, const Sums<kM, kN>& sums, int n0) {
    const int lane = threadIdx.x % 32;
    KILN_UNROLL
    for (int n = 0; n < 2 * kN; ++n) {
        if (kEnd > 0 && n0 + 8 * n >= kEnd) break;
        KILN_UNROLL
        for (int i = 0; i < 2; ++i) {
            float sum = 0;
            KILN_UNROLL
            for (int m = 0; m < kM; ++m) sum += sums[m][n][i] + sums[m][n][2 + i];
            for (int bits = 4; bits < 32; bits *= 2) sum += __shfl_xor_sync(~0u, sum, bits);
            if (lane < 4) to[n0 + 8 * n + 2 * lane + i] = sum;
        }
    }
}

// dQ, dK, dV of out = dropout(softmax(Q K^T / sqrt(HS), masked)) V.                                 arXiv:2307.08691
// dqkv, qkv (B, T, (NH + 2 NKV) HS); dout (B, T, NH HS); lse, delta (B, NH, T) float. A block has kKeys keys of a key
// head and keeps their dK and dV in registers. It goes through the queries that see these keys, kRows at a time, from
// the last to the first, for one query head after the other. Each warp writes its P and dS to shared memory, where the
// warps that need them as operands read them.
//
// dQ is a sum over blocks. They add in the order of their keys, without float atomics: a warp adds to its part in the
// L2 cache when the same warp of the block before has published that it is done, so that no barrier of the block waits
// for another block or for a fence. All blocks of a head go through the queries in the same direction, so that a warp
// waits for one addition of the block before it, not for its whole tile. The first block sets the sum; the last one
// rounds it into dqkv. Blocks number themselves as they start, so that a block only waits for blocks that are running.
//
// bias_partials gets the sums of the columns of dQ, dK and dV, before they are rounded, over the tokens that are the
// block's keys. The block is the last to add to the dQ of just these tokens. Its warps leave the sums over their part
// of dQ in shared memory, and the barrier that comes next anyway makes them complete.
//
// Two other orders were rejected. A second kernel for dQ over blocks of queries computes two of the five matmuls again
// (7/5 of the FLOPs). One block for each key head needs no order, but gives only B NKV blocks: at B NKV = 32, three of
// four of the 132 SMs would be idle.
//
// Moves B T (6 NH + 4 NKV) HS elements if the L2 cache holds what a head reads again, for 5 B NH T^2 HS FLOPs.
// In clocks of an SM of sm_90, as in flash_attention.cu:
//
// HS 64: a step of 128 queries and 128 keys is 2560 mma (10.5 MFLOP), 64 ex2 a lane, and 576 KB read from and 96 KB
// written to shared memory. That is 4032 clocks of tensor cores, 5376 of shared memory and 1024 of ex2, and 64 KB
// from and 32 KB to the L2 cache. There is one block of eight warps, with two barriers a step. A step takes all 255
// registers; tiles of 64 queries would read a fifth more and have twice as many barriers.
//
// HS 128: a step of 64 queries and 128 keys is 10.5 MFLOP, 4032 clocks of tensor cores, 5120 of shared memory.
//
// Predicted, since no GPU has run it yet, for an H100 or H200, in TFLOP/s counted as 5 B NH T^2 HS / 2: 150 to 180 at
// HS 64 and T = 1024, 190 to 250 at HS 128 and T of 4096 and more.
template <class E, int HS, bool kLarge, bool kDropout>
__global__ void __launch_bounds__(BackwardTiles<HS, kLarge>::kThreads, 1)
    flash_attention_backward_kernel(FlashBackward<E> a) {
    using S = BackwardTiles<HS, kLarge>;
    constexpr int kKeys = S::kKeys, kRows = S::kRows, kStages = S::kStages;
    KILN_DYNAMIC_SHARED(E, keys);          // (kKeys, HS)
    E* const values = keys + kKeys * HS;   // (kKeys, HS)
    E* const p = values + kKeys * HS;      // (kRows, kKeys)
    E* const ds = p + kRows * kKeys;       // (kRows, kKeys)
    E* const stages = ds + kRows * kKeys;  // each has queries (kRows, HS), then their dout
    float* const lse = reinterpret_cast<float*>(stages + kStages * 2 * kRows * HS);  // (kRows), times log2(e)
    float* const delta = lse + kRows;                                                // (kRows)
    float* const dq_sums = delta + kRows;  // (kQSums, HS): of the columns of dq, each over 16 kQM queries
    int* const ticket = reinterpret_cast<int*>(dq_sums + S::kQSums * HS);
    const int T = a.T, lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = a.NH / a.NKV;
    if (threadIdx.x == 0) ticket[0] = atomicAdd(a.started, 1);
    __syncthreads();
    const int key_tiles = (T + kKeys - 1) / kKeys, row_tiles = (T + kRows - 1) / kRows;
    const int j = ticket[0] % key_tiles, b = ticket[0] / key_tiles / a.NKV, kv = ticket[0] / key_tiles % a.NKV;
    const int k0 = j * kKeys;
    const int64_t stride = int64_t(a.NH + 2 * a.NKV) * HS, out_stride = int64_t(a.NH) * HS,
                  first_token = int64_t(b) * T;
    const E* const key = a.qkv + (first_token + k0) * stride + (a.NH + kv) * HS;
    load_tile_async<kKeys, HS, S::kThreads>(keys, key, stride, T - k0);
    load_tile_async<kKeys, HS, S::kThreads>(values, key + a.NKV * HS, stride, T - k0);

    // The tiles of queries that see one of these keys: from the diagonal to last_tile, found by bisection.
    const int first_tile = k0 / kRows;
    int last_tile = row_tiles - 1;
    for (int low = first_tile; low < last_tile;) {
        const int middle = (low + last_tile + 1) / 2;
        const bool sees = first_key(a.mask, b, middle * kRows, T) < k0 + kKeys;
        low = sees ? middle : low;
        last_tile = sees ? last_tile : middle - 1;
    }
    // Starts loading the rows of a tile to a stage. Returns one value of lse or delta to each of the first 2 kRows
    // threads.
    const auto load_rows = [&](int stage, int h, int q0) {
        E* const queries = stages + stage * (2 * kRows * HS);
        load_tile_async<kRows, HS, S::kThreads>(queries, a.qkv + (first_token + q0) * stride + h * HS, stride, T - q0);
        load_tile_async<kRows, HS, S::kThreads>(queries + kRows * HS, a.dout + (first_token + q0) * out_stride + h * HS,
                                                out_stride, T - q0);
        cp_async_commit();
        const int row = threadIdx.x % kRows, q = q0 + row;
        const bool of_lse = int(threadIdx.x) < kRows;
        if (int(threadIdx.x) >= 2 * kRows) return 0.0f;
        // The probabilities of a row beyond T are 2^-inf = 0.
        if (q >= T) return of_lse ? INFINITY : 0.0f;
        const int64_t at = (int64_t(b) * a.NH + h) * T + q;
        return of_lse ? a.lse[at] * kLog2e : a.delta[at];
    };

    // The bias's gradient for one head of dqkv = factor times the sum of rows of `sums` (rows, HS).
    const auto store_bias_partial = [&](int head, const float* sums, int rows, float factor) {
        for (int c = threadIdx.x; c < HS; c += S::kThreads) {
            float sum = 0;
            for (int row = 0; row < rows; ++row) sum += sums[row * HS + c];
            a.bias_partials[(int64_t(b) * key_tiles + j) * stride + head * HS + c] = factor * sum;
        }
    };
    const auto store_bias_partial_of_query = [&](int h) {
        constexpr int kQueries = 16 * S::kQM;
        store_bias_partial(h, dq_sums, (min(kKeys, T - k0) + kQueries - 1) / kQueries, a.scale);
    };

    Sums<S::kVM, S::kVN> dk, dv;
    set_zero<S::kVM, S::kVN>(dk);
    set_zero<S::kVM, S::kVN>(dv);
    const int s_row = warp / S::kSAcross * (16 * S::kSM), s_column = warp % S::kSAcross * (16 * S::kSN);
    const int v_row = warp / S::kVAcross * (16 * S::kVM), v_column = warp % S::kVAcross * (16 * S::kVN);
    const int q_row = warp / S::kQAcross * (16 * S::kQM), q_column = warp % S::kQAcross * (16 * S::kQN);
    int stage = 0, next_h = kv * group, next_tile = last_tile;
    float statistic = load_rows(stage, next_h, next_tile * kRows);
    while (next_h < (kv + 1) * group) {
        const int h = next_h, tile = next_tile, q0 = tile * kRows;
        const E* const queries = stages + stage * (2 * kRows * HS);
        const E* const douts = queries + kRows * HS;
        stage ^= kStages - 1;
        if (--next_tile < first_tile) {
            next_tile = last_tile;
            ++next_h;
        }
        if (int(threadIdx.x) < 2 * kRows) lse[threadIdx.x] = statistic;
        cp_async_wait<0>();
        __syncthreads();  // the rows are loaded; the last step's rows, P and dS have been read
        if (a.bias_partials && tile == last_tile && h > kv * group) store_bias_partial_of_query(h - 1);
        const auto load_next = [&] {
            if (next_h < (kv + 1) * group) statistic = load_rows(stage, next_h, next_tile * kRows);
        };
        if constexpr (kStages == 2) load_next();

        Sums<S::kSM, S::kSN> s, dp;
        set_zero<S::kSM, S::kSN>(s);
        set_zero<S::kSM, S::kSN>(dp);
        multiply_tiles<E, HS, false, HS, true, HS, 0, S::kSM, S::kSN>(s, queries, s_row, keys, s_column);
        multiply_tiles<E, HS, false, HS, true, HS, 0, S::kSM, S::kSN>(dp, douts, s_row, values, s_column);
        // The scores of this warp: queries q and on, keys k and on.
        const int q = q0 + s_row, k = k0 + s_column, last_q = min(q + 16 * S::kSM, T) - 1;
        if (k + 16 * S::kSN - 1 > q || k < first_key(a.mask, b, last_q, T)) {
            mask_scores<S::kSM, S::kSN>(s, a.mask, b, q, k, T);
        }
        KILN_UNROLL
        for (int m = 0; m < S::kSM; ++m) {
            const int row = s_row + 16 * m + lane / 4;  // and row + 8
            const float lses[2] = {lse[row], lse[row + 8]}, deltas[2] = {delta[row], delta[row + 8]};
            KILN_UNROLL
            for (int n = 0; n < 2 * S::kSN; ++n) {
                const int column = s_column + 8 * n + lane % 4 * 2;
                float factors[4] = {1, 1, 1, 1};
                if constexpr (kDropout) {
                    dropout_factors(factors, a.d, b, h, q + 16 * m, k + 8 * n);
                }
                KILN_UNROLL
                for (int i = 0; i < 4; ++i) {
                    const float probability = exp2_approx(fmaf(s[m][n][i], a.scale * kLog2e, -lses[i / 2]));
                    dp[m][n][i] = probability * (dp[m][n][i] * factors[i] - deltas[i / 2]);
                    s[m][n][i] = probability * factors[i];
                }
                KILN_UNROLL
                for (int i = 0; i < 2; ++i) {
                    const int at = tile_offset<kKeys>(row + 8 * i, column);
                    *reinterpret_cast<uint32_t*>(p + at) = round2<E>(s[m][n][2 * i], s[m][n][2 * i + 1]);
                    *reinterpret_cast<uint32_t*>(ds + at) = round2<E>(dp[m][n][2 * i], dp[m][n][2 * i + 1]);
                }
            }
        }
        __syncthreads();  // P and dS are complete

        // This block is number `turn` of those that add to this tile's dQ.
        const int64_t part = (int64_t(b) * a.NH + h) * row_tiles + tile;
        int* const turns = a.turns + part * S::kWarps + warp;
        const int turn = j - first_key(a.mask, b, q0, T) / kKeys;
        const bool last = k0 + kKeys >= min(q0 + kRows, T);
        const auto add_dq = [&] {
            Sums<S::kQM, S::kQN> dq;
            set_zero<S::kQM, S::kQN>(dq);
            multiply_tiles<E, kKeys, false, HS, false, kKeys, S::kQEnd, S::kQM, S::kQN>(dq, ds, q_row, keys, q_column);
            float4* const parts = reinterpret_cast<float4*>(a.parts + part * S::kPartFloats) + threadIdx.x;
            if (turn > 0) {
                if (lane == 0) wait_for_value(turns, turn);
                __syncwarp();                       // the warps before this one have added
                float4 before[S::kQM][2 * S::kQN];  // all loads are on their way before the first is used
                KILN_UNROLL
                for (int m = 0; m < S::kQM; ++m) {
                    KILN_UNROLL
                    for (int n = 0; n < 2 * S::kQN; ++n)
                        before[m][n] = __ldcg(parts + (m * 2 * S::kQN + n) * S::kThreads);
                }
                KILN_UNROLL
                for (int m = 0; m < S::kQM; ++m) {
                    KILN_UNROLL
                    for (int n = 0; n < 2 * S::kQN; ++n) {
                        dq[m][n][0] += before[m][n].x;
                        dq[m][n][1] += before[m][n].y;
                        dq[m][n][2] += before[m][n].z;
                        dq[m][n][3] += before[m][n].w;
                    }
                }
            }
            if (!last) {
                KILN_UNROLL
                for (int m = 0; m < S::kQM; ++m) {
                    KILN_UNROLL
                    for (int n = 0; n < 2 * S::kQN; ++n) {
                        const float(&sum)[4] = dq[m][n];
                        __stcg(parts + (m * 2 * S::kQN + n) * S::kThreads, make_float4(sum[0], sum[1], sum[2], sum[3]));
                    }
                }
            } else {
                if (a.bias_partials) {
                    store_column_sums<S::kQEnd, S::kQM, S::kQN>(dq_sums + (q0 - k0 + q_row) / (16 * S::kQM) * HS, dq,
                                                                q_column);
                }
                store_sums<S::kQEnd, S::kQM, S::kQN>(a.dqkv + (first_token + q0) * stride + h * HS, stride, dq, a.scale,
                                                     q_row, q_column, T - q0);
            }
        };
        const auto publish_dq = [&] {
            __syncwarp();  // this warp has added
            if (lane == 0 && !last) publish(turns, turn + 1);
        };
        // With two stages dQ comes first, and its stores have the time of a matmul until the fence of publish_dq waits
        // for them. With one stage it comes last, since it needs no rows: the next ones are loaded meanwhile.
        if constexpr (kStages == 2) add_dq();
        multiply_tiles<E, kKeys, true, HS, false, kRows, S::kVEnd, S::kVM, S::kVN>(dv, p, v_row, douts, v_column);
        if constexpr (kStages == 2) publish_dq();
        multiply_tiles<E, kKeys, true, HS, false, kRows, S::kVEnd, S::kVM, S::kVN>(dk, ds, v_row, queries, v_column);
        if constexpr (kStages == 1) {
            __syncthreads();  // all warps have read the rows
            load_next();
            add_dq();
            publish_dq();
        }
    }
    E* const dkey = a.dqkv + (first_token + k0) * stride + (a.NH + kv) * HS;
    store_sums<S::kVEnd, S::kVM, S::kVN>(dkey, stride, dk, a.scale, v_row, v_column, T - k0);
    store_sums<S::kVEnd, S::kVM, S::kVN>(dkey + a.NKV * HS, stride, dv, 1.0f, v_row, v_column, T - k0);
    if (!a.bias_partials) return;
    __syncthreads();  // all rows have been read: their place is free
    float* const dk_sums = reinterpret_cast<float*>(stages) + warp / S::kVAcross * HS;  // (kVDown, HS), then of dv
    store_column_sums<S::kVEnd, S::kVM, S::kVN>(dk_sums, dk, v_column);
    store_column_sums<S::kVEnd, S::kVM, S::kVN>(dk_sums + S::kVDown * HS, dv, v_column);
    __syncthreads();
    const float* const sums = reinterpret_cast<float*>(stages);
    store_bias_partial_of_query((kv + 1) * group - 1);
    store_bias_partial(a.NH + kv, sums, S::kVDown, a.scale);
    store_bias_partial(a.NH + a.NKV + kv, sums + S::kVDown * HS, S::kVDown, 1.0f);
}

// starts[b, t] = the largest of min(max(first_key[b, s], 0), s) for s <= t. That is first_key itself if it is valid.
// With an invalid one, a block of the kernel above would wait for a block that never adds. One block for each sequence;
// a thread has a range of tokens. Moves 12 B T bytes.
constexpr int kStartsThreads = 256;
__global__ void __launch_bounds__(kStartsThreads) document_starts_kernel(int* starts, const int* first_key, int T) {
    KILN_SHARED(int, highest, kStartsThreads);
    const int tid = threadIdx.x, range = (T + kStartsThreads - 1) / kStartsThreads;
    const int from = min(tid * range, T), to = min(from + range, T);
    first_key += int64_t(blockIdx.x) * T;
    starts += int64_t(blockIdx.x) * T;
    const auto start = [&](int t) { return min(max(first_key[t], 0), t); };
    int mine = 0;
    for (int t = from; t < to; ++t) mine = max(mine, start(t));
    highest[tid] = mine;
    __syncthreads();
    int now = 0;
    for (int i = 0; i < tid; ++i) now = max(now, highest[i]);
    for (int t = from; t < to; ++t) starts[t] = now = max(now, start(t));
}

int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// The scratch, in floats: delta, rounded up to 16 bytes; parts; turns, and one for started; starts; bias_partials.
struct Scratch {
    int64_t delta, parts, turns, starts, bias_rows;
    size_t floats(int64_t bias_columns) const {
        return size_t(delta + parts + turns + 1 + starts + bias_rows * bias_columns);
    }
};
template <class Tiles>
Scratch scratch_of(int B, int T, int NH) {
    const int64_t tiles = int64_t(B) * NH * divide_up(T, Tiles::kRows);
    return {divide_up(int64_t(B) * NH * T, 4) * 4, tiles * Tiles::kPartFloats, tiles * Tiles::kWarps, int64_t(B) * T,
            B * divide_up(T, Tiles::kKeys)};
}

template <class E, int HS, bool kLarge, bool kDropout, class G>
void backward(FlashBackward<E> a, const BiasGradient<G>& bias, float* scratch, const E* out, cudaStream_t stream) {
    using S = BackwardTiles<HS, kLarge>;
    const Scratch sizes = scratch_of<S>(a.B, a.T, a.NH);
    const int64_t blocks = int64_t(a.B) * a.NKV * divide_up(a.T, S::kKeys);
    KILN_CHECK(blocks < int64_t(1) << 31, "flash_attention_backward: B ", a.B, ", T ", a.T, ", NKV ", a.NKV,
               " are more blocks than a grid can have");
    attention_delta(scratch, a.dout, out, a.B, a.T, a.NH, HS, stream);
    a.delta = scratch;
    a.parts = scratch + sizes.delta;
    a.turns = reinterpret_cast<int*>(a.parts + sizes.parts);
    a.started = a.turns + sizes.turns;
    int* const starts = a.started + 1;
    if (bias.db) a.bias_partials = reinterpret_cast<float*>(starts + sizes.starts);
    if (a.mask.first_key) {
        launch<document_starts_kernel>({unsigned(a.B), kStartsThreads, 0, stream}, starts, a.mask.first_key, a.T);
        a.mask.first_key = starts;
    }
    CUDA_CHECK(cudaMemsetAsync(a.turns, 0, (sizes.turns + 1) * sizeof(int), stream));
    launch<flash_attention_backward_kernel<E, HS, kLarge, kDropout>>(
        {unsigned(blocks), S::kThreads, size_t(S::bytes(S::kStages)), stream}, a);
    if (!bias.db) return;
    sum_partials<G>(bias.db, nullptr, a.bias_partials, int(sizes.bias_rows), (a.NH + 2 * a.NKV) * HS, bias.accumulate,
                    stream);
}

}  // namespace

size_t flash_attention_scratch_floats(int B, int T, int NH, int NKV, int HS, bool bias) {
    const int64_t columns = bias ? int64_t(NH + 2 * NKV) * HS : 0;
    size_t floats = 0;
    with_instance("flash_attention_backward", HS, false, [&]<int kHS, bool> {
        floats = std::max(scratch_of<BackwardTiles<kHS, true>>(B, T, NH).floats(columns),
                          scratch_of<BackwardTiles<kHS, false>>(B, T, NH).floats(columns));
    });
    return floats;
}

template <class E, class G>
void flash_attention_backward(E* dqkv, const BiasGradient<G>& bias, float* scratch, const E* dout, const E* out,
                              const E* qkv, const float* lse, const AttentionMask& mask, const Dropout& d, int B, int T,
                              int NH, int NKV, int HS, cudaStream_t stream, int shared_limit) {
    check_flash_attention("flash_attention_backward", mask, B, T, NH, NKV);
    const FlashBackward<E> a{.dqkv = dqkv,
                             .dout = dout,
                             .qkv = qkv,
                             .lse = lse,
                             .mask = mask,
                             .d = d,
                             .B = B,
                             .T = T,
                             .NH = NH,
                             .NKV = NKV,
                             .scale = 1.0f / std::sqrt(float(HS))};
    with_instance("flash_attention_backward", HS, d.p > 0, [&]<int kHS, bool kDropout> {
        // At head sizes 32 and 256 a large block would be no other.
        if constexpr (kHS >= 64 && kHS <= 128 && !kDropout) {
            using Large = BackwardTiles<kHS, true>;
            if (Large::bytes(Large::kStages) <= shared_memory_limit(shared_limit)) {
                return backward<E, kHS, true, kDropout>(a, bias, scratch, out, stream);
            }
        }
        backward<E, kHS, false, kDropout>(a, bias, scratch, out, stream);
    });
}

#define KILN_FLASH_ATTENTION(E, G)                                                                                 \
    template void flash_attention_backward(E*, const BiasGradient<G>&, float*, const E*, const E*, const E*,       \
                                           const float*, const AttentionMask&, const Dropout&, int, int, int, int, \
                                           int, cudaStream_t, int);
KILN_FOR_16_BIT_GRADIENT_TYPES(KILN_FLASH_ATTENTION)

}  // namespace kiln
