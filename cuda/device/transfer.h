#pragma once
// Between float32 on the host and what the device keeps. Each call waits for the stream.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "cuda/device/handles.h"

namespace kiln {

inline constexpr size_t kTransferPieceBytes = size_t(32) << 20;

template <class X>
float widen(X x) {
    if constexpr (std::is_same_v<X, __nv_bfloat16>) {
        return __bfloat162float(x);
    } else if constexpr (std::is_same_v<X, __half>) {
        return __half2float(x);
    } else {
        return x;
    }
}
template <class X>
X narrow(float x) {
    if constexpr (std::is_same_v<X, __nv_bfloat16>) {
        return __float2bfloat16_rn(x);
    } else if constexpr (std::is_same_v<X, __half>) {
        return __float2half_rn(x);
    } else {
        return x;
    }
}

// to = scale * from, n elements.
template <class X>
void download(float* to, const X* from, size_t n, float scale, cudaStream_t stream) {
    std::vector<X> piece(std::min(n, kTransferPieceBytes / sizeof(X)));
    for (size_t done = 0, some; done < n; done += some) {
        some = std::min(n - done, piece.size());
        CUDA_CHECK(cudaMemcpyAsync(piece.data(), from + done, some * sizeof(X), cudaMemcpyDeviceToHost, stream));
        CUDA_CHECK(cudaStreamSynchronize(stream));
        for (size_t i = 0; i < some; i++) to[done + i] = scale * widen(piece[i]);
    }
}
template <class X>
void upload(X* to, const float* from, size_t n, float scale, cudaStream_t stream) {
    std::vector<X> piece(std::min(n, kTransferPieceBytes / sizeof(X)));
    for (size_t done = 0, some; done < n; done += some) {
        some = std::min(n - done, piece.size());
        for (size_t i = 0; i < some; i++) piece[i] = narrow<X>(scale * from[done + i]);
        CUDA_CHECK(cudaMemcpyAsync(to + done, piece.data(), some * sizeof(X), cudaMemcpyHostToDevice, stream));
        CUDA_CHECK(cudaStreamSynchronize(stream));
    }
}
// Queues only.
template <class X>
void clear(X* data, size_t n, cudaStream_t stream) {
    CUDA_CHECK(cudaMemsetAsync(data, 0, n * sizeof(X), stream));
}

}  // namespace kiln
