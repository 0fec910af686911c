// LayerNorm and RMSNorm backward, and the kernel that adds up their partial sums.
#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "cuda/device/planned_device.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/reduce.cuh"

namespace kiln {
namespace {

// A block of up to kNarrow threads has 80 registers a thread and takes two rows at a time; a multiprocessor runs two
// such blocks. A block of up to kWide threads has 64 registers a thread; two rows at a time would spill.
constexpr int kNarrow = 384, kWide = 1024;

template <class T>
struct Backward {
    T* dx;
    float* partials;           // (gridDim.x, 1 or 2, C)
    float* row_means;          // (N, 2) if a row has several blocks, else null
    const T *dy, *x;           // (N, C)
    const float *mean, *rstd;  // (N)
    const T* w;                // (C)
    int N, C;
    bool add_dx;
};

// With xhat = (x - mean) * rstd (RMSNorm: mean = 0) and g = dy * w, over a row of C:
//   dx = or += rstd * (g - mean(g) - xhat * mean(g * xhat))     RMSNorm: without mean(g)
//   dw = or += sum over rows of dy * xhat,  db = or += sum of dy               arXiv:1607.06450, arXiv:1910.07467
// dx, dy, x (N, C) row-major; mean, rstd (N) float; w (C). C % 8 == 0.
// Moves 3 N C elements (4 N C with dx +=) and 4 or 8 N bytes for ~12 N C FLOPs: bound by bandwidth.
// A team of blockDim.x threads takes kRows rows at a time; a thread has one pack of columns. The blockDim.y teams of a
// block take different rows. A thread keeps its columns, so that dw and db are summed in registers and x and dy are
// read once. Each block stores its sums to `partials`, and sum_partials adds those up. Rows with more packs than a
// block has threads are cut into gridDim.y slices; for these, row_means_kernel runs first.
template <class T, bool kLayerNorm, int kRows>
__global__ void __launch_bounds__(kRows == 2 ? kNarrow : kWide, kRows) norm_backward_kernel(const Backward<T> p) {
    constexpr int kPack = Pack<T>::kSize, kSums = kLayerNorm ? 2 : 1, kValues = kRows * kSums;
    struct alignas(4 * kValues) Values {
        float v[kValues];
    };
    KILN_SHARED(Values, warp_values, 2 * kWide / kWarp);  // two buffers, so that an iteration needs only one barrier
    const int C = p.C, warps = blockDim.x / kWarp;
    const int c = (blockIdx.y * blockDim.x + threadIdx.x) * kPack;
    const bool mine = c < C;
    float dw[kPack] = {}, db[kPack] = {};
    int parity = 0;
    const int step = gridDim.x * blockDim.y * kRows;
    for (int block_row = blockIdx.x * blockDim.y * kRows; block_row < p.N; block_row += step) {
        const int row = block_row + threadIdx.y * kRows;
        const int64_t first = int64_t(row) * C + c;
        Pack<T> dy[kRows] = {}, x[kRows] = {}, dx[kRows] = {}, w = {};
        float mean[kRows] = {}, rstd[kRows] = {};
        for (int r = 0; r < kRows; ++r) {
            if (!mine || row + r >= p.N) continue;
            const int64_t at = first + r * C;
            dy[r] = load_once(p.dy + at);
            x[r] = load_once(p.x + at);
            if constexpr (kLayerNorm) mean[r] = p.mean[row + r];
            rstd[r] = p.rstd[row + r];
            if (p.add_dx) dx[r] = load(p.dx + at);
        }
        if (mine) w = load(p.w + c);
        Values sums = {};
        for (int r = 0; r < kRows; ++r) {
            for (int i = 0; i < kPack; ++i) {
                const float g = dy[r][i] * w[i], xhat = (x[r][i] - mean[r]) * rstd[r];
                sums.v[r * kSums] += g * xhat;
                dw[i] += dy[r][i] * xhat;
                if constexpr (kLayerNorm) {
                    sums.v[r * kSums + 1] += g;
                    db[i] += dy[r][i];
                }
            }
        }
        for (int r = 0; r < kRows; ++r) keep_packed(dy[r]), keep_packed(x[r]);
        if (p.row_means) {
            for (int r = 0; r < kRows; ++r) {
                for (int s = 0; s < kSums; ++s)
                    sums.v[r * kSums + s] = row + r < p.N ? p.row_means[int64_t(row + r) * 2 + s] : 0;
            }
        } else {
            for (float& v : sums.v) v = warp_sum(v);
            if (warps > 1) {
                Values* const team = warp_values + parity * (kWide / kWarp) + threadIdx.y * warps;
                if (threadIdx.x % kWarp == 0) team[threadIdx.x / kWarp] = sums;
                __syncthreads();
                sums = team[0];
                for (int i = 1; i < warps; ++i) {
                    const Values more = team[i];
                    for (int j = 0; j < kValues; ++j) sums.v[j] += more.v[j];
                }
                parity ^= 1;
            }
            for (float& v : sums.v) v /= C;
        }
        for (int r = 0; r < kRows; ++r) {
            if (!mine || row + r >= p.N) continue;
            for (int i = 0; i < kPack; ++i) {
                const float xhat = (x[r][i] - mean[r]) * rstd[r];
                float along = dy[r][i] * w[i] - xhat * sums.v[r * kSums];
                if constexpr (kLayerNorm) along -= sums.v[r * kSums + 1];
                dx[r].set(i, dx[r][i] + rstd[r] * along);
            }
            store(p.dx + first + r * C, dx[r]);
        }
    }
    // Adds up the sums of the teams, in the order of the teams.
    KILN_DYNAMIC_SHARED(float, columns);  // (blockDim.y, blockDim.x * kPack)
    const int width = blockDim.x * kPack, column = blockIdx.y * width;
    for (int s = 0; s < kSums; ++s) {
        if (s > 0) __syncthreads();
        for (int i = 0; i < kPack; ++i) {
            columns[threadIdx.y * width + threadIdx.x * kPack + i] = s == 0 ? dw[i] : db[i];
        }
        __syncthreads();
        for (int j = threadIdx.y * blockDim.x + threadIdx.x; j < width && column + j < C;
             j += blockDim.x * blockDim.y) {
            float sum = 0;
            for (int team = 0; team < int(blockDim.y); ++team) sum += columns[team * width + j];
            p.partials[(int64_t(blockIdx.x) * kSums + s) * C + column + j] = sum;
        }
    }
}

// row_means[n] = mean(g * xhat), mean(g), for rows that are too wide for a block. Reads 2 N C elements.
template <class T, bool kLayerNorm>
__global__ void __launch_bounds__(kNarrow) row_means_kernel(const Backward<T> p) {
    constexpr int kPack = Pack<T>::kSize;
    const int64_t row = blockIdx.x;
    const float mean = kLayerNorm ? p.mean[row] : 0.0f, rstd = p.rstd[row];
    float sum = 0, dot = 0;
    for (int c = threadIdx.x * kPack; c < p.C; c += blockDim.x * kPack) {
        const Pack<T> dy = load(p.dy + row * p.C + c), x = load(p.x + row * p.C + c), w = load(p.w + c);
        for (int i = 0; i < kPack; ++i) {
            sum += dy[i] * w[i];
            dot += dy[i] * w[i] * (x[i] - mean) * rstd;
        }
    }
    sum = block_sum(sum);
    dot = block_sum(dot);
    if (threadIdx.x == 0) {
        p.row_means[row * 2] = dot / p.C;
        p.row_means[row * 2 + 1] = sum / p.C;
    }
}

// out[c] = or += sum over blocks of partials[block, 0, c]; the same for out2 and partials[block, 1, c], unless out2 is
// null. Reads 4 or 8 blocks C bytes, which is little. A block has 32 columns, one a lane; warp y of a block adds up
// rows y, y + blockDim.y, ...
template <class G>
__global__ void __launch_bounds__(kWarp* kWarp)
    sum_partials_kernel(G* out, G* out2, const float* partials, int blocks, int C, bool accumulate) {
    KILN_SHARED(float, sums, kWarp* kWarp);
    const int width = out2 ? 2 * C : C, warps = blockDim.y, column = blockIdx.x * kWarp + threadIdx.x;
    float sum = 0;
    if (column < width) {
        for (int b = threadIdx.y; b < blocks; b += warps) sum += partials[int64_t(b) * width + column];
    }
    sums[threadIdx.y * kWarp + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= width) return;
    for (int i = 1; i < warps; ++i) sum += sums[i * kWarp + threadIdx.x];
    G* const place = column < C ? out + column : out2 + (column - C);
    *place = from_float<G>(accumulate ? to_float(*place) + sum : sum);
}

// The shape of a launch: only as many blocks as the GPU runs at once, so that there are few partial sums.
struct Plan {
    int threads, teams, slices, rows, blocks;
};
Plan plan(int N, int C, int pack) {
    const int packs = C / pack, whole_warps = (packs + kWarp - 1) / kWarp * kWarp;
    const int threads = whole_warps <= kWide ? whole_warps : kNarrow;
    const int teams = std::max(1, kNarrow / threads), rows = threads <= kNarrow ? 2 : 1;
    const int slices = (packs + threads - 1) / threads;
    const int resident =
        multiprocessors_to_plan_for() * std::max(1, (rows == 2 ? 2 * kNarrow : kWide) / (threads * teams));
    const int useful = (N + teams * rows - 1) / (teams * rows);
    return {threads, teams, slices, rows, std::min(std::max(1, resident / slices), useful)};
}
size_t partial_floats(const Plan& plan, int C, bool layernorm) {
    return size_t(plan.blocks) * (layernorm ? 2 : 1) * C;
}

template <bool kLayerNorm, class T, class G>
void norm_backward(const NormBackward<T, G>& a, cudaStream_t stream) {
    KILN_CHECK(a.N > 0 && a.N < 1 << 30 && a.C > 0 && a.C % 8 == 0, "norm backward: N ", a.N, ", C ", a.C,
               "; C must be a multiple of 8");
    constexpr int kPack = Pack<T>::kSize;
    const Plan cut = plan(a.N, a.C, kPack);
    Backward<T> p{a.dx, a.scratch, nullptr, a.dy, a.x, a.mean, a.rstd, a.w, a.N, a.C, a.add_dx};
    if (cut.slices > 1) {
        p.row_means = a.scratch + partial_floats(cut, a.C, kLayerNorm);
        launch<row_means_kernel<T, kLayerNorm>>({.grid = a.N, .block = kNarrow, .stream = stream}, p);
    }
    const LaunchConfig config{.grid = {unsigned(cut.blocks), unsigned(cut.slices)},
                              .block = {unsigned(cut.threads), unsigned(cut.teams)},
                              .shared_bytes = size_t(cut.teams) * cut.threads * kPack * sizeof(float),
                              .stream = stream};
    if (cut.rows == 2) {
        launch<norm_backward_kernel<T, kLayerNorm, 2>>(config, p);
    } else {
        launch<norm_backward_kernel<T, kLayerNorm, 1>>(config, p);
    }
    sum_partials(a.dw, kLayerNorm ? a.db : nullptr, a.scratch, cut.blocks, a.C, a.accumulate, stream);
}

}  // namespace

size_t norm_backward_scratch_floats(int N, int C) {
    size_t most = 0;
    for (const int pack : {4, 8}) {
        const Plan cut = plan(N, C, pack);
        most = std::max(most, partial_floats(cut, C, true) + (cut.slices > 1 ? size_t(N) * 2 : 0));
    }
    return most;
}

template <class G>
void sum_partials(G* out, G* out2, const float* partials, int blocks, int C, bool accumulate, cudaStream_t stream) {
    KILN_CHECK(blocks > 0 && C > 0, "sum_partials: ", blocks, " blocks, C ", C);
    const unsigned width = out2 ? 2 * C : C, warps = std::min<unsigned>(blocks, kWarp);
    launch<sum_partials_kernel<G>>({.grid = (width + kWarp - 1) / kWarp, .block = {kWarp, warps}, .stream = stream},
                                   out, out2, partials, blocks, C, accumulate);
}
template <class T, class G>
void layernorm_backward(const NormBackward<T, G>& a, cudaStream_t stream) {
    norm_backward<true>(a, stream);
}
template <class T, class G>
void rmsnorm_backward(const NormBackward<T, G>& a, cudaStream_t stream) {
    norm_backward<false>(a, stream);
}

#define KILN_NORM_BACKWARD(T, G)                                               \
    template void layernorm_backward(const NormBackward<T, G>&, cudaStream_t); \
    template void rmsnorm_backward(const NormBackward<T, G>&, cudaStream_t);
#define KILN_SUM_PARTIALS(G) template void sum_partials(G*, G*, const float*, int, int, bool, cudaStream_t);
KILN_FOR_GRADIENT_TYPES(KILN_NORM_BACKWARD)
KILN_FOR_TYPES(KILN_SUM_PARTIALS)

}  // namespace kiln
