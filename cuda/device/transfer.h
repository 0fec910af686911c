#pragma once
// Copies between float32 on the host and tensors on the device.
#include <algorithm>
#include <vector>

#include "cuda/device/convert.h"
#include "cuda/device/handles.h"

namespace kiln {

inline constexpr size_t kTransferChunkBytes = size_t(32) << 20;

// to = scale * from, n elements. Waits for the stream.
template <class T>
void download(float* to, const T* from, size_t n, float scale, cudaStream_t stream) {
    std::vector<T> chunk(std::min(n, kTransferChunkBytes / sizeof(T)));
    for (size_t done = 0, count; done < n; done += count) {
        count = std::min(n - done, chunk.size());
        CUDA_CHECK(cudaMemcpyAsync(chunk.data(), from + done, count * sizeof(T), cudaMemcpyDeviceToHost, stream));
        CUDA_CHECK(cudaStreamSynchronize(stream));
        for (size_t i = 0; i < count; i++) to[done + i] = scale * to_float(chunk[i]);
    }
}
template <class T>
void upload(T* to, const float* from, size_t n, float scale, cudaStream_t stream) {
    std::vector<T> chunk(std::min(n, kTransferChunkBytes / sizeof(T)));
    for (size_t done = 0, count; done < n; done += count) {
        count = std::min(n - done, chunk.size());
        for (size_t i = 0; i < count; i++) chunk[i] = from_float<T>(scale * from[done + i]);
        CUDA_CHECK(cudaMemcpyAsync(to + done, chunk.data(), count * sizeof(T), cudaMemcpyHostToDevice, stream));
        CUDA_CHECK(cudaStreamSynchronize(stream));
    }
}
// Only queues the work.
template <class T>
void clear(T* data, size_t n, cudaStream_t stream) {
    CUDA_CHECK(cudaMemsetAsync(data, 0, n * sizeof(T), stream));
}

}  // namespace kiln
