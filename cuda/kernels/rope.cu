// Rotary position embedding.
#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"

namespace kiln {
namespace {

constexpr int kThreads = 256;
constexpr int kHeads = 2;  // heads of a thread, which reads its part of the table once for both; 4 spill

template <class T>
struct Rope {
    T* qkv;                // (N, stride)
    const float* table;    // (max_T, HS/2) pairs cos, sin
    const int* positions;  // (N), or null: first_position + n % row_T
    int first_position, row_T, N, heads, HS, stride;
    bool backward;
};

// Rotates the pair (a, b) of elements i and i + HS/2 of each head by the angle in the table for the row's position:
//   (a, b) = (a cos - b sin, b cos + a sin); backward rotates by the negative angle.           arXiv:2104.09864
// qkv (N, (NH + 2 NKV) HS) in place; the first NH + NKV heads, q and k, are rotated.
// Moves 2 N (NH + NKV) HS elements, and for each row 4 HS bytes of the table, which all its heads share in the cache,
// for 3 N (NH + NKV) HS FLOPs: bound by bandwidth. A thread has kWidth pairs of kHeads heads. The threads along x share
// a row.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, 3) rope_kernel(const Rope<T> p) {
    using Part = Elements<T, kWidth>;
    const int n = blockIdx.x * blockDim.y + threadIdx.y;
    if (n >= p.N) return;
    const int half = p.HS / 2, slices = half / kWidth, apart = (p.heads + kHeads - 1) / kHeads;
    const int position = p.positions ? max(p.positions[n], 0) : p.first_position + n % p.row_T;
    const float* const angles = p.table + int64_t(position) * p.HS;
    T* const row = p.qkv + int64_t(n) * p.stride;
    for (int item = threadIdx.x; item < slices * apart; item += blockDim.x) {
        const int i = item % slices * kWidth, head = item / slices;
        Part low[kHeads], high[kHeads];
        for (int k = 0; k < kHeads; ++k) {
            const int h = head + k * apart;
            if (h >= p.heads) continue;
            low[k] = *reinterpret_cast<const Part*>(row + h * p.HS + i);
            high[k] = *reinterpret_cast<const Part*>(row + h * p.HS + half + i);
        }
        float cos_sin[2 * kWidth];
        for (int j = 0; j < 2 * kWidth; j += Pack<float>::kSize) {
            const Pack<float> pack = load(angles + 2 * i + j);
            for (int l = 0; l < Pack<float>::kSize; ++l) cos_sin[j + l] = pack[l];
        }
        for (int k = 0; k < kHeads; ++k) {
            const int h = head + k * apart;
            if (h >= p.heads) continue;
            for (int j = 0; j < kWidth; ++j) {
                const float cosine = cos_sin[2 * j], sine = p.backward ? -cos_sin[2 * j + 1] : cos_sin[2 * j + 1];
                const float a = to_float(low[k].v[j]), b = to_float(high[k].v[j]);
                low[k].v[j] = from_float<T>(a * cosine - b * sine);
                high[k].v[j] = from_float<T>(b * cosine + a * sine);
            }
            *reinterpret_cast<Part*>(row + h * p.HS + i) = low[k];
            *reinterpret_cast<Part*>(row + h * p.HS + half + i) = high[k];
        }
    }
}

template <class T>
void apply_rope(const Rope<T>& p, cudaStream_t stream) {
    KILN_CHECK(p.N > 0 && p.heads > 0 && p.HS > 0 && p.HS % 4 == 0, "rope: N ", p.N, ", heads ", p.heads, ", HS ", p.HS,
               "; HS must be a multiple of 4");
    constexpr int kPack = Pack<T>::kSize;
    // With 16-bit elements, half a head is not whole packs at HS 40, 56, 72, ..., and not a multiple of 4 at HS 36.
    const int half = p.HS / 2, width = half % kPack == 0 ? kPack : half % 4 == 0 ? 4 : 2;
    const int items = half / width * ((p.heads + kHeads - 1) / kHeads);
    const int threads = std::min(items, kThreads), rows = std::max(1, kThreads / threads);
    const LaunchConfig config{
        .grid = (p.N + rows - 1) / rows, .block = {unsigned(threads), unsigned(rows)}, .stream = stream};
    if (width == kPack) {
        launch<rope_kernel<T, kPack>>(config, p);
    } else if (width == 4) {
        launch<rope_kernel<T, 4>>(config, p);
    } else {
        launch<rope_kernel<T, 2>>(config, p);
    }
}

}  // namespace

template <class T>
void rope(T* qkv, const float* table, int first_position, int B, int row_T, int NH, int NKV, int HS, bool backward,
          cudaStream_t stream) {
    apply_rope(
        Rope<T>{qkv, table, nullptr, first_position, row_T, B * row_T, NH + NKV, HS, (NH + 2 * NKV) * HS, backward},
        stream);
}
template <class T>
void rope_at(T* qkv, const float* table, const int* positions, int N, int NH, int NKV, int HS, cudaStream_t stream) {
    apply_rope(Rope<T>{qkv, table, positions, 0, 1, N, NH + NKV, HS, (NH + 2 * NKV) * HS, false}, stream);
}

#define KILN_ROPE(T)                                                                        \
    template void rope(T*, const float*, int, int, int, int, int, int, bool, cudaStream_t); \
    template void rope_at(T*, const float*, const int*, int, int, int, int, cudaStream_t);
KILN_FOR_TYPES(KILN_ROPE)

}  // namespace kiln
