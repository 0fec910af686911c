// Token and position embedding, and its gradient without atomics.
#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"

namespace kiln {
namespace {

constexpr int kThreads = 256, kBlocksPerMultiprocessor = 16;

// out[b, t] = wte[tokens[b, t]] + wpe[first_position + t], without wpe if it is null. If positions is not null, row n
// has position positions[n]. A thread has one pack. out (B, T, C); wte (V, C); wpe (max_T, C). Moves 2 B T C elements
// (3 with wpe, which is mostly in the L2 cache) for B T C FLOPs: bound by bandwidth.
template <class T>
__global__ void __launch_bounds__(kThreads)
    embedding_forward_kernel(T* out, const int* tokens, const T* wte, const T* wpe, const int* positions,
                             int first_position, int64_t packs, int time, int C) {
    constexpr int kPack = Pack<T>::kSize;
    const int64_t pack = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (pack >= packs) return;
    const int row_packs = C / kPack;
    const int64_t row = pack / row_packs;
    const int column = int(pack % row_packs) * kPack;
    Pack<T> x = load(wte + int64_t(tokens[row]) * C + column);
    if (wpe) {
        const int at = positions ? max(positions[row], 0) : first_position + int(row % time);
        const Pack<T> position = load(wpe + int64_t(at) * C + column);
        for (int i = 0; i < kPack; ++i) x.set(i, x[i] + position[i]);
    }
    store(out + row * C + column, x);
}

// to[i] += sum[i], in accesses of 16 bytes. Single ones would touch each sector of memory 4 to 8 times.
template <int kCount, class Grad>
KILN_DEVICE void add_to(Grad* to, const float (&sum)[kCount]) {
    constexpr int kPack = Pack<Grad>::kSize;
    static_assert(kCount % kPack == 0);
    for (int i = 0; i < kCount; i += kPack) {
        Pack<Grad> x = load(to + i);
        for (int j = 0; j < kPack; ++j) x.set(j, x[j] + sum[i + j]);
        store(to + i, x);
    }
}

// Adds up the rows of dout of each chunk, in the order of the batch. The sum is added to dwte if the token has no other
// chunk; otherwise it is stored to partial (partials, C) float. There are counts[0] chunks; a block takes one at a
// time, a thread one pack of columns. Moves N C elements, and 2 C of dwte for each distinct token, for N C FLOPs: bound
// by bandwidth.
template <class T, class Grad>
__global__ void __launch_bounds__(kThreads, 4)
    embedding_chunks_kernel(Grad* dwte, float* partial, const T* dout, const TokenRows rows, int C) {
    constexpr int kPack = Pack<T>::kSize;
    const int count = rows.counts[0];
    for (int index = blockIdx.x; index < count; index += gridDim.x) {
        const TokenChunk chunk = rows.chunks[index];
        for (int column = threadIdx.x * kPack; column < C; column += kThreads * kPack) {
            float sum[kPack] = {};
#pragma unroll 4
            for (int i = chunk.begin; i < chunk.end; ++i) {
                const Pack<T> x = load_once(dout + int64_t(rows.order[i]) * C + column);
                for (int j = 0; j < kPack; ++j) sum[j] += x[j];
            }
            if (chunk.partial < 0) {
                add_to(dwte + int64_t(chunk.token) * C + column, sum);
            } else {
                float* const to = partial + int64_t(chunk.partial) * C + column;
                for (int j = 0; j < kPack; j += 4)
                    store(to + j, Pack<float>{{sum[j], sum[j + 1], sum[j + 2], sum[j + 3]}});
            }
        }
    }
}

// dwte[token] += the sum of the token's partials, in their order, for the counts[1] tokens that have several chunks.
template <class Grad>
__global__ void __launch_bounds__(kThreads)
    embedding_partials_kernel(Grad* dwte, const float* partial, const TokenRows rows, int C) {
    const int count = rows.counts[1];
    for (int index = blockIdx.x; index < count; index += gridDim.x) {
        const TokenChunk group = rows.groups[index];  // begin and end are indices of partials
        for (int column = threadIdx.x; column < C; column += kThreads) {
            float sum = 0;
            for (int i = group.begin; i < group.end; ++i) sum += partial[int64_t(i) * C + column];
            Grad& to = dwte[int64_t(group.token) * C + column];
            to = from_float<Grad>(to_float(to) + sum);
        }
    }
}

// dwpe[first_position + t] += sum over b of dout[b, t], in the order of b. A thread has one pack of columns.
// Moves B T C elements and 2 T C of dwpe: bound by bandwidth.
template <class T, class Grad>
__global__ void __launch_bounds__(kThreads)
    position_backward_kernel(Grad* dwpe, const T* dout, int first_position, int B, int time, int C) {
    constexpr int kPack = Pack<T>::kSize;
    const int64_t pack = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    const int64_t elems = int64_t(time) * C;
    if (pack * kPack >= elems) return;
    float sum[kPack] = {};
#pragma unroll 4
    for (int b = 0; b < B; ++b) {
        const Pack<T> x = load(dout + b * elems + pack * kPack);
        for (int j = 0; j < kPack; ++j) sum[j] += x[j];
    }
    add_to(dwpe + int64_t(first_position) * C + pack * kPack, sum);
}

unsigned blocks_for(int64_t threads) {
    return unsigned((threads + kThreads - 1) / kThreads);
}

}  // namespace

TokenOrder sort_tokens(const int* tokens, int N, int V) {
    TokenOrder result;
    std::vector<int> starts(size_t(V) + 1);
    for (int n = 0; n < N; ++n) {
        KILN_CHECK(tokens[n] >= 0 && tokens[n] < V, "token ", tokens[n], " at ", n,
                   " does not lie in the vocabulary of ", V);
        ++starts[size_t(tokens[n]) + 1];
    }
    for (int v = 0; v < V; ++v) starts[v + 1] += starts[v];
    std::vector<int> next(starts.begin(), starts.end() - 1);
    result.order.resize(N);
    for (int n = 0; n < N; ++n) result.order[next[tokens[n]]++] = n;
    int partials = 0;
    for (int v = 0; v < V; ++v) {
        const int begin = starts[v], end = starts[v + 1];
        const bool several = end - begin > TokenOrder::kChunkRows;
        if (several) {
            const int chunks = (end - begin + TokenOrder::kChunkRows - 1) / TokenOrder::kChunkRows;
            result.groups.push_back({v, partials, partials + chunks, -1});
        }
        for (int at = begin; at < end; at += TokenOrder::kChunkRows) {
            result.chunks.push_back({v, at, std::min(end, at + TokenOrder::kChunkRows), several ? partials++ : -1});
        }
    }
    return result;
}

template <class T>
void embedding_forward(T* out, const int* tokens, const T* wte, const T* wpe, int first_position, int B, int time,
                       int C, cudaStream_t stream) {
    KILN_CHECK(B > 0 && time > 0 && C > 0 && C % 8 == 0, "embedding_forward: B ", B, ", T ", time, ", C ", C,
               "; C must be a multiple of 8");
    const int64_t packs = int64_t(B) * time * C / Pack<T>::kSize;
    launch<embedding_forward_kernel<T>>({.grid = blocks_for(packs), .block = kThreads, .stream = stream}, out, tokens,
                                        wte, wpe, nullptr, first_position, packs, time, C);
}

template <class T>
void embedding_at(T* out, const int* tokens, const T* wte, const T* wpe, const int* positions, int N, int C,
                  cudaStream_t stream) {
    KILN_CHECK(N > 0 && C > 0 && C % 8 == 0, "embedding_at: N ", N, ", C ", C, "; C must be a multiple of 8");
    const int64_t packs = int64_t(N) * C / Pack<T>::kSize;
    launch<embedding_forward_kernel<T>>({.grid = blocks_for(packs), .block = kThreads, .stream = stream}, out, tokens,
                                        wte, wpe, positions, 0, packs, 1, C);
}

template <class T, class Grad>
void embedding_backward(Grad* dwte, Grad* dwpe, float* partial, const T* dout, const TokenRows& rows,
                        int first_position, int B, int time, int C, cudaStream_t stream) {
    KILN_CHECK(B > 0 && time > 0 && C > 0 && C % 8 == 0, "embedding_backward: B ", B, ", T ", time, ", C ", C,
               "; C must be a multiple of 8");
    const int N = B * time, most = kBlocksPerMultiprocessor * multiprocessors();
    launch<embedding_chunks_kernel<T, Grad>>({.grid = unsigned(std::min(N, most)), .block = kThreads, .stream = stream},
                                             dwte, partial, dout, rows, C);
    // A group has more rows than one chunk can hold.
    if (const int groups = N / (TokenOrder::kChunkRows + 1); groups > 0) {
        launch<embedding_partials_kernel<Grad>>(
            {.grid = unsigned(std::min(groups, most)), .block = kThreads, .stream = stream}, dwte, partial, rows, C);
    }
    if (dwpe) {
        const int64_t packs = int64_t(time) * C / Pack<T>::kSize;
        launch<position_backward_kernel<T, Grad>>({.grid = blocks_for(packs), .block = kThreads, .stream = stream},
                                                  dwpe, dout, first_position, B, time, C);
    }
}

#define KILN_EMBEDDING(T)                                                                                  \
    template void embedding_forward(T*, const int*, const T*, const T*, int, int, int, int, cudaStream_t); \
    template void embedding_at(T*, const int*, const T*, const T*, const int*, int, int, cudaStream_t);
#define KILN_EMBEDDING_BACKWARD(T, Grad)                                                                   \
    template void embedding_backward(Grad*, Grad*, float*, const T*, const TokenRows&, int, int, int, int, \
                                     cudaStream_t);
KILN_FOR_TYPES(KILN_EMBEDDING)
KILN_FOR_GRADIENT_TYPES(KILN_EMBEDDING_BACKWARD)

}  // namespace kiln
