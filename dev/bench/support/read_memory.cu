// Fills the L2 cache between the launches of the benchmarks.
#include "dev/bench/support/read_memory.h"

#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/reduce.cuh"

namespace kiln::bench {
namespace {

constexpr int kThreads = 256;

// Reads x (elems) and writes sums to out (blocks), so that the compiler keeps the reads. Moves 4 elems bytes.
__global__ void __launch_bounds__(kThreads) read_memory_kernel(float* out, const float* x, size_t elems) {
    float sum = 0;
    const size_t step = size_t(gridDim.x) * kThreads * Pack<float>::kSize;
    for (size_t i = (size_t(blockIdx.x) * kThreads + threadIdx.x) * Pack<float>::kSize; i < elems; i += step) {
        const Pack<float> pack = load(x + i);
        for (int j = 0; j < Pack<float>::kSize; ++j) sum += pack[j];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

}  // namespace

void read_memory(float* out, const float* x, size_t elems, cudaStream_t stream) {
    launch<read_memory_kernel>({.grid = kReadBlocks, .block = kThreads, .stream = stream}, out, x, elems);
}

}  // namespace kiln::bench
