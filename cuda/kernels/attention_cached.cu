// Attention of new tokens over a cache of keys and values, and the kernel that appends to the cache. E is the element
// type.
#include <cfloat>
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/ptx.cuh"
#include "cuda/kernels/reduce.cuh"

namespace kiln {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;
constexpr int kColumns = 8;              // the most queries of a block: the columns of operand B of mma.m16n8k16
constexpr float kLowest = -FLT_MAX / 2;  // below every score; its difference from itself is 0, not NaN

// Row positions[b] + t of k_cache and v_cache (B, NKV, max_T, pitch) = k and v of qkv (B, T, (NH + 2 NKV) HS). Rows
// that are negative or beyond max_T are dropped. A thread has one pack of k and of v. Moves 4 B T NKV HS elements:
// bound by bandwidth.
template <class E>
__global__ void __launch_bounds__(kThreads)
    append_to_cache_kernel(E* k_cache, E* v_cache, const E* qkv, const int* positions, int B, int T, int max_T, int NH,
                           int NKV, int HS, int pitch) {
    constexpr int kPack = Pack<E>::kSize;
    const int packs = NKV * pitch / kPack;
    const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x, token = i / packs;
    if (token >= int64_t(B) * T) return;
    const int c = i % packs * kPack, b = token / T;
    const int64_t position = int64_t(positions[b]) + token % T;
    if (positions[b] < 0 || position >= max_T) return;
    const int kv = c / pitch, j = c % pitch;
    const E* const k = qkv + (token * (NH + 2 * NKV) + NH + kv) * HS + j;
    const int64_t to = ((int64_t(b) * NKV + kv) * max_T + position) * pitch + j;
    if (pitch == HS) {
        store(k_cache + to, load(k));
        store(v_cache + to, load(k + NKV * HS));
        return;
    }
    for (int i = 0; i < kPack; ++i) {
        k_cache[to + i] = j + i < HS ? k[i] : from_float<E>(0.0f);
        v_cache[to + i] = j + i < HS ? k[NKV * HS + i] : from_float<E>(0.0f);
    }
}

// How the work is divided among blocks. A block has one part of the keys of one key head, and `heads` query heads of
// `tokens` tokens that read them: its columns j, ordered by token, then head. The host chooses it from the shapes and
// the GPU, because only the GPU knows the positions.
struct Cut {
    int group, heads, shares, tokens, token_blocks, parts;
    int pitch;    // cache_pitch(HS)
    float scale;  // of the scores, for exponentials to the base 2
};

// The queries of a block's columns, and the keys that they see.
template <class E>
struct Queries {
    const CachedAttention<E>& a;
    const Cut& cut;
    int b, kv, first_head, heads, first_token, position;

    KILN_DEVICE int token(int j) const { return first_token + j / cut.heads; }
    KILN_DEVICE bool is_real(int j) const {
        return j < cut.heads * cut.tokens && j % cut.heads < heads && token(j) < a.T;
    }
    KILN_DEVICE int64_t row(int j) const { return int64_t(b) * a.T + token(j); }
    KILN_DEVICE int head(int j) const { return first_head + j % cut.heads; }
    KILN_DEVICE const E* q(int j) const { return a.qkv + (row(j) * (a.NH + 2 * a.NKV) + head(j)) * a.HS; }
    // Column j sees the keys from begin(end(j)) to end(j).
    KILN_DEVICE int end(int j) const { return is_real(j) ? min(position + token(j) + 1, a.max_T) : 0; }
    KILN_DEVICE int begin(int end) const { return a.window > 0 ? max(end - a.window, 0) : 0; }
};

// The place of a 16-byte pack in a row of a tile. The packs of one column in eight rows lie in different banks.
KILN_DEVICE int swizzled(int row, int pack) {
    return pack ^ (row & 7);
}

// softmax(Q K^T) V of one warp in bf16 or fp16 on tensor cores, transposed: S^T (16 keys, columns) = K Q^T, then
// O^T (HS, columns) += V^T P^T. Operand P^T is made from S^T by transposing its (8, 8) matrices.
template <class E, int kHS>
struct WarpAttention {
    static constexpr int kRows = 16, kPacks = kHS / Pack<E>::kSize;
    uint32_t q[kHS / 16][2], p[2];
    float out[kHS / 16][4] = {}, highest[2] = {kLowest, kLowest}, sum[2] = {};
    int end[2], begin[2];  // of columns 2 (lane % 4) and the next, like sum and highest

