// Attention of one token a sequence over a cache of keys and values, and what appends to it. E is the element type.
#include <bit>
#include <cmath>

#include "cpu_reference/error.h"
#include "cuda/kernels.h"
#include "cuda/pack.cuh"
#include "cuda/reduce.cuh"

namespace kiln {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;
constexpr int kEach = 8;   // columns of a head that a thread has: one pack of bf16, two of float32
constexpr int kBatch = 4;  // rows of the cache that a thread has on their way at once

// k_cache and v_cache (B, NKV, max_T, HS) at positions[b] + t = k and v of qkv (B, T, (NH + 2 NKV) HS), a thread a pack
// of both; nothing where that is below 0 or not below max_T. Moves 4 B T NKV HS elements: bound by bandwidth.
template <class E>
__global__ void __launch_bounds__(kThreads)
    append_to_cache_kernel(E* k_cache, E* v_cache, const E* qkv, const int* positions, int B, int T, int max_T, int NH,
                           int NKV, int HS) {
    constexpr int kPack = Pack<E>::kSize;
    const int packs = NKV * HS / kPack;
    const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x, token = i / packs;
    if (token >= int64_t(B) * T) return;
    const int c = i % packs * kPack, b = token / T;
    const int64_t position = int64_t(positions[b]) + token % T;
    if (positions[b] < 0 || position >= max_T) return;
    const E* const k = qkv + token * (NH + 2 * NKV) * HS + NH * HS + c;
    const int64_t to = ((int64_t(b) * NKV + c / HS) * max_T + position) * HS + c % HS;
    store(k_cache + to, load(k));
    store(v_cache + to, load(k + NKV * HS));
}

// Columns (lane + step * lanes) * kPack .. of a row as floats; 0 from HS on.
template <class E>
KILN_DEVICE void load_columns(float (&x)[kEach], const E* row, int lane, int lanes, int HS) {
    constexpr int kPack = Pack<E>::kSize;
    for (int step = 0; step < kEach / kPack; ++step) {
        const int c = (lane + step * lanes) * kPack;
        Pack<E> pack;
        if (c < HS) pack = load(row + c);
        for (int i = 0; i < kPack; ++i) x[step * kPack + i] = c < HS ? pack[i] : 0.0f;
    }
}

// Part s of softmax(q K^T / sqrt(HS)) V over the keys from s * chunk on, not yet divided by its sum, for up to kHeads
// query heads of one key head: sums (B, NH, splits, HS), and its maximum and sum in extremes (B, NH, splits, 2).
// The cache is read once for all heads of the block. Moves 2 B NKV length HS elements for 4 B NH length HS FLOPs:
// bound by bandwidth.                                                      Flash-Decoding; arXiv:2205.14135
template <class E, int kHeads>
__global__ void __launch_bounds__(kThreads)
    attend_cache_kernel(float* sums, float* extremes, const E* qkv, const E* k_cache, const E* v_cache,
                        const int* positions, int splits, int chunk, int max_T, int NH, int NKV, int HS, int lanes,
                        float scale) {
    constexpr int kPack = Pack<E>::kSize;
    KILN_DYNAMIC_SHARED(float, scores);  // (kHeads, chunk); at the end (kWarps, kHeads, HS)
    const int group = NH / NKV, shares = (group + kHeads - 1) / kHeads;
    const int split = blockIdx.x % splits, head_share = blockIdx.x / splits % (NKV * shares);
    const int b = blockIdx.x / splits / (NKV * shares), kv = head_share / shares;
    const int h0 = kv * group + head_share % shares * kHeads, heads = min(kHeads, (kv + 1) * group - h0);
    const int t0 = split * chunk, keys = min(min(positions[b] + 1, max_T) - t0, chunk);
    if (keys <= 0) return;
    const int lane = threadIdx.x % lanes, owner = threadIdx.x / lanes, owners = kThreads / lanes;
    const int64_t cached = ((int64_t(b) * NKV + kv) * max_T + t0) * HS;

    float q[kHeads][kEach];
    for (int g = 0; g < kHeads; ++g) {
        const int h = h0 + min(g, heads - 1);
        load_columns(q[g], qkv + (int64_t(b) * (NH + 2 * NKV) + h) * HS, lane, lanes, HS);
    }
    for (int first = 0; first < keys; first += kBatch * owners) {
        float k[kBatch][kEach];
        for (int j = 0; j < kBatch; ++j) {
            const int t = min(first + j * owners + owner, keys - 1);
            load_columns(k[j], k_cache + cached + int64_t(t) * HS, lane, lanes, HS);
        }
        for (int j = 0; j < kBatch; ++j) {
            const int t = first + j * owners + owner;
            for (int g = 0; g < kHeads; ++g) {
                float dot = 0;
                for (int i = 0; i < kEach; ++i) dot += q[g][i] * k[j][i];
                for (int bits = lanes / 2; bits > 0; bits /= 2) dot += __shfl_xor_sync(~0u, dot, bits);
                if (lane == 0 && t < keys) scores[g * chunk + t] = dot * scale;
            }
        }
    }
    __syncthreads();

    for (int g = threadIdx.x / kWarp; g < heads; g += kWarps) {
        float highest = -INFINITY, sum = 0;
        for (int t = threadIdx.x % kWarp; t < keys; t += kWarp) highest = fmaxf(highest, scores[g * chunk + t]);
        highest = warp_max(highest);
        for (int t = threadIdx.x % kWarp; t < keys; t += kWarp) {
            const float p = __expf(scores[g * chunk + t] - highest);
            scores[g * chunk + t] = p;
            sum += p;
        }
        sum = warp_sum(sum);
        if (threadIdx.x % kWarp == 0) {
            float* const extreme = extremes + ((int64_t(b) * NH + h0 + g) * splits + split) * 2;
            extreme[0] = highest;
            extreme[1] = sum;
        }
    }
    __syncthreads();

    float out[kHeads][kEach] = {};
    for (int first = owner; first < keys; first += kBatch * owners) {
        float v[kBatch][kEach];
        for (int j = 0; j < kBatch; ++j) {
            const int t = min(first + j * owners, keys - 1);
            load_columns(v[j], v_cache + cached + int64_t(t) * HS, lane, lanes, HS);
        }
        for (int j = 0; j < kBatch; ++j) {
            const int t = first + j * owners;
            for (int g = 0; g < kHeads; ++g) {
                const float p = t < keys && g < heads ? scores[g * chunk + t] : 0.0f;
                for (int i = 0; i < kEach; ++i) out[g][i] += p * v[j][i];
            }
        }
    }
    for (int g = 0; g < kHeads; ++g) {
        for (int i = 0; i < kEach; ++i) {
            for (int bits = lanes; bits < kWarp; bits *= 2) out[g][i] += __shfl_xor_sync(~0u, out[g][i], bits);
        }
    }
    __syncthreads();  // the scores have been read
    float* const partial = scores + threadIdx.x / kWarp * kHeads * HS;
    for (int g = 0; g < kHeads; ++g) {
        for (int i = 0; i < kEach; ++i) {
            const int c = (lane + i / kPack * lanes) * kPack + i % kPack;
            if (threadIdx.x % kWarp < unsigned(lanes) && c < HS) partial[g * HS + c] = out[g][i];
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < heads * HS; i += kThreads) {
        float sum = 0;
        for (int warp = 0; warp < kWarps; ++warp) sum += scores[warp * kHeads * HS + i];
        sums[((int64_t(b) * NH + h0 + i / HS) * splits + split) * HS + i % HS] = sum;
    }
}

// out (B, NH, HS) = the parts of its head, in order, on one scale and divided by their sum; 0 where positions[b] < 0.
// A block a head. Moves B NH splits HS floats, for a chunk of keys one row: a small part of what the kernel above does.
template <class E>
__global__ void __launch_bounds__(kThreads)
    combine_splits_kernel(E* out, const float* sums, const float* extremes, const int* positions, int splits, int chunk,
                          int max_T, int NH, int HS) {
    const int64_t head = blockIdx.x;
    const int keys = min(positions[head / NH] + 1, max_T), used = keys > 0 ? (keys + chunk - 1) / chunk : 0;
    extremes += head * splits * 2;
    sums += head * splits * HS;
    float highest = -INFINITY;
    for (int s = threadIdx.x; s < used; s += kThreads) highest = fmaxf(highest, extremes[2 * s]);
    highest = block_max(highest);
    for (int c = threadIdx.x; c < HS; c += kThreads) {
        float sum = 0, total = 0;
        for (int s = 0; s < used; ++s) {
            const float factor = __expf(extremes[2 * s] - highest);
            total += factor * extremes[2 * s + 1];
            sum += factor * sums[int64_t(s) * HS + c];
        }
        out[head * HS + c] = from_float<E>(used > 0 ? sum / total : 0.0f);
    }
}

// Parts of 128 keys; of up to 1024 where that would make more than 256 of them.
int chunk_of(int max_T) {
    return std::min(std::max((max_T + 255) / 256, 128), 1024);
}
int splits_of(int max_T) {
    return (max_T + chunk_of(max_T) - 1) / chunk_of(max_T);
}

template <class E, int kHeads>
void attend_cache(const CachedAttention<E>& a, cudaStream_t stream) {
    const int splits = splits_of(a.max_T), chunk = chunk_of(a.max_T), group = a.NH / a.NKV;
    const int64_t blocks = int64_t(a.B) * a.NKV * ((group + kHeads - 1) / kHeads) * splits;
    KILN_CHECK(blocks < int64_t(1) << 31, "attention_cached: ", blocks, " blocks are more than a grid has");
    float* const extremes = a.scratch + size_t(a.B) * a.NH * splits * a.HS;
    launch<attend_cache_kernel<E, kHeads>>({.grid = unsigned(blocks),
                                            .block = kThreads,
                                            .shared_bytes = sizeof(float) * kHeads * std::max(chunk, kWarps * a.HS),
                                            .stream = stream},
                                           a.scratch, extremes, a.qkv, a.k_cache, a.v_cache, a.positions, splits, chunk,
                                           a.max_T, a.NH, a.NKV, a.HS, int(std::bit_ceil(unsigned(a.HS) / kEach)),
                                           1.0f / std::sqrt(float(a.HS)));
    launch<combine_splits_kernel<E>>({.grid = unsigned(a.B * a.NH), .block = kThreads, .stream = stream}, a.out,
                                     a.scratch, extremes, a.positions, splits, chunk, a.max_T, a.NH, a.HS);
}

void check(const char* name, int B, int T, int max_T, int NH, int NKV, int HS) {
    KILN_CHECK(B > 0 && T > 0 && max_T > 0 && NKV > 0 && NH > 0 && NH % NKV == 0 && HS > 0 && HS <= 256 && HS % 8 == 0,
               name, ": B ", B, ", T ", T, ", max_T ", max_T, ", NH ", NH, ", NKV ", NKV, ", HS ", HS,
               "; NKV must divide NH, HS be a multiple of 8 up to 256");
}

}  // namespace

template <class E>
void append_to_cache(E* k_cache, E* v_cache, const E* qkv, const int* positions, int B, int T, int max_T, int NH,
                     int NKV, int HS, cudaStream_t stream) {
    check("append_to_cache", B, T, max_T, NH, NKV, HS);
    const int64_t packs = int64_t(B) * T * NKV * HS / Pack<E>::kSize;
    launch<append_to_cache_kernel<E>>(
        {.grid = unsigned((packs + kThreads - 1) / kThreads), .block = kThreads, .stream = stream}, k_cache, v_cache,
        qkv, positions, B, T, max_T, NH, NKV, HS);
}

size_t attention_cached_scratch_floats(int B, int max_T, int NH, int HS) {
    return size_t(B) * NH * splits_of(max_T) * (HS + 2);
}

template <class E>
void attention_cached(const CachedAttention<E>& a, cudaStream_t stream) {
    check("attention_cached", a.B, 1, a.max_T, a.NH, a.NKV, a.HS);
    const int group = a.NH / a.NKV;
    if (group == 1) {
        attend_cache<E, 1>(a, stream);
    } else if (group <= 4) {
        attend_cache<E, 4>(a, stream);
    } else {
        attend_cache<E, 8>(a, stream);
    }
}

#define KILN_CACHED(E)                                                                                       \
    template void append_to_cache(E*, E*, const E*, const int*, int, int, int, int, int, int, cudaStream_t); \
    template void attention_cached(const CachedAttention<E>&, cudaStream_t);
KILN_CACHED(float)
KILN_CACHED(__nv_bfloat16)
KILN_CACHED(__half)

}  // namespace kiln
