#pragma once
// Kernels that use the instructions of cuda/kernels/hopper.cuh the way attention and products do: what tests of them
// launch.
#include <cuda_runtime.h>

#include "cuda/device/tensor_map.h"

namespace kiln::test {

// Tiles of 2, 3 or 4 dimensions through shared memory and back in two stages: out = 2 in, as far
// as `out` reaches, and zero where `in` does not. Both tensors have the box and the swizzle of their layouts, which
// must be the same. Blocks cover `out` whole.
void copy_tiles(float* out, const TensorLayout& out_layout, const float* in, const TensorLayout& in_layout,
                cudaStream_t stream);

// c (M, N) = a (M, K) b (N, K)^T: a producer and two consumer warpgroups, three stages. N % 4 == 0, K % 8 == 0.
void hopper_product(float* c, const __nv_bfloat16* a, const __nv_bfloat16* b, int M, int N, int K, cudaStream_t stream);

// c (64, N) = A (64, 64) B (64, N), by one warpgroup. A is given as (64 of M, 64 of K), or m_major: (K, M);
// `registers`: like k_major, but read by the threads. b is (N, 64 of K), or transposed (K, N). T is __nv_bfloat16 or
// __half.
enum class OperandA { k_major, m_major, registers };
template <class T>
void wgmma_tile(float* c, const T* a, OperandA from, const T* b, bool transposed_b, int N, Swizzle swizzle,
                cudaStream_t stream);

}  // namespace kiln::test
