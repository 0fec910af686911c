#pragma once
// The descriptors by which TMA finds tiles of a tensor in global memory (sm_90 and up; cuda/kernels/hopper.cuh copies
// by them).
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <vector>

namespace kiln {

// How the 16-byte chunks of a tile's rows are permuted in shared memory, against bank conflicts: a chunk's number in
// its span is XORed with address / 128 modulo the chunks of a span. The values are those of a wgmma descriptor.
enum class Swizzle : unsigned { none = 0, bytes_128 = 1, bytes_64 = 2, bytes_32 = 3 };

// Dimensions innermost first. A tile that reaches beyond the tensor is loaded with zeros there, and not stored there.
struct TensorLayout {
    std::vector<uint64_t> dims;           // 1 to 5, elements
    std::vector<uint64_t> strides_elems;  // of dims[1], dims[2], ...: one fewer; multiples of 16 bytes
    std::vector<uint32_t> box;  // the tile, at most 256 a side; box[0] as wide as the swizzle, if there is one
    Swizzle swizzle = Swizzle::none;
};

// `data`: device memory, aligned to 16 bytes. For a kernel's `const __grid_constant__ CUtensorMap` parameter. T is
// float,
// __nv_bfloat16 or __half. Throws Error: no driver that knows tensor maps, a layout that TMA cannot take.
template <class T>
CUtensorMap tensor_map(const T* data, const TensorLayout& layout);

}  // namespace kiln