    KILN_DEVICE WarpAttention(const Queries<E>& queries, int lane) {
        for (int i = 0; i < 2; ++i) {
            end[i] = queries.end(2 * (lane % 4) + i);
            begin[i] = queries.begin(end[i]);
        }
        const int j = lane / 4;
        const bool is_real = queries.is_real(j);
        const E* const mine = queries.q(is_real ? j : 0);
        for (int k = 0; k < kHS / 16; ++k) {
            for (int i = 0; i < 2; ++i) {
                const int c = 16 * k + 8 * i + 2 * (lane % 4);
                q[k][i] = is_real && c < queries.a.HS ? *reinterpret_cast<const uint32_t*>(mine + c) : 0;
            }
        }
    }
    // Computes p for the keys from `first` on, and scales out and sum to the new maximum.
    KILN_DEVICE void score(const Queries<E>& queries, const Pack<E>* keys, int first, int lane) {
        float s[2][4] = {};  // two sums, so that only every second mma depends on the one before
        for (int k = 0; k < kHS / 16; ++k) {
            uint32_t of_k[4];
            const int row = lane % 16;
            ldmatrix_x4<false>(of_k, keys + row * kPacks + swizzled(row, 2 * k + lane / 16));
            mma_m16n8k16<E>(s[k % 2], of_k, q[k]);
        }
        float correction[2];
        for (int i = 0; i < 2; ++i) {
            for (int half = 0; half < 2; ++half) {
                const int key = first + lane / 4 + 8 * half;
                float& x = s[0][2 * half + i];
                x = (x + s[1][2 * half + i]) * queries.cut.scale;
                if (key < begin[i] || key >= end[i]) x = -INFINITY;
            }
            float top = fmaxf(highest[i], fmaxf(s[0][i], s[0][i + 2]));
            for (int bits = 4; bits < kWarp; bits *= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, bits));
            correction[i] = exp2_approx(highest[i] - top);
            highest[i] = top;
            for (int half = 0; half < 2; ++half) s[0][2 * half + i] = exp2_approx(s[0][2 * half + i] - top);
            sum[i] = sum[i] * correction[i] + (s[0][i] + s[0][i + 2]);
        }
        for (auto& tile : out) {
            for (int i = 0; i < 4; ++i) tile[i] *= correction[i % 2];
        }
        for (int half = 0; half < 2; ++half) p[half] = transpose_8x8(round2<E>(s[0][2 * half], s[0][2 * half + 1]));
    }
    KILN_DEVICE void add(const Queries<E>&, const Pack<E>* values, int lane) {
        for (int n = 0; n < kHS / 16; ++n) {
            uint32_t of_v[4];
            const int row = lane % 8 + lane / 16 * 8;
            ldmatrix_x4<true>(of_v, values + row * kPacks + swizzled(row, 2 * n + lane / 8 % 2));
            mma_m16n8k16<E>(out[n], of_v, p);
        }
    }
    // sums (kColumns, kHS), extremes (kColumns, 2).
    KILN_DEVICE void store_part(float* sums, float* extremes, int lane) {
        for (int i = 0; i < 2; ++i) {
            for (int bits = 4; bits < kWarp; bits *= 2) sum[i] += __shfl_xor_sync(~0u, sum[i], bits);
            if (lane < 4) {
                extremes[2 * (2 * lane + i)] = highest[i];
                extremes[2 * (2 * lane + i) + 1] = sum[i];
            }
        }
        for (int n = 0; n < kHS / 16; ++n) {
            for (int i = 0; i < 4; ++i) {
                sums[(2 * (lane % 4) + i % 2) * kHS + 16 * n + lane / 4 + 8 * (i / 2)] = out[n][i];
            }
        }
    }
};

// The same in float32. For the scores of a tile's eight keys, a lane has one key and a quarter of the packs; for the
// output, it has all keys and every 32nd column. q is read through the L1 cache.
template <int kHS>
struct WarpAttention<float, kHS> {
    static constexpr int kRows = 8, kPacks = kHS / 4;
    int columns, end[kColumns];
    const float* q[kColumns];
    float p[kColumns], out[kColumns][kHS / kWarp] = {}, highest[kColumns], sum[kColumns] = {};

