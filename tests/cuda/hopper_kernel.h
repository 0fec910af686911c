#pragma once
// Kernels that use the instructions of cuda/hopper.cuh the way attention and products do: what tests of them launch.
#include <cuda_runtime.h>

#include "cuda/tensor_map.h"

namespace kiln::test {

// Tiles of 2, 3 or 4 dimensions through shared memory and back in two stages: out = 2 in, as far
// as `out` reaches, and zero where `in` does not. Both tensors have the box and the swizzle of their layouts, which
// must be the same. Blocks cover `out` whole.
void copy_tiles(float* out, const TensorLayout& out_layout, const float* in, const TensorLayout& in_layout,
                cudaStream_t stream);

}  // namespace kiln::test
