#pragma once
// Descriptors with which TMA finds tiles of a tensor in global memory (sm_90 and later). cuda/kernels/hopper.cuh has
// the copies that use them.
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <vector>

namespace kiln {

// How the 16-byte chunks of a tile's rows are permuted in shared memory, to avoid bank conflicts: the number of a chunk
// within its span (32, 64 or 128 bytes) is XORed with (address / 128) modulo the chunks of a span. The values are those
// of a wgmma descriptor.
enum class Swizzle : unsigned { none = 0, bytes_128 = 1, bytes_64 = 2, bytes_32 = 3 };

// Dimensions innermost first. Outside the tensor, a load gives zeros and a store writes nothing.
struct TensorLayout {
    std::vector<uint64_t> dims;           // 1 to 5 dimensions, in elements
    std::vector<uint64_t> strides_elems;  // of dims[1], dims[2], ...; multiples of 16 bytes
    std::vector<uint32_t> box;            // the tile, at most 256 a side; with a swizzle, box[0] has its width
    Swizzle swizzle = Swizzle::none;
};

// For a kernel's `const __grid_constant__ CUtensorMap` parameter. `data`: device memory, aligned to 16 bytes. T: float,
// __nv_bfloat16 or __half. Throws Error if the driver does not know tensor maps or TMA does not support the layout.
template <class T>
CUtensorMap tensor_map(const T* data, const TensorLayout& layout);

}  // namespace kiln
