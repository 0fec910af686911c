// Causal attention on tensor cores, forward. E is the element type, of 16 bits; T the length of a sequence.
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "cuda/kernels/flash_tiles.cuh"

namespace kiln {

// The tiles of a block for one head size: kRows queries, kKeys keys at a time. Shared memory has place for kPlaces
// tiles of keys or values: 4 are two of each, 3 two of keys and one of values, 2 one of each. A multiprocessor has
// registers for kBlocks blocks. A row belongs to one warp, so that its maximum needs no shared memory.
// Not in the unnamed namespace, where nvcc warns of members that some instance does not use.
template <int HS, int kPlaces, bool kDropout>
struct ForwardTiles {
    // Two blocks of 128 queries of head size 128 and 2 places do not fit into 100 KB, the least of a multiprocessor.
    static constexpr int kKeys = HS > 128 || kDropout ? 32 : 64;
    static constexpr int kRows = HS > 128 || (HS == 128 && kPlaces == 2) ? 64 : 128;
    static constexpr int kBlocks = 2, kWarps = 4, kThreads = 32 * kWarps;
    static constexpr int kM = kRows / kWarps / 16, kN = kKeys / 16, kOut = HS / 16;
    static constexpr int kBytes = 2 * (kRows + kPlaces * kKeys) * HS;  // of shared memory; elements have 2 bytes
    // Whether a multiprocessor holds kBlocks blocks: it has 1 KB more than a block may use, and takes 1 KB for each.
    static constexpr bool fits(int shared_limit) { return kBlocks * (kBytes + 1024) <= shared_limit + 1024; }
};

namespace {

// out = dropout(softmax(Q K^T / sqrt(HS), masked)) V, lse = log(sum(exp(scores))).                   arXiv:2307.08691
// qkv (B, T, (NH + 2 NKV) HS), out (B, T, NH HS), lse (B, NH, T) float. A block has kRows queries of a head. It takes
// kKeys keys at a time, loads the next ones meanwhile, and scales its sums down when it finds a larger maximum. The
// accumulators of Q K^T, rounded, are operand A of P V, so that probabilities stay in registers. Blocks of one head
// have neighbouring numbers, so that they share the cache; those with the most keys come first.
//
// Moves B T (2 NH + 2 NKV) HS elements if the L2 cache holds K and V, for 2 B NH T^2 HS FLOPs. In a clock, an SM of
// sm_90 has at best 2.6 kFLOP of mma.sync, 4 warp instructions and 128 bytes of shared memory.
//
// HS 64: a warp's step of 32 x 64 scores is 128 mma (4096 FLOPs each), 64 ex2 a lane, about 300 float32
// instructions and 40 ldmatrix; four warps read 80 KB of shared memory and write 16 KB. That is 806 clocks of
// tensor cores, 512 of ex2, 770 of shared memory and 560 of instruction issue, which two blocks of four warps overlap
// in part. At T = 1024, tiles on the diagonal cost 11 % and the start of a block as much.
//
// HS 128: 1613 clocks of tensor cores, 512 of ex2, 1540 of shared memory, since the queries are read again for each
// tile.
//
// Predicted, since no GPU has run it yet, for an H100 or H200, in TFLOP/s counted as 4 B NH T^2 HS / 2: 200 to 260 at
// HS 64 and T = 1024, 270 to 330 at HS 128 and T of 4096 and more.
template <class E, int HS, int kPlaces, bool kDropout>
__global__ void __launch_bounds__(ForwardTiles<HS, kPlaces, kDropout>::kThreads,
                                  ForwardTiles<HS, kPlaces, kDropout>::kBlocks)
    flash_attention_forward_kernel(E* out, float* lse, const E* qkv, AttentionMask mask, Dropout d, int T, int NH,
                                   int NKV, float scale) {
    using S = ForwardTiles<HS, kPlaces, kDropout>;
    constexpr int kRows = S::kRows, kKeys = S::kKeys, kM = S::kM, kN = S::kN, kKeyPlaces = kPlaces > 2 ? 2 : 1;
    KILN_DYNAMIC_SHARED(E, queries);
    E* const places = queries + kRows * HS;  // kKeyPlaces tiles of keys (kKeys, HS), then the tiles of values
    const int tiles = (T + kRows - 1) / kRows, tile = tiles - 1 - int(blockIdx.x) % tiles;
    const int b = int(blockIdx.x) / tiles / NH, h = int(blockIdx.x) / tiles % NH, kv = h / (NH / NKV);
    const int q0 = tile * kRows, lane = threadIdx.x % 32, m0 = threadIdx.x / 32 * (16 * kM);
    const int row0 = q0 + m0, last_row = row0 + 16 * kM - 1;  // of this warp
    const int64_t stride = int64_t(NH + 2 * NKV) * HS;
    const E* const sequence = qkv + int64_t(b) * T * stride;
    const auto load = [&](int place, int k0, int64_t from) {
        const E* const key = sequence + k0 * stride + (NH + kv) * HS;
        load_tile_async<kKeys, HS, S::kThreads>(places + place * (kKeys * HS), key + from, stride, T - k0);
    };
    const auto load_keys = [&](int stage, int k0) { load(stage, k0, 0); };
    const auto load_values = [&](int stage, int k0) { load(kKeyPlaces + stage, k0, NKV * HS); };
    const int first = min(max(first_key(mask, b, q0, T), 0), q0) / kKeys * kKeys;
    load_tile_async<kRows, HS, S::kThreads>(queries, sequence + q0 * stride + h * HS, stride, T - q0);
    load_keys(0, first);
    if (kPlaces == 4) load_values(0, first);
    cp_async_commit();

    // For rows row0 + 16 m + 8 i + lane / 4: the maximum of the scores before scaling, and this lane's part of the sum.
    float highest[kM][2], total[kM][2];
    Sums<kM, S::kOut> sums;
    set_zero<kM, S::kOut>(sums);
    KILN_UNROLL
    for (int m = 0; m < kM; ++m) {
        KILN_UNROLL
        for (int i = 0; i < 2; ++i) {
            highest[m][i] = -INFINITY;
            total[m][i] = 0;
        }
    }
    const int end = min(q0 + kRows, T), seen_by_all = first_key(mask, b, min(last_row, T - 1), T);
    for (int k0 = first, stage = 0; k0 < end; k0 += kKeys, stage ^= kKeyPlaces - 1) {
        cp_async_wait<0>();
        __syncthreads();  // these keys are loaded, and no warp reads what came before them any more
        if (kPlaces < 4) {
            load_values(0, k0);
            cp_async_commit();
        }
        if (kPlaces > 2 && k0 + kKeys < end) {
            load_keys(stage ^ 1, k0 + kKeys);
            if (kPlaces == 4) load_values(stage ^ 1, k0 + kKeys);
        }
        if (kPlaces > 2) cp_async_commit();
        const bool seen = k0 <= last_row;  // otherwise all these keys come after this warp's queries
        if (kPlaces == 4 && !seen) continue;
        const E* const keys = places + stage * (kKeys * HS);
        const E* const values = places + (kKeyPlaces + (kPlaces == 4 ? stage : 0)) * (kKeys * HS);
        Sums<kM, kN> s;
        set_zero<kM, kN>(s);
        if (seen) multiply_tiles<E, HS, false, HS, true, HS, 0, kM, kN>(s, queries, m0, keys, 0);
        if constexpr (kPlaces < 4) {
            cp_async_wait<kPlaces - 2>();
            __syncthreads();  // the values are loaded, and no warp reads the keys any more
            if (kPlaces == 2 && k0 + kKeys < end) load_keys(0, k0 + kKeys);
            if (kPlaces == 2) cp_async_commit();
            if (!seen) continue;
        }

        // One branch for the whole tile: the softmax below stays in one piece, whose rows the compiler can interleave.
        if (k0 + kKeys - 1 > row0 || k0 < seen_by_all) {
            mask_scores<kM, kN>(s, mask, b, row0, k0, T);
        }
        KILN_UNROLL
        for (int m = 0; m < kM; ++m) {
            KILN_UNROLL
            for (int i = 0; i < 2; ++i) {
                float row_highest = highest[m][i];
                KILN_UNROLL
                for (int n = 0; n < 2 * kN; ++n) {
                    row_highest = fmaxf(row_highest, fmaxf(s[m][n][2 * i], s[m][n][2 * i + 1]));
                }
                row_highest = fmaxf(row_highest, __shfl_xor_sync(~0u, row_highest, 1));
                row_highest = fmaxf(row_highest, __shfl_xor_sync(~0u, row_highest, 2));
                // If a row has seen no key yet, -inf - -inf would be NaN.
                const float from = row_highest == -INFINITY ? 0.0f : row_highest * scale;
                const float correction = exp2_approx(highest[m][i] * scale - from);
                highest[m][i] = row_highest;
                float row_sum = 0;
                KILN_UNROLL
                for (int n = 0; n < 2 * kN; ++n) {
                    KILN_UNROLL
                    for (int j = 0; j < 2; ++j) {
                        s[m][n][2 * i + j] = exp2_approx(fmaf(s[m][n][2 * i + j], scale, -from));
                        row_sum += s[m][n][2 * i + j];
                    }
                }
                total[m][i] = total[m][i] * correction + row_sum;
                KILN_UNROLL
                for (int n = 0; n < 2 * S::kOut; ++n) {
                    sums[m][n][2 * i] *= correction;
                    sums[m][n][2 * i + 1] *= correction;
                }
            }
            if constexpr (kDropout) {
                KILN_UNROLL
                for (int n = 0; n < 2 * kN; ++n) {
                    float factors[4];
                    dropout_factors(factors, d, b, h, row0 + 16 * m, k0 + 8 * n);
                    KILN_UNROLL
                    for (int i = 0; i < 4; ++i) s[m][n][i] *= factors[i];
                }
            }
        }
        KILN_UNROLL
        for (int n = 0; n < kN; ++n) {
            uint32_t p[kM][4];
            KILN_UNROLL
            for (int m = 0; m < kM; ++m) {
                KILN_UNROLL
                for (int i = 0; i < 4; ++i) {
                    p[m][i] = round2<E>(s[m][2 * n + i / 2][2 * (i % 2)], s[m][2 * n + i / 2][2 * (i % 2) + 1]);
                }
            }
            multiply_step<E, HS, false, 0, kM, S::kOut>(sums, p, values, lane_offset_b<HS, false>(), 16 * n, 0);
        }
    }

    KILN_UNROLL
    for (int m = 0; m < kM; ++m) {
        KILN_UNROLL
        for (int i = 0; i < 2; ++i) {
            float sum = total[m][i];
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            const int q = row0 + 16 * m + 8 * i + lane / 4;
            if (lane % 4 == 0 && q < T) {
                lse[(int64_t(b) * NH + h) * T + q] = highest[m][i] * (scale / kLog2e) + logf(sum);
            }
            const float inverse = 1.0f / sum;
            KILN_UNROLL
            for (int n = 0; n < 2 * S::kOut; ++n) {
                sums[m][n][2 * i] *= inverse;
                sums[m][n][2 * i + 1] *= inverse;
            }
        }
    }
    const int64_t out_stride = int64_t(NH) * HS;
    store_sums<0, kM, S::kOut>(out + (int64_t(b) * T + q0) * out_stride + h * HS, out_stride, sums, 1.0f, m0, 0,
                               T - q0);
}

template <class E, int HS, int kPlaces, bool kDropout>
void forward(E* out, float* lse, const E* qkv, const AttentionMask& mask, const Dropout& d, int B, int T, int NH,
             int NKV, cudaStream_t stream) {
    using S = ForwardTiles<HS, kPlaces, kDropout>;
    const int64_t blocks = int64_t(B) * NH * ((T + S::kRows - 1) / S::kRows);
    KILN_CHECK(blocks < int64_t(1) << 31, "flash_attention_forward: B ", B, ", T ", T, ", NH ", NH,
               " are more blocks than a grid can have");
    launch<flash_attention_forward_kernel<E, HS, kPlaces, kDropout>>(
        {unsigned(blocks), S::kThreads, size_t(S::kBytes), stream}, out, lse, qkv, mask, d, T, NH, NKV,
        kLog2e / std::sqrt(float(HS)));
}

// The most places with which a multiprocessor holds two blocks, or, if it holds one with any, 4.
template <int HS, bool kDropout>
constexpr int places(int shared_limit) {
    return ForwardTiles<HS, 4, kDropout>::fits(shared_limit)   ? 4
           : ForwardTiles<HS, 3, kDropout>::fits(shared_limit) ? 3
           : ForwardTiles<HS, 2, kDropout>::fits(shared_limit) ? 2
                                                               : 4;
}

// Calls f<kPlaces>().
template <int HS, bool kDropout, class F>
void with_places(int shared_limit, const F& f) {
    if (shared_limit >= 227 << 10) {
        f.template operator()<places<HS, kDropout>(227 << 10)>();  // sm_90, sm_100
    } else if (shared_limit >= 163 << 10) {
        f.template operator()<places<HS, kDropout>(163 << 10)>();  // sm_80
    } else {
        f.template operator()<places<HS, kDropout>(99 << 10)>();  // sm_86, sm_89, sm_120
    }
}

}  // namespace

bool flash_attention_has(int HS) {
    return HS == 32 || HS == 64 || HS == 80 || HS == 96 || HS == 128 || HS == 256;
}

template <class E>
void flash_attention_forward(E* out, float* lse, const E* qkv, const AttentionMask& mask, const Dropout& d, int B,
                             int T, int NH, int NKV, int HS, cudaStream_t stream, int shared_limit) {
    check_flash_attention("flash_attention_forward", mask, B, T, NH, NKV);
    with_instance("flash_attention_forward", HS, d.p > 0, [&]<int kHS, bool kDropout> {
        with_places<kHS, kDropout>(shared_memory_limit(shared_limit), [&]<int kPlaces> {
            forward<E, kHS, kPlaces, kDropout>(out, lse, qkv, mask, d, B, T, NH, NKV, stream);
        });
    });
}

#define KILN_FLASH_ATTENTION(E)                                                                                      \
    template void flash_attention_forward(E*, float*, const E*, const AttentionMask&, const Dropout&, int, int, int, \
                                          int, int, cudaStream_t, int);
KILN_FOR_16_BIT_TYPES(KILN_FLASH_ATTENTION)

}  // namespace kiln
