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

// out[i] += in[i], rounded to nearest even; i < n. A thread has four elements.
// Moves 3 n elements for n additions: bound by bandwidth.
template <class T>
__global__ void __launch_bounds__(kThreads) add_kernel(T* out, const T* in, size_t n) {
    const size_t first = (size_t(blockIdx.x) * kThreads + threadIdx.x) * 4;
    if (first + 4 <= n) {
        const Quad<T> a = load_quad_once(out + first), b = load_quad_once(in + first);
        Quad<T> sum;
        for (int k = 0; k < 4; ++k) sum.set(k, a[k] + b[k]);
        store_quad_once(out + first, sum);
    } else {
        for (size_t i = first; i < n; ++i) out[i] = from_float<T>(to_float(out[i]) + to_float(in[i]));
    }
}

}  // namespace

template <class T>
void add(T* out, const T* in, size_t n, cudaStream_t stream) {
    if (n == 0) return;
    constexpr size_t kElems = size_t(kThreads) * 4;
    launch<add_kernel<T>>({.grid = unsigned((n + kElems - 1) / kElems), .block = kThreads, .stream = stream}, out, in,
                          n);
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
