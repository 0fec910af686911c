#pragma once
// Kernels for tests of cuda/kernels/hopper.cuh. They use its instructions as attention and matmuls do.
#include <cuda_runtime.h>

#include "cuda/device/tensor_map.h"

namespace kiln::test {

// out = 2 in, and 0 where `out` has elements that `in` does not have. Copies tiles of 2, 3 or 4 dimensions through
// shared memory in two stages. Both layouts must have the same box and swizzle.
void copy_tiles(float* out, const TensorLayout& out_layout, const float* in, const TensorLayout& in_layout,
                cudaStream_t stream);

// c (M, N) = a (M, K) b (N, K)^T, with one producer and two consumer warpgroups and three stages. N % 4 == 0, K % 8 ==
// 0.
void hopper_matmul(float* c, const __nv_bfloat16* a, const __nv_bfloat16* b, int M, int N, int K, cudaStream_t stream);

// c (64, N) = A (64, 64) B (64, N), by one warpgroup. a is (M, K), or (K, M) with m_major; with `registers` it is (M,
// K), and the threads load it to registers. b is (N, K), or (K, N) with transposed_b. T is __nv_bfloat16 or __half.
enum class OperandA { k_major, m_major, registers };
template <class T>
void wgmma_tile(float* c, const T* a, OperandA from, const T* b, bool transposed_b, int N, Swizzle swizzle,
                cudaStream_t stream);

}  // namespace kiln::test
