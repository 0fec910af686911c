#pragma once
// Sums and maxima over a warp or a block. Their order depends only on the number of threads.
#include "cuda/device/launch.h"

namespace kiln {

constexpr int kWarp = 32;

// Every lane gets the result. All 32 lanes must call. A butterfly of five shuffles.
KILN_DEVICE float warp_sum(float x) {
    for (int bits = kWarp / 2; bits > 0; bits /= 2) x += __shfl_xor_sync(~0u, x, bits);
    return x;
}
KILN_DEVICE float warp_max(float x) {
    for (int bits = kWarp / 2; bits > 0; bits /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, bits));
    return x;
}

// Every thread gets the kWarpReduce of a block of whole warps; all must call. The first barrier allows a second call
// right after the first.
template <float (*kWarpReduce)(float)>
KILN_DEVICE float block_reduce(float x, float neutral) {
    KILN_SHARED(float, partial, kWarp);
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
    x = kWarpReduce(x);
    __syncthreads();
    if (lane == 0) partial[warp] = x;
    __syncthreads();
    return kWarpReduce(lane < warps ? partial[lane] : neutral);
}
KILN_DEVICE float block_sum(float x) {
    return block_reduce<warp_sum>(x, 0.0f);
}
KILN_DEVICE float block_max(float x) {
    return block_reduce<warp_max>(x, -INFINITY);
}

}  // namespace kiln
