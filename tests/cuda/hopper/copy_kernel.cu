#include "cuda/kernels/hopper.cuh"
#include "cuda/kernels/pack.cuh"
#include "tests/cuda/hopper/kernels.h"

namespace kiln::test {
namespace {

constexpr int kThreads = 64, kPack = Pack<float>::kSize;
constexpr size_t kTileAlignment = 1024;

// TMA loads a tile, threads double it in place, TMA stores it. So data goes from TMA to threads and back, whatever the
// swizzle is. A block has one place in all dimensions except the last, and goes through the tiles along the last.
template <int kRank>
__global__ void __launch_bounds__(kThreads)
    copy_kernel(const __grid_constant__ CUtensorMap out, const __grid_constant__ CUtensorMap in, int4 box, int tiles,
                int tile_elems) {
    KILN_DYNAMIC_SHARED(unsigned char, shared);  // two tiles, then an mbarrier for each
    const size_t stage_bytes = (tile_elems * sizeof(float) + kTileAlignment - 1) / kTileAlignment * kTileAlignment;
    uint64_t* const full = reinterpret_cast<uint64_t*>(shared + 2 * stage_bytes);
    const auto tile = [&](int i) { return reinterpret_cast<float*>(shared + i % 2 * stage_bytes); };
    const int x = blockIdx.x * box.x, y = blockIdx.y * box.y, z = blockIdx.z * box.z;
    const auto load_tile = [&](int i) {
        mbarrier_arrive_expect(full + i % 2, tile_elems * sizeof(float));
        if constexpr (kRank == 2) tma_load(tile(i), &in, x, i * box.y, full + i % 2);
        if constexpr (kRank == 3) tma_load(tile(i), &in, x, y, i * box.z, full + i % 2);
        if constexpr (kRank == 4) tma_load(tile(i), &in, x, y, z, i * box.w, full + i % 2);
    };
    if (threadIdx.x == 0) {
        prefetch_tensor_map(&in);
        mbarrier_init(full, 1);
        mbarrier_init(full + 1, 1);
        fence_mbarrier_init();
        load_tile(0);
    }
    __syncthreads();
    for (int i = 0; i < tiles; ++i) {
        if (threadIdx.x == 0 && i + 1 < tiles) {
            tma_store_wait_read<0>();  // the store of the last iteration still reads the other tile
            load_tile(i + 1);
        }
        mbarrier_wait(full + i % 2, i / 2 % 2);
        for (int e = threadIdx.x * kPack; e < tile_elems; e += kThreads * kPack) {
            Pack<float> pack = load(tile(i) + e);
            for (float& x : pack.v) x *= 2;
            store(tile(i) + e, pack);
        }
        fence_proxy_async();
        __syncthreads();
        if (threadIdx.x == 0) {
            if constexpr (kRank == 2) tma_store(&out, x, i * box.y, tile(i));
            if constexpr (kRank == 3) tma_store(&out, x, y, i * box.z, tile(i));
            if constexpr (kRank == 4) tma_store(&out, x, y, z, i * box.w, tile(i));
            tma_store_commit();
        }
    }
    if (threadIdx.x == 0) tma_store_wait_read<0>();
}

template <int kRank>
void copy_of_rank(const CUtensorMap& out, const CUtensorMap& in, const TensorLayout& layout, cudaStream_t stream) {
    int box[4] = {1, 1, 1, 1}, tiles[4] = {1, 1, 1, 1}, elems = 1;
    for (int i = 0; i < kRank; ++i) {
        box[i] = int(layout.box[i]);
        tiles[i] = (int(layout.dims[i]) + box[i] - 1) / box[i];
        elems *= box[i];
    }
    const int walk = std::exchange(tiles[kRank - 1], 1);
    const size_t stage = (elems * sizeof(float) + kTileAlignment - 1) / kTileAlignment * kTileAlignment;
    launch<copy_kernel<kRank>>({.grid = dim3(tiles[0], tiles[1], tiles[2]),
                                .block = kThreads,
                                .shared_bytes = 2 * stage + 2 * sizeof(uint64_t),
                                .stream = stream},
                               out, in, make_int4(box[0], box[1], box[2], box[3]), walk, elems);
}

}  // namespace

void copy_tiles(float* out, const TensorLayout& out_layout, const float* in, const TensorLayout& in_layout,
                cudaStream_t stream) {
    const CUtensorMap out_map = tensor_map(out, out_layout), in_map = tensor_map(in, in_layout);
    const size_t rank = out_layout.dims.size();
    if (rank == 2) copy_of_rank<2>(out_map, in_map, out_layout, stream);
    if (rank == 3) copy_of_rank<3>(out_map, in_map, out_layout, stream);
    if (rank == 4) copy_of_rank<4>(out_map, in_map, out_layout, stream);
}

}  // namespace kiln::test
