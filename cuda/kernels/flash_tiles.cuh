#pragma once
// What flash_attention.cu and flash_attention_backward.cu share: tiles of 16-bit elements in shared memory, their
// fragments for the tensor cores, and the mask.
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "cuda/device/attributes.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/ptx.cuh"

namespace kiln {

inline void check_flash_attention(const char* name, const AttentionMask& mask, int B, int T, int NH, int NKV) {
    // Below 2^30, a position plus the length of a tile fits into an int.
    KILN_CHECK(B > 0 && T > 0 && T < 1 << 30 && NKV > 0 && NH > 0 && NH % NKV == 0 && mask.window >= 0, name, ": B ", B,
               ", T ", T, ", NH ", NH, ", NKV ", NKV, ", a window of ", mask.window,
               " keys; all must be positive (a window may be 0), T must be below 2^30, and NKV must divide NH");
}

// `limit`, or, if it is 0, how many bytes of shared memory the device allows a block.
inline int shared_memory_limit(int limit) {
    return limit > 0 ? limit : max_shared_bytes();
}

// Calls f<HS, dropout>(). Throws Error for a head size without a kernel.
template <class F>
void with_instance(const char* name, int HS, bool dropout, const F& f) {
    const auto call = [&]<int kHS> {
        dropout ? f.template operator()<kHS, true>() : f.template operator()<kHS, false>();
    };
    switch (HS) {
        case 32: return call.template operator()<32>();
        case 64: return call.template operator()<64>();
        case 80: return call.template operator()<80>();
        case 96: return call.template operator()<96>();
        case 128: return call.template operator()<128>();
        case 256: return call.template operator()<256>();
        default: KILN_CHECK(false, name, ": HS ", HS, "; there are kernels for 32, 64, 80, 96, 128 and 256");
    }
}

constexpr float kLog2e = 1.4426950408889634f;

// The offset of element (row, column) in a tile of kWidth columns, where 16 divides kWidth. The 16-byte chunks of a row
// are permuted: the chunk's number is XORed with a number that depends on the row. ldmatrix reads the same chunk of
// eight rows at once; with the permutation these lie in 32 different banks. The permutation repeats after 8 rows.
// swizzle_chunks: how many neighbouring chunks are permuted among each other.
template <int kWidth>
KILN_DEVICE constexpr int swizzle_chunks() {
    return kWidth / 8 % 8 == 0 ? 8 : kWidth / 8 & -(kWidth / 8);
}
template <int kWidth>
KILN_DEVICE int tile_offset(int row, int column) {
    constexpr int kChunks = swizzle_chunks<kWidth>();
    return row * kWidth + ((column / 8) ^ (row * kChunks / 8 % kChunks)) * 8 + column % 8;
}

// Starts copying the first `rows` rows at `from`, `stride` elements apart, to a tile (kRows, kWidth); the other rows
// get zeros. A thread copies the same chunk of each of its rows, so that its address grows by a constant.
template <int kRows, int kWidth, int kThreads, class E>
KILN_DEVICE void load_tile_async(E* tile, const E* from, int64_t stride, int rows) {
    constexpr int kChunks = kWidth / 8, kRowsAPass = kThreads / kChunks;
    int thread = threadIdx.x;
    KILN_FORGET(thread);  // row and column are computed again in each step, which saves registers
    int row = thread / kChunks;
    if (kThreads % kChunks != 0 && row >= kRowsAPass) return;
    const int column = thread % kChunks * 8;
    from += row * stride + column;
    KILN_UNROLL
    for (int n = 0; n < (kRows + kRowsAPass - 1) / kRowsAPass; ++n) {
        if (kRows % kRowsAPass != 0 && row >= kRows) break;
        cp_async_16(tile + tile_offset<kWidth>(row, column), from, row < rows);
        row += kRowsAPass;
        from += kRowsAPass * stride;
    }
}

// The offset of this lane's row of four (8, 8) matrices, in the first 16 rows and columns of a tile. The matrices are
// numbered by column, or by row with kAcross.
template <int kWidth, bool kAcross>
KILN_DEVICE int lane_offset() {
    const int lane = threadIdx.x % 32;
    return kAcross ? tile_offset<kWidth>(lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8)
                   : tile_offset<kWidth>(lane % 16, lane / 16 * 8);
}
// Loads the four matrices from (row, column) on, both multiples of 16. The lane's offset is an argument of its own, so
// that the rest of the address is a constant in the instruction.
template <int kWidth, bool kTransposed, class E>
KILN_DEVICE void load_matrices(uint32_t (&r)[4], const E* tile, int lane_offset, int row, int column) {
    const int swizzled = column % (8 * swizzle_chunks<kWidth>());
    ldmatrix_x4<kTransposed>(r, tile + row * kWidth + (lane_offset ^ swizzled) + (column - swizzled));
}
// Operand A of a matmul, rows m to m + 15, columns k to k + 15, from a tile that holds A or its transpose.
template <int kWidth, bool kTransposed>
KILN_DEVICE int lane_offset_a() {
    return lane_offset<kWidth, kTransposed>();
}
template <int kWidth, bool kTransposed, class E>
KILN_DEVICE void load_a(uint32_t (&a)[4], const E* tile, int lane_offset, int m, int k) {
    load_matrices<kWidth, kTransposed>(a, tile, lane_offset, kTransposed ? k : m, kTransposed ? m : k);
}
// Operand B, rows k to k + 15, columns n to n + 15, from a tile that holds B or its transpose.
template <int kWidth, bool kTransposed>
KILN_DEVICE int lane_offset_b() {
    return lane_offset<kWidth, kTransposed>();
}
template <int kWidth, bool kTransposed, class E>
KILN_DEVICE void load_b(uint32_t (&b)[4], const E* tile, int lane_offset, int k, int n) {
    load_matrices<kWidth, !kTransposed>(b, tile, lane_offset, kTransposed ? n : k, kTransposed ? k : n);
}

// A warp's part (16 kM, 16 kN) of a matmul's result in registers, as kM x 2 kN fragments.
template <int kM, int kN>
using Sums = float[kM][2 * kN][4];

// sums += a b for one step of 16 along k. b's columns are n0 to n0 + 16 kN - 1; if kEnd is not 0, only those below
// kEnd.
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

// sums += a b over kK: a's rows are m0 to m0 + 16 kM - 1; b's columns and kEnd as above.
template <class E, int kWidthA, bool kTransposedA, int kWidthB, bool kTransposedB, int kK, int kEnd, int kM, int kN>
KILN_DEVICE void multiply_tiles(Sums<kM, kN>& sums, const E* a, int m0, const E* b, int n0) {
    int lane_a = lane_offset_a<kWidthA, kTransposedA>(), lane_b = lane_offset_b<kWidthB, kTransposedB>();
    KILN_UNROLL
    for (int k = 0; k < kK; k += 16) {
        KILN_FORGET(lane_a);  // one XOR a step costs less than registers for all its results
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

// Transposes the 4 x 4 words of each quad of lanes: word i of lane j becomes word j of lane i.
KILN_DEVICE void transpose_quad(uint32_t (&words)[4]) {
    KILN_UNROLL
    for (int bit = 1; bit < 4; bit *= 2) {
        const bool upper = (threadIdx.x & bit) != 0;
        KILN_UNROLL
        for (int i = 0; i < 4; ++i) {
            if (i & bit) continue;
            const uint32_t other = __shfl_xor_sync(~0u, upper ? words[i] : words[i + bit], bit);
            words[i] = upper ? other : words[i];
            words[i + bit] = upper ? words[i + bit] : other;
        }
    }
}

// Stores this warp's sums times a factor to `to`, whose rows are `stride` elements apart: from row m0 and column n0 on,
// only rows below `rows` and, if kEnd is not 0, columns below kEnd. The lanes of a quad hold, 4 bytes each, two rows of
// two 16-byte chunks; after an exchange each lane stores one chunk, and two lanes fill the 32-byte sector of a row.
template <int kEnd, int kM, int kN, class E>
KILN_DEVICE void store_sums(E* to, int64_t stride, const Sums<kM, kN>& sums, float factor, int m0, int n0, int rows) {
    const int lane = threadIdx.x % 32, column = n0 + lane % 2 * 8;
    KILN_UNROLL
    for (int m = 0; m < kM; ++m) {
        const int row = m0 + 16 * m + lane % 4 / 2 * 8 + lane / 4;
        KILN_UNROLL
        for (int n = 0; n < kN; ++n) {
            if (kEnd > 0 && n0 + 16 * n >= kEnd) break;
            uint32_t words[4];
            KILN_UNROLL
            for (int i = 0; i < 4; ++i) {
                const float* const sum = &sums[m][2 * n + i % 2][i / 2 * 2];
                words[i] = round2<E>(sum[0] * factor, sum[1] * factor);
            }
            transpose_quad(words);
            if (row < rows) {
                *reinterpret_cast<uint4*>(to + row * stride + column + 16 * n) =
                    make_uint4(words[0], words[1], words[2], words[3]);
            }
        }
    }
}

// The first key that query q of sequence b sees. It must not fall when q rises.
KILN_DEVICE int first_key(const AttentionMask& mask, int b, int q, int T) {
    const int of_document = mask.first_key ? mask.first_key[int64_t(b) * T + q] : 0;
    return mask.window > 0 ? max(of_document, q - mask.window + 1) : of_document;
}

// Sets a warp's scores of queries q0 and on, and of keys k0 and on, to minus infinity where the query does not see the
// key.
template <int kM, int kN>
KILN_DEVICE void mask_scores(Sums<kM, kN>& scores, const AttentionMask& mask, int b, int q0, int k0, int T) {
    const int lane = threadIdx.x % 32;
    KILN_UNROLL
    for (int m = 0; m < kM; ++m) {
        KILN_UNROLL
        for (int i = 0; i < 2; ++i) {
            const int q = q0 + 16 * m + 8 * i + lane / 4, low = first_key(mask, b, min(q, T - 1), T);
            KILN_UNROLL
            for (int n = 0; n < 2 * kN; ++n) {
                KILN_UNROLL
                for (int j = 0; j < 2; ++j) {
                    const int k = k0 + 8 * n + lane % 4 * 2 + j;
                    if (k > q || k < low) scores[m][n][2 * i + j] = -INFINITY;
                }
            }
        }
    }
}

// Dropout's factors, 0 or 1 / (1 - p), for one fragment of probabilities, in the fragment's order: rows q + lane / 4
// and the 8th after it, columns k + 2 (lane % 4) and the next; 8 divides k. One Philox call gives the words of four
// columns of a row, which belong to two lanes; each lane computes one of the two rows, and the lanes exchange halves.
KILN_DEVICE void dropout_factors(float (&factors)[4], const Dropout& d, int b, int h, int q, int k) {
    const int lane = threadIdx.x % 32;
    const bool odd = lane % 2 != 0;
    const int row = q + lane / 4 + (odd ? 8 : 0), column4 = k / 4 + lane % 4 / 2;
    const Philox4 w = dropout_words(d.seed, d.stream, d.first_sample + b, d.layer, h, row, column4);
    const uint32_t mine[2] = {odd ? w.v[2] : w.v[0], odd ? w.v[3] : w.v[1]};
    const float keep_scale = 1.0f / (1.0f - d.p);
    const uint32_t threshold = threshold01(d.p);
    KILN_UNROLL
    for (int i = 0; i < 2; ++i) {
        const uint32_t other = __shfl_xor_sync(~0u, odd ? w.v[i] : w.v[2 + i], 1);
        factors[i] = (odd ? other : mine[i]) < threshold ? 0.0f : keep_scale;
        factors[2 + i] = (odd ? mine[i] : other) < threshold ? 0.0f : keep_scale;
    }
}

}  // namespace kiln
