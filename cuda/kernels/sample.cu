// Chooses the next token from logits on the device, as cpu_reference/interface/sampler.cpp does on the host.
#include <bit>

#include "cpu_reference/interface/error.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/reduce.cuh"

namespace kiln {
namespace {

using uint64 = unsigned long long;

constexpr int kThreads = 1024;
constexpr int kIdBits = 28;  // kMaxVocab of model_config.cpp
constexpr uint64 kNone = ~uint64(0);
constexpr int kBins = 1 << 11;

// A key that is smaller for a larger logit and, if logits are equal, for a smaller id.
KILN_DEVICE uint64 key_of(float logit, int id) {
    const uint32_t bits = __float_as_uint(logit + 0.0f);  // -0 becomes 0
    const uint32_t descending = bits >> 31 ? bits : ~bits & 0x7fffffffu;
    return uint64(descending) << kIdBits | unsigned(id);
}

// Calls visit(logit, id) for this thread's tokens of a row, except those with a logit of minus infinity, which are
// never chosen.
template <class T, class Visit>
KILN_DEVICE void for_each_logit(const T* row, int V, Visit visit) {
    constexpr int kPack = Pack<T>::kSize;
    for (int v = threadIdx.x * kPack; v < V; v += kThreads * kPack) {
        const Pack<T> pack = load(row + v);
        for (int i = 0; i < kPack; ++i) {
            if (v + i < V && pack[i] != -INFINITY) visit(pack[i], v + i);
        }
    }
}

// Every thread gets the smallest key, or the sum, of the block. Both are integers, so that the order does not matter.
template <bool kSum>
KILN_DEVICE uint64 block_reduce(uint64 x) {
    KILN_SHARED(uint64, partial, kThreads / kWarp);
    const auto combine = [](uint64 a, uint64 b) { return kSum ? a + b : a < b ? a : b; };
    for (int bits = kWarp / 2; bits > 0; bits /= 2) x = combine(x, __shfl_xor_sync(~0u, x, bits));
    __syncthreads();
    if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = x;
    __syncthreads();
    x = partial[threadIdx.x % kWarp];
    for (int bits = kWarp / 2; bits > 0; bits /= 2) x = combine(x, __shfl_xor_sync(~0u, x, bits));
    return x;
}

// The key of the most likely token; kNone if there is none, or if a logit is NaN or plus infinity.
template <class T>
KILN_DEVICE uint64 most_likely(const T* row, int V) {
    uint64 best = kNone;
    int bad = 0;
    for_each_logit(row, V, [&](float logit, int id) {
        bad |= !(logit < INFINITY);
        best = min(best, key_of(logit, id));
    });
    best = block_reduce<false>(best);
    return __syncthreads_or(bad) ? kNone : best;
}

KILN_DEVICE int id_of(uint64 key) {
    return key == kNone ? -1 : int(key & ((uint64(1) << kIdBits) - 1));
}

// tokens (N) = the id of the largest of V logits, the lowest id if several are equal; -1 if no token can be chosen.
// logits (N, Vp). One block a row. Moves N V elements: bound by bandwidth.
template <class T>
__global__ void __launch_bounds__(kThreads) argmax_kernel(int* tokens, const T* logits, int V, int Vp) {
    const uint64 best = most_likely(logits + int64_t(blockIdx.x) * Vp, V);
    if (threadIdx.x == 0) tokens[blockIdx.x] = id_of(best);
}

// weights (N, Vp) = round(2^weight_bits exp((logits - highest) / temperature)), for ids below V; `best` (N) are the ids
// of the highest logits of the rows, and rows with -1 are left alone. Each weight is 50 instructions in double, of
// which a multiprocessor of sm_75, 86, 89 or 120 does two a clock, so that many of them share a row: for V = 50k
// predicted 20 us on a T4 or RTX 3060 and 3 us on an RTX 5090, and three times that for V = 152k. Moves V (8 +
// sizeof(T)) bytes a row.
constexpr int kWeightThreads = 256;
template <class T>
__global__ void __launch_bounds__(kWeightThreads)
    sample_weights_kernel(uint64_t* weights, const int* best, const T* logits, float temperature, int weight_bits,
                          int V, int Vp) {
    const int id = blockIdx.x * kWeightThreads + threadIdx.x;
    const int64_t row = int64_t(blockIdx.y) * Vp;
    if (id >= V || best[blockIdx.y] < 0) return;
    const double highest = to_float(logits[row + best[blockIdx.y]]), unit = double(uint64(1) << weight_bits);
    weights[row + id] = uint64_t(exp((double(to_float(logits[row + id])) - highest) / temperature) * unit + 0.5);
}

struct Found {
    uint64 key, sum;  // sum of the weights of all keys up to this one
};

// Each token has a key, key(logit, id), and a weight, weight(id); tokens whose key exceeds `limit` do not count.
// Finds the smallest key for which the weights of all keys up to it add up to at least `target`. target is positive and
// at most the sum of all weights. Radix selection: a histogram of the weights by the first digit of the key selects
// that digit; a histogram by the second digit, of the keys with that first digit, selects the second, and so on. All
// keys are 0 in the digits before kFirst. histogram (kBins + 2) is in shared memory.
constexpr int kFirstOfId = 4;
template <int kFirst = 1, class T, class Key, class Weight>
KILN_DEVICE Found select(uint64* histogram, const T* row, int V, uint64 target, uint64 limit, Key key, Weight weight) {
    uint64* const found = histogram + kBins;
    constexpr int kDigits = 6, kShifts[kDigits + 1] = {60, 49, 38, kIdBits, 17, 6, 0};
    static_assert(kShifts[kFirstOfId - 1] == kIdBits);
    uint64 prefix = 0, below = 0, sum_of_prefix = 0;
    for (int digit = kFirst; digit <= kDigits; ++digit) {
        const int shift = kShifts[digit], above = kShifts[digit - 1];
        // This digit is 0 in every id.
        if (above <= kIdBits && unsigned(V - 1) >> shift == 0) {
            prefix <<= above - shift;
            continue;
        }
        __syncthreads();
        for (int bin = threadIdx.x; bin < kBins; bin += kThreads) histogram[bin] = 0;
        __syncthreads();
        for_each_logit(row, V, [&](float logit, int id) {
            const uint64 k = key(logit, id);
            if (k > limit || k >> above != prefix) return;
            atomicAdd(&histogram[k >> shift & ((1u << (above - shift)) - 1)], weight(id));
        });
        __syncthreads();
        if (threadIdx.x < kWarp) {
            constexpr int kShare = kBins / kWarp;
            const int lane = threadIdx.x;
            uint64 mine = 0;
            for (int i = 0; i < kShare; ++i) mine += histogram[lane * kShare + i];
            uint64 upto = mine;
            for (int delta = 1; delta < kWarp; delta *= 2) {
                const uint64 before = __shfl_up_sync(~0u, upto, delta);
                if (lane >= delta) upto += before;
            }
            uint64 sum = below + upto - mine;
            if (sum < target && sum + mine >= target) {
                int bin = lane * kShare;
                while (sum + histogram[bin] < target) sum += histogram[bin++];
                found[0] = bin;
                found[1] = sum;
            }
        }
        __syncthreads();
        prefix = prefix << (above - shift) | found[0];
        below = found[1];
        sum_of_prefix = histogram[found[0]];
    }
    return {prefix, below + sum_of_prefix};
}

// tokens (N) = draws from softmax(logits / temperature), restricted to the top_k most likely tokens, and of those to
// the fewest most likely ones whose probabilities add up to top_p; -1 if no token can be chosen. arXiv:1904.09751
// Nothing is sorted: the least likely token that is kept is selected. Weights are integers, 2^weight_bits for the most
// likely token, so that sums do not depend on the order; at V = 200k a token is lost only if its probability is below
// 2^-43. The uniform number has 53 bits.
// logits (N, Vp), tokens and weights as argmax and sample_weights left them. One block a row. Reads V logits 3 times,
// with top-p up to 15 and with both 22 times, and in the first pass of each selection V weights, from the L2 cache.
template <class T>
__global__ void __launch_bounds__(kThreads)
    sample_kernel(int* tokens, const T* logits, const uint64_t* weights, SamplerOptions options,
                  const uint64_t* sample_numbers, const int* positions, int V, int Vp) {
    KILN_SHARED(uint64, histogram, kBins + 2);
    const T* const row = logits + int64_t(blockIdx.x) * Vp;
    if (tokens[blockIdx.x] < 0) return;
    const auto by_likelihood = [](float logit, int id) { return key_of(logit, id); };
    const auto by_id = [](float, int id) { return uint64(unsigned(id)); };
    const auto weight = [weights = weights + int64_t(blockIdx.x) * Vp](int id) -> uint64 { return weights[id]; };

    uint64 limit = kNone - 1, count = 0, total = 0;
    if (options.top_k > 0) {
        for_each_logit(row, V, [&](float, int) { ++count; });
        count = block_reduce<true>(count);
    }
    if (unsigned(options.top_k) < count) {
        limit = select(histogram, row, V, options.top_k, limit, by_likelihood, [](int) { return uint64(1); }).key;
    }
    for_each_logit(row, V, [&](float logit, int id) {
        if (key_of(logit, id) <= limit) total += weight(id);
    });
    total = block_reduce<true>(total);
    if (options.top_p < 1) {
        const uint64 target = uint64(ceil(options.top_p * double(total)));
        const Found kept = select(histogram, row, V, max(min(target, total), uint64(1)), limit, by_likelihood, weight);
        total = kept.sum;  // so that the draw below takes a token up to kept.key
    }
    const uint64 number = sample_numbers[blockIdx.x];
    const Philox4 word = philox4x32(options.seed, uint32_t(number), uint32_t(number >> 32), positions[blockIdx.x] + 1,
                                    uint32_t(RngStream::sampling));
    const uint64 uniform = (uint64(word.v[0]) << 32 | word.v[1]) >> 11 << 11;  // of 2^64
    const uint64 target = __umul64hi(uniform, total) + 1;
    // The host's sampler sorts the tokens if it filters them, and draws in that order.
    int token;
    if (options.top_k > 0 || options.top_p < 1) {
        token = id_of(select(histogram, row, V, target, limit, by_likelihood, weight).key);
    } else {
        token = int(select<kFirstOfId>(histogram, row, V, target, kNone - 1, by_id, weight).key);
    }
    if (threadIdx.x == 0) tokens[blockIdx.x] = token;
}

void check(const char* name, int N, int V, int Vp) {
    KILN_CHECK(N > 0 && N < 1 << 16 && V > 0 && V <= 1 << kIdBits && Vp >= V && Vp % 8 == 0, name, ": N ", N, ", V ", V,
               ", Vp ", Vp, "; N must be below 65536, Vp a multiple of 8, and V at most Vp");
}

}  // namespace

template <class T>
void argmax(int* tokens, const T* logits, int N, int V, int Vp, cudaStream_t stream) {
    check("argmax", N, V, Vp);
    launch<argmax_kernel<T>>({.grid = unsigned(N), .block = kThreads, .stream = stream}, tokens, logits, V, Vp);
}

template <class T>
void sample(int* tokens, uint64_t* weights, const T* logits, const SamplerOptions& options,
            const uint64_t* sample_numbers, const int* positions, int N, int V, int Vp, cudaStream_t stream) {
    check("sample", N, V, Vp);
    KILN_CHECK(options.temperature >= 0 && options.top_k >= 0 && options.top_p > 0 && options.top_p <= 1,
               "sample: temperature ", options.temperature, ", top_k ", options.top_k, ", top_p ", options.top_p);
    V = options.allowed(V);
    argmax(tokens, logits, N, V, Vp, stream);
    if (options.temperature == 0 || options.top_k == 1) return;
    const int weight_bits = 62 - int(std::bit_width(unsigned(V)));  // so that a sum is below 2^62
    launch<sample_weights_kernel<T>>({.grid = {unsigned((V + kWeightThreads - 1) / kWeightThreads), unsigned(N)},
                                      .block = kWeightThreads,
                                      .stream = stream},
                                     weights, tokens, logits, options.temperature, weight_bits, V, Vp);
    launch<sample_kernel<T>>({.grid = unsigned(N), .block = kThreads, .stream = stream}, tokens, logits, weights,
                             options, sample_numbers, positions, V, Vp);
}

#define KILN_SAMPLE(T)                                                                                                 \
    template void argmax(int*, const T*, int, int, int, cudaStream_t);                                                 \
    template void sample(int*, uint64_t*, const T*, const SamplerOptions&, const uint64_t*, const int*, int, int, int, \
                         cudaStream_t);
KILN_FOR_TYPES(KILN_SAMPLE)

}  // namespace kiln