    KILN_DEVICE WarpAttention(const Queries<float>& queries, int) : columns(queries.cut.heads * queries.cut.tokens) {
        for (int j = 0; j < kColumns; ++j) {
            end[j] = queries.end(j);
            q[j] = queries.q(queries.is_real(j) ? j : 0);
            highest[j] = kLowest;
        }
    }
    KILN_DEVICE void score(const Queries<float>& queries, const Pack<float>* keys, int first, int lane) {
        const int row = lane % 8, key = first + row;
        float s[kColumns] = {};
        for (int pack = lane / 8; pack < queries.a.HS / 4; pack += 4) {
            const Pack<float> k = keys[row * kPacks + swizzled(row, pack)];
            for (int j = 0; j < kColumns; ++j) {
                if (j >= columns) continue;
                const Pack<float> of_q = load(q[j] + 4 * pack);
                for (int i = 0; i < 4; ++i) s[j] += of_q[i] * k[i];
            }
        }
        for (int j = 0; j < kColumns; ++j) {
            if (j >= columns) continue;
            for (int bits = 8; bits < kWarp; bits *= 2) s[j] += __shfl_xor_sync(~0u, s[j], bits);
            const bool seen = key >= queries.begin(end[j]) && key < end[j];
            const float x = seen ? s[j] * queries.cut.scale : -INFINITY;
            float top = fmaxf(highest[j], x);
            for (int bits = 1; bits < 8; bits *= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, bits));
            const float correction = exp2_approx(highest[j] - top);
            highest[j] = top;
            p[j] = exp2_approx(x - top);
            sum[j] = sum[j] * correction + p[j];
            for (float& o : out[j]) o *= correction;
        }
    }
    KILN_DEVICE void add(const Queries<float>&, const Pack<float>* values, int lane) {
        for (int row = 0; row < kRows; ++row) {
            float v[kHS / kWarp];
            for (int i = 0; i < kHS / kWarp; ++i) {
                const int c = lane + kWarp * i;
                v[i] = values[row * kPacks + swizzled(row, c / 4)].v[c % 4];
            }
            for (int j = 0; j < kColumns; ++j) {
                if (j >= columns) continue;
                const float weight = __shfl_sync(~0u, p[j], row);
                for (int i = 0; i < kHS / kWarp; ++i) out[j][i] += weight * v[i];
            }
        }
    }
    KILN_DEVICE void store_part(float* sums, float* extremes, int lane) {
        for (int j = 0; j < kColumns; ++j) {
            if (j >= columns) continue;
            for (int bits = 1; bits < 8; bits *= 2) sum[j] += __shfl_xor_sync(~0u, sum[j], bits);
            if (lane == 0) {
                extremes[2 * j] = highest[j];
                extremes[2 * j + 1] = sum[j];
            }
            for (int i = 0; i < kHS / kWarp; ++i) sums[j * kHS + lane + kWarp * i] = out[j][i];
        }
    }
};

// Adds up four elements of `parts` parts, in their order, after scaling them to the common maximum.
struct Merged {
    Pack<float> value;
    float highest = kLowest, total = 0;
};
KILN_DEVICE Merged merge(const float* sums, const float* extremes, int parts, int64_t sums_stride,
                         int64_t extremes_stride) {
    Merged all;
    for (int i = 0; i < 4; ++i) all.value.v[i] = 0;
#pragma unroll 8
    for (int s = 0; s < parts; ++s) all.highest = fmaxf(all.highest, extremes[s * extremes_stride]);
#pragma unroll 8
    for (int s = 0; s < parts; ++s) {
        const float factor = exp2_approx(extremes[s * extremes_stride] - all.highest);
        const Pack<float> x = load(sums + s * sums_stride);
        all.total += factor * extremes[s * extremes_stride + 1];
        for (int i = 0; i < 4; ++i) all.value.v[i] += factor * x[i];
    }
    return all;
}
template <class E>
KILN_DEVICE void store_merged(E* out, const Merged& all) {
    for (int i = 0; i < 4; ++i) out[i] = from_float<E>(all.value[i] / all.total);
}

