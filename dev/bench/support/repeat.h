#pragma once
// Large tensors for benchmarks.
#include <algorithm>
#include <cstddef>

#include "cuda/device/cuda_check.h"

namespace kiln::bench {

// Fills tensor (elems) with copies of its first `period` elements. The host would need minutes to make as many numbers
// as a benchmark's tensors have. Only queues the work.
template <class T>
void repeat(T* tensor, size_t period, size_t elems, cudaStream_t stream) {
    for (size_t done = period, some; done < elems; done += some) {
        some = std::min(done, elems - done);
        CUDA_CHECK(cudaMemcpyAsync(tensor + done, tensor, some * sizeof(T), cudaMemcpyDeviceToDevice, stream));
    }
}

}  // namespace kiln::bench
