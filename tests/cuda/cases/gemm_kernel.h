#pragma once
// A small matmul on tensor cores, for tests of cuda/kernels/ptx.cuh. It uses the instructions as attention does.
#include <cuda_runtime.h>

namespace kiln::test {

// c (M, N) float32 = a (M, K) b (N, K)^T, or a (M, K) b (K, N) with transpose_b, which ldmatrix transposes.
// T is __nv_bfloat16 or __half; M, N multiples of 64, K of 32.
template <class T>
void tensor_core_matmul(float* c, const T* a, const T* b, bool transpose_b, int M, int N, int K, cudaStream_t stream);

}  // namespace kiln::test