// A warp has kSlots tiles in shared memory, keys and values interleaved. All but one of them are being loaded.
template <int kHS, int kSlots>
constexpr size_t kRingBytes = size_t(kWarps) * kSlots * 32 * kHS;

// out = softmax(Q K^T / sqrt(HS)) V over the cache, as in Flash-Decoding. Each block reads its part of the keys and
// values once for all its columns. Its warps take interleaved tiles, without a barrier until the end; then their
// sums are merged in order. Its only shared memory is that of the tiles, so that sm_75 can give it all of its 64 KB. If
// a head has several parts, the block that finishes last, known by a counter, merges them in order: sums (pairs, parts,
// columns, HS) are outputs not yet divided; extremes (pairs, parts, columns, 2) are maximum and sum.
//
// Moves 2 B NKV length HS elements, and about 16 (HS + 2) bytes for each column and part, for 4 B NH length HS
// FLOPs: bound by bandwidth.
//
// Predicted for an H200: an SM gets 4.8 TB/s / 132 / 1.75 GHz = 21 bytes a cycle. At a latency of 700 ns that needs
// 25 KB in flight. A block has 40, 48 or 64 KB in flight (head sizes up to 64, 128, 256), and an SM runs two or
// three blocks. A tile of 16 keys at HS = 128 is 8 KB: it takes 395 cycles to load and 415 warp instructions, while
// an SM can issue 1580 in these cycles, so that loading hides the arithmetic for any group of heads. Rates: 90 % of
// a copy's for caches of 128 MB or more; 75 % at 32 MB (8192 tokens of one sequence, 8 key heads of 128), where
// about 3 of 11 us go to the first tile's latency, the end of the last tile and the merging.
template <class E, int kHS, int kSlots>
__global__ void __launch_bounds__(kThreads, kHS <= 128 ? 2 : 1)
    attend_cache_kernel(CachedAttention<E> a, Cut cut, float* extremes) {
    using Warp = WarpAttention<E, kHS>;
    constexpr int kRows = Warp::kRows, kPacks = Warp::kPacks, kSlotPacks = kRows * kPacks, kRound = kRows * kWarps;
    static_assert(sizeof(float) * (kWarps * kColumns * (kHS + 2) + 1) <= kRingBytes<kHS, kSlots>);  // of the merging
    KILN_DYNAMIC_SHARED(Pack<E>, rings);
    const int b = blockIdx.x / cut.token_blocks, token_block = blockIdx.x % cut.token_blocks, part = blockIdx.y;
    const int kv = blockIdx.z / cut.shares, first_head = blockIdx.z % cut.shares * cut.heads;
    const int64_t pair = int64_t(blockIdx.x) * gridDim.z + blockIdx.z;
    const Queries<E> queries = {a,
                                cut,
                                b,
                                kv,
                                kv * cut.group + first_head,
                                min(cut.heads, cut.group - first_head),
                                token_block * cut.tokens,
                                a.positions[b]};
    const int columns = cut.heads * cut.tokens;

    // The keys of this block, in rounds of one tile for each warp. The parts have equally many rounds, or one less.
    const int last_token = min(queries.first_token + cut.tokens, a.T) - 1;
    const int begin = queries.begin(queries.position + queries.first_token + 1);
    const int end = queries.position < 0 ? 0 : min(queries.position + last_token + 1, a.max_T);
    const int rounds = (max(end - begin, 0) + kRound - 1) / kRound, parts = min(rounds, cut.parts);
    if (parts == 0 && part == 0) {
        for (int i = threadIdx.x; i < columns * a.HS; i += kThreads) {
            const int j = i / a.HS;
            if (queries.is_real(j)) {
                a.out[(queries.row(j) * a.NH + queries.head(j)) * a.HS + i % a.HS] = from_float<E>(0.0f);
            }
        }
    }
    if (part >= parts) return;
    const int stop = min(begin + (part + 1) * rounds / parts * kRound, end);

    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int first = begin + part * rounds / parts * kRound + warp * kRows;
    const int tiles = first < stop ? (stop - first + kRound - 1) / kRound : 0;
    const int64_t cached = (int64_t(b) * a.NKV + kv) * a.max_T * cut.pitch;
    Pack<E>* const ring = rings + warp * kSlots * kSlotPacks;
    const auto fetch = [&](int i) {  // starts loading tile i / 2 of the keys (i even) or values (i odd)
        if (i < 2 * tiles) {
            const E* const from = (i % 2 == 0 ? a.k_cache : a.v_cache) + cached;
            Pack<E>* const to = ring + i % kSlots * kSlotPacks;
#pragma unroll
            for (int n = 0; n < kSlotPacks; n += kWarp) {
                const int row = (n + lane) / kPacks, pack = (n + lane) % kPacks, c = pack * Pack<E>::kSize;
                const int key = first + i / 2 * kRound + row;
                cp_async_16(to + row * kPacks + swizzled(row, pack), from + int64_t(key) * cut.pitch + c,
                            key < stop && c < a.HS);
            }
        }
        cp_async_commit();
    };
    for (int i = 0; i < kSlots - 1; ++i) fetch(i);
    const auto next = [&](int i) {  // waits for tile i; the call for tile i + 1 frees its slot
        __syncwarp();
        fetch(i + kSlots - 1);
        cp_async_wait<kSlots - 1>();
        __syncwarp();
        return ring + i % kSlots * kSlotPacks;
    };
    Warp mine(queries, lane);
    for (int tile = 0; tile < tiles; ++tile) {
        mine.score(queries, next(2 * tile), first + tile * kRound, lane);
        mine.add(queries, next(2 * tile + 1), lane);
    }

    __syncthreads();  // all tiles have been read
    float* const of_warps = reinterpret_cast<float*>(rings);
    float* const extremes_of_warps = of_warps + kWarps * kColumns * kHS;
    mine.store_part(of_warps + warp * kColumns * kHS, extremes_of_warps + warp * kColumns * 2, lane);
    __syncthreads();
    float* const sums = a.scratch + (pair * cut.parts + part) * columns * a.HS;
    extremes += (pair * cut.parts + part) * columns * 2;
    for (int i = threadIdx.x * 4; i < columns * a.HS; i += kThreads * 4) {
        const int j = i / a.HS, c = i % a.HS;
        if (!queries.is_real(j)) continue;
        const Merged all =
            merge(of_warps + j * kHS + c, extremes_of_warps + j * 2, kWarps, kColumns * kHS, kColumns * 2);
        if (parts == 1) {
            store_merged(a.out + (queries.row(j) * a.NH + queries.head(j)) * a.HS + c, all);
        } else {
            store(sums + i, all.value);
            if (c == 0) {
                extremes[2 * j] = all.highest;
                extremes[2 * j + 1] = all.total;
            }
        }
    }
    if (parts == 1) return;

    __syncthreads();
    int* const arrivals = reinterpret_cast<int*>(extremes_of_warps + kWarps * kColumns * 2);
    if (threadIdx.x == 0) arrivals[0] = fetch_add_acq_rel(a.arrivals + pair, 1) + 1;
    __syncthreads();
    if (arrivals[0] < parts) return;
    if (threadIdx.x == 0) a.arrivals[pair] = 0;
    const float* const all_sums = sums - int64_t(part) * columns * a.HS;
    const float* const all_extremes = extremes - int64_t(part) * columns * 2;
    for (int i = threadIdx.x * 4; i < columns * a.HS; i += kThreads * 4) {
        const int j = i / a.HS, c = i % a.HS;
        if (!queries.is_real(j)) continue;
        store_merged(a.out + (queries.row(j) * a.NH + queries.head(j)) * a.HS + c,
                     merge(all_sums + i, all_extremes + 2 * j, parts, columns * a.HS, columns * 2));
    }
}

