// The gradient of a bias.
#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/reduce.cuh"

namespace kiln {
namespace {

constexpr int kWarps = 8, kRowsInFlight = 4;

// partials[chunk] = sum of the rows of dout in that chunk. sum_partials adds up the chunks.
// dout (N, O); partials (gridDim.y, O) float.  O % 8 == 0.
// Moves N O elements for N O FLOPs: bound by bandwidth. A lane has one pack of columns and kRowsInFlight loads in
// flight. The warps of a block take interleaved groups of rows; shared memory adds up their sums.
template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    bias_backward_kernel(float* partials, const T* dout, int N, int O, int chunk_rows) {
    constexpr int kPack = Pack<T>::kSize;
    KILN_SHARED(float, sums, kWarps* kWarp* kPack);
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int column = (blockIdx.x * kWarp + lane) * kPack;
    const int64_t begin = int64_t(blockIdx.y) * chunk_rows, end = min(int64_t(N), begin + chunk_rows);
    float sum[kPack] = {};
    if (column < O) {
        for (int64_t row = begin + warp * kRowsInFlight; row < end; row += kWarps * kRowsInFlight) {
            Pack<T> packs[kRowsInFlight] = {};
            for (int r = 0; r < kRowsInFlight; ++r) {
                if (row + r < end) packs[r] = load_once(dout + (row + r) * O + column);
            }
            for (int r = 0; r < kRowsInFlight; ++r) {
                for (int i = 0; i < kPack; ++i) sum[i] += packs[r][i];
            }
        }
    }
    // Ordered by element, then by lane, so that the lanes of a warp write to different banks.
    for (int i = 0; i < kPack; ++i) sums[(warp * kPack + i) * kWarp + lane] = sum[i];
    __syncthreads();
    const int first = blockIdx.x * kWarp * kPack;
    for (int c = threadIdx.x; c < kWarp * kPack && first + c < O; c += kWarps * kWarp) {
        float total = 0;
        for (int w = 0; w < kWarps; ++w) total += sums[(w * kPack + c % kPack) * kWarp + c / kPack];
        partials[int64_t(blockIdx.y) * O + first + c] = total;
    }
}

// Enough chunks for eight blocks on each multiprocessor of a large GPU, but with enough rows in each that writing the
// partial sums costs little. The plan depends only on the shape, so that the order of sums is the same on every device.
struct Plan {
    int tiles, chunk_rows, chunks;
};
Plan plan(int N, int O) {
    constexpr int kBlocks = 1056, kColumns = kWarp * 8, kLeastRows = kWarps * kRowsInFlight;
    const int tiles = (O + kColumns - 1) / kColumns;
    const int wanted = std::max(1, kBlocks / tiles);
    const int rows = std::max(kLeastRows, int((int64_t(N) + wanted - 1) / wanted));
    const int chunk_rows = (rows + kLeastRows - 1) / kLeastRows * kLeastRows;
    return {tiles, chunk_rows, int((int64_t(N) + chunk_rows - 1) / chunk_rows)};
}

}  // namespace

size_t bias_backward_scratch_floats(int N, int O) {
    return size_t(plan(N, O).chunks) * O;
}

template <class T, class G>
void bias_backward(G* db, float* scratch, const T* dout, int N, int O, bool accumulate, cudaStream_t stream) {
    KILN_CHECK(N > 0 && O > 0 && O % 8 == 0, "bias_backward: N ", N, ", O ", O, "; O must be a multiple of 8");
    const Plan p = plan(N, O);
    constexpr int kColumns = kWarp * Pack<T>::kSize;
    launch<bias_backward_kernel<T>>(
        {.grid = dim3((O + kColumns - 1) / kColumns, p.chunks), .block = kWarps * kWarp, .stream = stream}, scratch,
        dout, N, O, p.chunk_rows);
    sum_partials<G>(db, nullptr, scratch, p.chunks, O, accumulate, stream);
}

#define KILN_BIAS(T, G) template void bias_backward(G*, float*, const T*, int, int, bool, cudaStream_t);
KILN_FOR_GRADIENT_TYPES(KILN_BIAS)

}  // namespace kiln
