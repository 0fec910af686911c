#pragma once
// A small product on tensor cores that uses the wrapped instructions the way attention does: what tests of them launch.
#include <cuda_runtime.h>

namespace kiln::test {

// c (M, N) float32 = a (M, K) b (N, K)^T, or a (M, K) b (K, N) if b is to be transposed on its way from shared memory.
// T is __nv_bfloat16 or __half; M, N multiples of 64, K of 32.
template <class T>
void tensor_core_product(float* c, const T* a, const T* b, bool transpose_b, int M, int N, int K, cudaStream_t stream);

}  // namespace kiln::test