// How many blocks run at once: a wave. If heads are cut into parts, there are at most kWaves waves.
int blocks_of_wave() {
    return 2 * multiprocessors();
}
constexpr int kWaves = 4;

// The smallest number of parts that keeps 95 % of the GPU busy, or else the number that keeps most of it busy.
int parts_of(int64_t pairs) {
    int best = 1;
    double best_use = 0;
    const int64_t wave = blocks_of_wave();
    for (int parts = 1; parts == 1 || (best_use < 0.95 && pairs * parts <= kWaves * wave); ++parts) {
        const int64_t blocks = pairs * parts, waves = (blocks + wave - 1) / wave;
        const double use = double(blocks) / double(waves * wave);
        if (use > best_use) best = parts, best_use = use;
    }
    return best;
}

template <class E, int kHS, int kSlots>
void attend_cache(const CachedAttention<E>& a, cudaStream_t stream) {
    Cut cut;
    cut.group = a.NH / a.NKV;
    cut.shares = (cut.group + kColumns - 1) / kColumns;
    cut.heads = (cut.group + cut.shares - 1) / cut.shares;
    cut.tokens = std::min(kColumns / cut.heads, a.T);
    cut.token_blocks = (a.T + cut.tokens - 1) / cut.tokens;
    const int64_t rows = int64_t(a.B) * cut.token_blocks, key_heads = int64_t(a.NKV) * cut.shares;
    KILN_CHECK(rows < int64_t(1) << 31 && key_heads < 1 << 16, "attention_cached: ", a.B, " sequences of ", a.T,
               " tokens and ", a.NKV, " key heads are more than a grid can have");
    cut.parts = parts_of(rows * key_heads);
    cut.pitch = cache_pitch<E>(a.HS);
    cut.scale = float(M_LOG2E / std::sqrt(double(a.HS)));
    launch<attend_cache_kernel<E, kHS, kSlots>>(
        {.grid = dim3(unsigned(rows), unsigned(cut.parts), unsigned(key_heads)),
         .block = kThreads,
         .shared_bytes = kRingBytes<kHS, kSlots>,
         .stream = stream},
        a, cut, a.scratch + rows * key_heads * cut.parts * cut.heads * cut.tokens * a.HS);
}

