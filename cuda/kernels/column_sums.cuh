#pragma once
// Sums of the columns of a tensor (N, O), which is what the gradient of a bias is: for kernels that read or write the
// tensor anyway.
#include <algorithm>

#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/reduce.cuh"

namespace kiln {

constexpr int kColumnWarps = 8;
constexpr int kLeastColumnRows = 4 * kColumnWarps;  // of a chunk; it is a multiple of this

// partials[chunk] = sum of the rows in that chunk. partials (gridDim.y, O); nothing is written if it is null.
// O % 8 == 0. The block has kColumnWarps warps. A lane has one pack of columns, and its warp takes kRows rows at a
// time: load_row(r, at) for each, then add_row(sum, r, at), where `at` is the offset of the pack and kRows divides 4.
// The warps of a block take interleaved groups of rows; shared memory adds up their sums.
template <class T, int kRows, class LoadRow, class AddRow>
KILN_DEVICE void sum_columns(float* partials, int N, int O, int chunk_rows, LoadRow&& load_row, AddRow&& add_row) {
    constexpr int kPack = Pack<T>::kSize;
    KILN_SHARED(float, sums, kColumnWarps* kWarp* kPack);
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int column = (blockIdx.x * kWarp + lane) * kPack;
    const int64_t begin = int64_t(blockIdx.y) * chunk_rows, end = min(int64_t(N), begin + chunk_rows);
    float sum[kPack] = {};
    if (column < O) {
        for (int64_t row = begin + warp * kRows; row < end; row += kColumnWarps * kRows) {
            for (int r = 0; r < kRows; ++r) {
                if (row + r < end) load_row(r, (row + r) * O + column);
            }
            for (int r = 0; r < kRows; ++r) {
                if (row + r < end) add_row(sum, r, (row + r) * O + column);
            }
        }
    }
    if (!partials) return;
    // Ordered by element, then by lane, so that the lanes of a warp write to different banks.
    for (int i = 0; i < kPack; ++i) sums[(warp * kPack + i) * kWarp + lane] = sum[i];
    __syncthreads();
    const int first = blockIdx.x * kWarp * kPack;
    for (int c = threadIdx.x; c < kWarp * kPack && first + c < O; c += kColumnWarps * kWarp) {
        float total = 0;
        for (int w = 0; w < kColumnWarps; ++w) total += sums[(w * kPack + c % kPack) * kWarp + c / kPack];
        partials[int64_t(blockIdx.y) * O + first + c] = total;
    }
}

// Enough chunks for eight blocks on each multiprocessor of a large GPU, but with enough rows in each that writing the
// partial sums costs little. The plan depends only on the shape, so that the order of sums is the same on every device.
struct ColumnPlan {
    int chunk_rows, chunks;
    ColumnPlan(int N, int O) {
        constexpr int kBlocks = 1056, kColumns = kWarp * 8;
        const int wanted = std::max(1, kBlocks / ((O + kColumns - 1) / kColumns));
        const int rows = std::max(kLeastColumnRows, int((int64_t(N) + wanted - 1) / wanted));
        chunk_rows = (rows + kLeastColumnRows - 1) / kLeastColumnRows * kLeastColumnRows;
        chunks = int((int64_t(N) + chunk_rows - 1) / chunk_rows);
    }
    template <class T>
    LaunchConfig launch(int O, cudaStream_t stream) const {
        constexpr int kColumns = kWarp * Pack<T>::kSize;
        return {.grid = dim3((O + kColumns - 1) / kColumns, chunks), .block = kColumnWarps * kWarp, .stream = stream};
    }
};

}  // namespace kiln
