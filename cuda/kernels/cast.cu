// Conversion between float32 and the 16-bit types, and sums of two arrays.
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/quad.cuh"

namespace kiln {
namespace {

constexpr int kThreads = 256, kQuads = 4, kElemsPerBlock = kThreads * kQuads * 4;

// out[i] = in[i], rounded to nearest even; i < n.
// Moves 6 n bytes for n conversions: bound by bandwidth. Each thread has four loads in flight.
template <class From, class To>
__global__ void __launch_bounds__(kThreads) cast_kernel(To* out, const From* in, size_t n) {
    const size_t first = size_t(blockIdx.x) * kElemsPerBlock + threadIdx.x * 4;
    Quad<From> quads[kQuads];
    for (int q = 0; q < kQuads; ++q) {
        const size_t i = first + q * (kThreads * 4);
        if (i + 4 <= n) quads[q] = load_quad_once(in + i);
    }
    for (int q = 0; q < kQuads; ++q) {
        const size_t i = first + q * (kThreads * 4);
        if (i + 4 <= n) {
            Quad<To> result;
            for (int k = 0; k < 4; ++k) result.set(k, quads[q][k]);
            store_quad_once(out + i, result);
        } else {
            for (size_t k = i; k < n; ++k) out[k] = from_float<To>(to_float(in[k]));
        }
    }
}

// out[i] += in[i], rounded to nearest even; i < n.
// Moves 3 n elements for n additions: bound by bandwidth. Each thread has eight loads in flight.
template <class T>
__global__ void __launch_bounds__(kThreads) add_kernel(T* out, const T* in, size_t n) {
    const size_t first = size_t(blockIdx.x) * kElemsPerBlock + threadIdx.x * 4;
    Quad<T> a[kQuads], b[kQuads];
    for (int q = 0; q < kQuads; ++q) {
        const size_t i = first + q * (kThreads * 4);
        if (i + 4 > n) continue;
        a[q] = load_quad_once(out + i);
        b[q] = load_quad_once(in + i);
    }
    for (int q = 0; q < kQuads; ++q) {
        const size_t i = first + q * (kThreads * 4);
        if (i + 4 <= n) {
            Quad<T> sum;
            for (int k = 0; k < 4; ++k) sum.set(k, a[q][k] + b[q][k]);
            store_quad_once(out + i, sum);
        } else {
            for (size_t k = i; k < n; ++k) out[k] = from_float<T>(to_float(out[k]) + to_float(in[k]));
        }
    }
}

}  // namespace

template <class T>
void add(T* out, const T* in, size_t n, cudaStream_t stream) {
    if (n == 0) return;
    launch<add_kernel<T>>(
        {.grid = unsigned((n + kElemsPerBlock - 1) / kElemsPerBlock), .block = kThreads, .stream = stream}, out, in, n);
}

template <class From, class To>
void cast(To* out, const From* in, size_t n, cudaStream_t stream) {
    if (n == 0) return;
    launch<cast_kernel<From, To>>(
        {.grid = unsigned((n + kElemsPerBlock - 1) / kElemsPerBlock), .block = kThreads, .stream = stream}, out, in, n);
}

#define KILN_CAST(E)                                            \
    template void cast(E*, const float*, size_t, cudaStream_t); \
    template void cast(float*, const E*, size_t, cudaStream_t);
KILN_FOR_16_BIT_TYPES(KILN_CAST)
#define KILN_ADD(T) template void add(T*, const T*, size_t, cudaStream_t);
KILN_FOR_TYPES(KILN_ADD)

}  // namespace kiln