void check(const char* name, int B, int T, int max_T, int NH, int NKV, int HS) {
    KILN_CHECK(B > 0 && T > 0 && max_T > 0 && NKV > 0 && NH > 0 && NH % NKV == 0 && HS > 0 && HS <= 256 && HS % 4 == 0,
               name, ": B ", B, ", T ", T, ", max_T ", max_T, ", NH ", NH, ", NKV ", NKV, ", HS ", HS,
               "; NKV must divide NH; HS must be a multiple of 4 up to 256");
}

}  // namespace

template <class E>
void append_to_cache(E* k_cache, E* v_cache, const E* qkv, const int* positions, int B, int T, int max_T, int NH,
                     int NKV, int HS, cudaStream_t stream) {
    check("append_to_cache", B, T, max_T, NH, NKV, HS);
    const int64_t packs = int64_t(B) * T * NKV * cache_pitch<E>(HS) / Pack<E>::kSize;
    launch<append_to_cache_kernel<E>>(
        {.grid = unsigned((packs + kThreads - 1) / kThreads), .block = kThreads, .stream = stream}, k_cache, v_cache,
        qkv, positions, B, T, max_T, NH, NKV, HS, cache_pitch<E>(HS));
}

size_t attention_cached_scratch_floats(int HS) {
    return size_t(kWaves) * blocks_of_wave() * kColumns * (HS + 2);
}
size_t attention_cached_arrivals() {
    return size_t(kWaves) * blocks_of_wave() / 2;
}

template <class E>
void attention_cached(const CachedAttention<E>& a, cudaStream_t stream) {
    check("attention_cached", a.B, a.T, a.max_T, a.NH, a.NKV, a.HS);
    KILN_CHECK(a.window >= 0, "attention_cached: a window of ", a.window, " keys; 0 means all");
    if (a.HS <= 64) {
        attend_cache<E, 64, 6>(a, stream);
    } else if (a.HS <= 128) {
        attend_cache<E, 128, 4>(a, stream);
    } else if (kRingBytes<256, 3> <= size_t(max_shared_bytes())) {
        attend_cache<E, 256, 3>(a, stream);
    } else {  // sm_75
        attend_cache<E, 256, 2>(a, stream);
    }
}

#define KILN_CACHED(E)                                                                                       \
    template void append_to_cache(E*, E*, const E*, const int*, int, int, int, int, int, int, cudaStream_t); \
    template void attention_cached(const CachedAttention<E>&, cudaStream_t);
KILN_FOR_TYPES(KILN_CACHED)

}  // namespace kiln
