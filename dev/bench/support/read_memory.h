#pragma once
#include <cuda_runtime.h>

#include <cstddef>

namespace kiln::bench {

constexpr int kReadBlocks = 1024;
// Reads x (elems, a multiple of 4). The L2 cache then holds lines that need not be written back. out (kReadBlocks).
void read_memory(float* out, const float* x, size_t elems, cudaStream_t stream);

}  // namespace kiln::bench
