// The gradient of a bias, where no kernel that writes the gradient of the layer's output adds it up.
#include "cpu_reference/interface/error.h"
#include "cuda/kernels/column_sums.cuh"
#include "cuda/kernels/kernels.h"

namespace kiln {
namespace {

// partials[chunk] = sum of the rows of dout in that chunk. sum_partials adds up the chunks.
// dout (N, O); partials (gridDim.y, O) float.  O % 8 == 0.
// Moves N O elements for N O FLOPs: bound by bandwidth. A lane has kRowsInFlight loads in flight.
template <class T>
__global__ void __launch_bounds__(kColumnWarps* kWarp)
    bias_backward_kernel(float* partials, const T* dout, int N, int O, int chunk_rows) {
    constexpr int kRowsInFlight = 4;
    Pack<T> packs[kRowsInFlight] = {};
    sum_columns<T, kRowsInFlight>(
        partials, N, O, chunk_rows, [&](int r, int64_t at) { packs[r] = load_once(dout + at); },
        [&](float* sum, int r, int64_t) {
            keep_packed(packs[r]);
            for (int i = 0; i < Pack<T>::kSize; ++i) sum[i] += packs[r][i];
        });
}

}  // namespace

size_t bias_backward_scratch_floats(int N, int O) {
    return size_t(ColumnPlan(N, O).chunks) * O;
}

template <class T, class G>
void bias_backward(G* db, float* scratch, const T* dout, int N, int O, bool accumulate, cudaStream_t stream) {
    KILN_CHECK(N > 0 && O > 0 && O % 8 == 0, "bias_backward: N ", N, ", O ", O, "; O must be a multiple of 8");
    const ColumnPlan plan(N, O);
    launch<bias_backward_kernel<T>>(plan.launch<T>(O, stream), scratch, dout, N, O, plan.chunk_rows);
    sum_partials<G>(db, nullptr, scratch, plan.chunks, O, accumulate, stream);
}

#define KILN_BIAS(T, G) template void bias_backward(G*, float*, const T*, int, int, bool, cudaStream_t);
KILN_FOR_GRADIENT_TYPES(KILN_BIAS)

}  // namespace kiln
