// Dropout, alone and with a residual addition.
#include "cpu_reference/interface/error.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"

namespace kiln {
namespace {

constexpr int kThreads = 256, kPacks = 2;

// out = x * mask / (1 - p); with kResidual, out = residual + x * mask / (1 - p).                  arXiv:1207.0580
// out, residual, x (B, T, C); the mask comes from dropout_words, as in cpu_reference.  C % 8 == 0.
// Moves 2 N C elements (3 N C with a residual) for ~28 N C integer operations of Philox, which take almost as long:
// bound by bandwidth.
template <class T, bool kResidual>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(T* out, const T* residual, const T* x, Dropout d, uint32_t threshold, float keep_scale,
                   int rows_a_sample, int packs_a_row, uint32_t packs) {
    constexpr int kPack = Pack<T>::kSize;
    const uint32_t first = blockIdx.x * (kThreads * kPacks) + threadIdx.x;
    Pack<T> in[kPacks], base[kPacks];
    for (int p = 0; p < kPacks; ++p) {
        const uint32_t i = first + p * kThreads;
        if (i >= packs) continue;
        in[p] = load_once(x + int64_t(i) * kPack);
        if constexpr (kResidual) base[p] = load_once(residual + int64_t(i) * kPack);
    }
    for (int p = 0; p < kPacks; ++p) {
        const uint32_t i = first + p * kThreads;
        if (i >= packs) continue;
        const uint32_t row = i / packs_a_row, column = (i - row * packs_a_row) * kPack;
        const uint32_t b = row / rows_a_sample, t = row - b * rows_a_sample;
        Pack<T> result;
        for (int k = 0; k < kPack; k += 4) {
            Philox4 words = {{~0u, ~0u, ~0u, ~0u}};
            if (threshold > 0) {
                words = dropout_words(d.seed, d.stream, d.first_sample + b, d.layer, d.site, t, (column + k) / 4);
            }
            for (int j = 0; j < 4; ++j) {
                const float kept = words.v[j] < threshold ? 0.0f : in[p][k + j] * keep_scale;
                result.set(k + j, kResidual ? base[p][k + j] + kept : kept);
            }
        }
        store(out + int64_t(i) * kPack, result);
    }
}

template <class T, bool kResidual>
void drop(T* out, const T* residual, const T* x, const Dropout& d, int B, int T_, int C, cudaStream_t stream) {
    KILN_CHECK(B > 0 && T_ > 0 && C > 0 && C % 8 == 0 && d.p >= 0 && d.p < 1, "dropout: B ", B, ", T ", T_, ", C ", C,
               ", p ", d.p, "; C must be a multiple of 8, and p in [0, 1)");
    const int packs_a_row = C / Pack<T>::kSize;
    const uint64_t packs = uint64_t(B) * T_ * packs_a_row;
    KILN_CHECK(packs < uint64_t(1) << 31, "dropout: ", packs, " packs of 16 bytes; there must be fewer than 2^31");
    constexpr uint64_t kPacksPerBlock = kThreads * kPacks;
    launch<dropout_kernel<T, kResidual>>(
        {.grid = unsigned((packs + kPacksPerBlock - 1) / kPacksPerBlock), .block = kThreads, .stream = stream}, out,
        residual, x, d, threshold01(d.p), 1.0f / (1.0f - d.p), T_, packs_a_row, uint32_t(packs));
}

}  // namespace

template <class T>
void dropout(T* out, const T* x, const Dropout& d, int B, int T_, int C, cudaStream_t stream) {
    drop<T, false>(out, nullptr, x, d, B, T_, C, stream);
}

template <class T>
void residual_forward(T* out, const T* residual, const T* branch, const Dropout& d, int B, int T_, int C,
                      cudaStream_t stream) {
    drop<T, true>(out, residual, branch, d, B, T_, C, stream);
}

#define KILN_DROPOUT(T)                                                               \
    template void dropout(T*, const T*, const Dropout&, int, int, int, cudaStream_t); \
    template void residual_forward(T*, const T*, const T*, const Dropout&, int, int, int, cudaStream_t);
KILN_FOR_TYPES(KILN_DROPOUT)

}  // namespace kiln
