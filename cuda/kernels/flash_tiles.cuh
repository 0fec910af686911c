#pragma once
// What flash_attention*.cu share: tiles of 16-bit elements in shared memory, fragments of them for the tensor cores,
// and what a query sees.
#include "cpu_reference/interface/error.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/ptx.cuh"

namespace kiln {

inline void check_flash_attention(const char* name, const AttentionMask& mask, int B, int T, int NH, int NKV) {
    // Below 2^30, a position and a tile's length more are an int.
    KILN_CHECK(B > 0 && T > 0 && T < 1 << 30 && NKV > 0 && NH > 0 && NH % NKV == 0 && mask.window >= 0, name, ": B ", B,
               ", T ", T, ", NH ", NH, ", NKV ", NKV, ", a window of ", mask.window,
               " keys; all must be positive (a window may be 0), T below 2^30, and NKV divide NH");
}

// Calls f<HS, dropout>(); throws for a head size that has no kernel.
template <class F>
void with_instance(const char* name, int HS, bool dropout, const F& f) {
    const auto call = [&]<int kHS> {
        dropout ? f.template operator()<kHS, true>() : f.template operator()<kHS, false>();
    };
    switch (HS) {
        case 32:
            return call.template operator()<32>();
        case 64:
            return call.template operator()<64>();
        case 80:
            return call.template operator()<80>();
        case 96:
            return call.template operator()<96>();
        case 128:
            return call.template operator()<128>();
        case 256:
            return call.template operator()<256>();
        default:
            KILN_CHECK(false, name, ": HS ", HS, "; there are kernels for 32, 64, 80, 96, 128 and 256");
    }
}

constexpr float kLog2e = 1.4426950408889634f;

// Where element (row, column) of a tile of kWidth columns stands. Within a row the order of the 16-byte pieces is
// turned (XOR with the row's number), so that eight rows of one piece, which ldmatrix reads at once, lie in 32
// different banks at every kWidth that 16 divides: rows that start at the same bank get different pieces. 16 more rows
// change nothing.
template <int kWidth>
KILN_DEVICE constexpr int tile_turns() {
    return kWidth / 8 % 8 == 0 ? 8 : kWidth / 8 & -(kWidth / 8);
}
template <int kWidth>
KILN_DEVICE int tile_offset(int row, int column) {
    constexpr int kTurns = tile_turns<kWidth>();
    return row * kWidth + ((column / 8) ^ (row * kTurns / 8 % kTurns)) * 8 + column % 8;
}

// Starts copying the first `rows` rows at `from`, `stride` elements apart, to a tile (kRows, kWidth); zeros below them.
// A thread keeps to one piece of a row, so that from row to row its address grows by the same number.
template <int kRows, int kWidth, int kThreads, class E>
KILN_DEVICE void load_tile_async(E* tile, const E* from, int64_t stride, int rows) {
    constexpr int kPieces = kWidth / 8, kRowsAPass = kThreads / kPieces;
    int thread = threadIdx.x;
    KILN_FORGET(thread);  // computed again in each step: registers are dearer
    int row = thread / kPieces;
    if (kThreads % kPieces != 0 && row >= kRowsAPass) return;
    const int column = thread % kPieces * 8;
    from += row * stride + column;
    KILN_UNROLL
    for (int n = 0; n < (kRows + kRowsAPass - 1) / kRowsAPass; ++n) {
        if (kRows % kRowsAPass != 0 && row >= kRows) break;
        cp_async_16(tile + tile_offset<kWidth>(row, column), from, row < rows);
        row += kRowsAPass;
        from += kRowsAPass * stride;
    }
}

// Where this lane's row of four (8, 8) matrices begins in the first 16 rows and columns of a tile. The matrices stand
// down first, or with kAcross across first.
template <int kWidth, bool kAcross>
KILN_DEVICE int lane_offset() {
    const int lane = threadIdx.x % 32;
    return kAcross ? tile_offset<kWidth>(lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8)
                   : tile_offset<kWidth>(lane % 16, lane / 16 * 8);
}
// Those four, from (row, column) on, both multiples of 16. The lane's own part comes as a number, so that what is known
// when compiling is a constant in the instruction.
template <int kWidth, bool kTransposed, class E>
KILN_DEVICE void load_matrices(uint32_t (&r)[4], const E* tile, int lane_offset, int row, int column) {
    const int turned = column % (8 * tile_turns<kWidth>());
    ldmatrix_x4<kTransposed>(r, tile + row * kWidth + (lane_offset ^ turned) + (column - turned));
}
// Operand A of a product, rows m to m + 15 by columns k to k + 15, out of a tile that holds A, or its transpose.
template <int kWidth, bool kTransposed>
KILN_DEVICE int lane_offset_a() {
    return lane_offset<kWidth, kTransposed>();
}
template <int kWidth, bool kTransposed, class E>
KILN_DEVICE void load_a(uint32_t (&a)[4], const E* tile, int lane_offset, int m, int k) {
    load_matrices<kWidth, kTransposed>(a, tile, lane_offset, kTransposed ? k : m, kTransposed ? m : k);
}
// Operand B, rows k to k + 15 by columns n to n + 15, out of a tile that holds B, or its transpose.
template <int kWidth, bool kTransposed>
KILN_DEVICE int lane_offset_b() {
    return lane_offset<kWidth, kTransposed>();
}
template <int kWidth, bool kTransposed, class E>
KILN_DEVICE void load_b(uint32_t (&b)[4], const E* tile, int lane_offset, int k, int n) {
    load_matrices<kWidth, !kTransposed>(b, tile, lane_offset, kTransposed ? n : k, kTransposed ? k : n);
}

// A warp's part of a product in registers: (16 kM, 16 kN), as kM x 2 kN fragments.
template <int kM, int kN>
using Sums = float[kM][2 * kN][4];

// sums += a b for one step of 16: b's columns n0 to n0 + 16 kN, but none from kEnd on, unless that is 0.
template <class E, int kWidthB, bool kTransposedB, int kEnd, int kM, int kN>
KILN_DEVICE void multiply_step(Sums<kM, kN>& sums, const uint32_t (&a)[kM][4], const E* b, int lane_b, int k, int n0) {
    KILN_UNROLL
    for (int n = 0; n < kN; ++n) {
        if (kEnd > 0 && n0 + 16 * n >= kEnd) break;
        uint32_t of_b[4];
        load_b<kWidthB, kTransposedB>(of_b, b, lane_b, k, n0 + 16 * n);
        KILN_UNROLL
        for (int m = 0; m < kM; ++m) {
            mma_m16n8k16<E>(sums[m][2 * n], a[m], {of_b[0], of_b[1]});
            mma_m16n8k16<E>(sums[m][2 * n + 1], a[m], {of_b[2], of_b[3]});
        }
    }
}

// sums += a b: a's rows m0 to m0 + 16 kM, b's columns n0 to n0 + 16 kN, kEnd as above, over kK.
template <class E, int kWidthA, bool kTransposedA, int kWidthB, bool kTransposedB, int kK, int kEnd, int kM, int kN>
KILN_DEVICE void multiply_tiles(Sums<kM, kN>& sums, const E* a, int m0, const E* b, int n0) {
    int lane_a = lane_offset_a<kWidthA, kTransposedA>(), lane_b = lane_offset_b<kWidthB, kTransposedB>();
    KILN_UNROLL
    for (int k = 0; k < kK; k += 16) {
        KILN_FORGET(lane_a);  // an XOR a step is cheaper than a register for each of its results
        KILN_FORGET(lane_b);
        uint32_t of_a[kM][4];
        KILN_UNROLL
        for (int m = 0; m < kM; ++m) load_a<kWidthA, kTransposedA>(of_a[m], a, lane_a, m0 + 16 * m, k);
        multiply_step<E, kWidthB, kTransposedB, kEnd, kM, kN>(sums, of_a, b, lane_b, k, n0);
    }
}

template <int kM, int kN>
KILN_DEVICE void set_zero(Sums<kM, kN>& sums) {
    KILN_UNROLL
    for (int m = 0; m < kM; ++m) {
        KILN_UNROLL
        for (int n = 0; n < 2 * kN; ++n) {
            KILN_UNROLL
            for (int i = 0; i < 4; ++i) sums[m][n][i] = 0;
        }
    }
}

// Rows of `to`, `stride` apart, = the sums of this warp, times a factor: rows m0 on below `rows`, columns n0 on below
// kEnd.
template <int kEnd, int kM, int kN, class E>
KILN_DEVICE void store_sums(E* to, int64_t stride, const Sums<kM, kN>& sums, float factor, int m0, int n0, int rows) {
    const int lane = threadIdx.x % 32;
    KILN_UNROLL
    for (int m = 0; m < kM; ++m) {
        KILN_UNROLL
        for (int half = 0; half < 2; ++half) {
            const int row = m0 + 16 * m + 8 * half + lane / 4;
            if (row >= rows) continue;
            KILN_UNROLL
            for (int n = 0; n < 2 * kN; ++n) {
                const int column = n0 + 8 * n + lane % 4 * 2;
                if (kEnd > 0 && column >= kEnd) break;
                *reinterpret_cast<uint32_t*>(to + row * stride + column) =
                    round2<E>(sums[m][n][2 * half] * factor, sums[m][n][2 * half + 1] * factor);
            }
        }
    }
}

// The first key that query q of sequence b sees; it does not fall as q rises.
KILN_DEVICE int first_key(const AttentionMask& mask, int b, int q, int T) {
    const int of_document = mask.first_key ? mask.first_key[int64_t(b) * T + q] : 0;
    return mask.window > 0 ? max(of_document, q - mask.window + 1) : of_document;
}

// What dropout leaves of one fragment of probabilities, rows q and q + 8, columns k + 2 (lane % 4) and the next, where
// 8 divides k: factors of 0 or 1 / (1 - p), in the fragment's order. Four aligned columns have one Philox call, so that
// a pair of lanes makes one row's each and trades halves.
KILN_DEVICE void dropout_factors(float (&factors)[4], const Dropout& d, int b, int h, int q, int k) {
    const int lane = threadIdx.x % 32;
    const bool odd = lane % 2 != 0;
    const int row = q + lane / 4 + (odd ? 8 : 0), column4 = k / 4 + lane % 4 / 2;
    const Philox4 w = dropout_words(d.seed, d.stream, d.first_sample + b, d.layer, h, row, column4);
    const uint32_t mine[2] = {odd ? w.v[2] : w.v[0], odd ? w.v[3] : w.v[1]};
    const float keep_scale = 1.0f / (1.0f - d.p);
    KILN_UNROLL
    for (int i = 0; i < 2; ++i) {
        const uint32_t other = __shfl_xor_sync(~0u, odd ? w.v[i] : w.v[2 + i], 1);
        factors[i] = uniform01(odd ? other : mine[i]) < d.p ? 0.0f : keep_scale;
        factors[2 + i] = uniform01(odd ? mine[i] : other) < d.p ? 0.0f : keep_scale;
    }
}

}  // namespace kiln
