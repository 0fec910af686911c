#include "cuda/device/tensor_map.h"

#include <cudaTypedefs.h>

#include <algorithm>
#include <type_traits>

#include "cuda/device/cuda_check.h"

namespace kiln {
namespace {

// The encoder is part of the driver. It is looked up at run time, so that programs start without libcuda.
PFN_cuTensorMapEncodeTiled_v12000 encoder() {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
    CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
#else  // which gives the entry of the toolkit's own version: in CUDA 12 that of 12.0
    CUDA_CHECK(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found));
#endif
    KILN_CHECK(found == cudaDriverEntryPointSuccess && function,
               "the NVIDIA driver has no cuTensorMapEncodeTiled; install a driver of CUDA 12.0 or later");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

std::string text_of(const auto& numbers) {
    std::string text;
    for (const auto n : numbers) text += (text.empty() ? "" : " x ") + std::to_string(n);
    return text;
}

CUtensorMapSwizzle swizzle_of(Swizzle swizzle) {
    switch (swizzle) {
        case Swizzle::bytes_128: return CU_TENSOR_MAP_SWIZZLE_128B;
        case Swizzle::bytes_64: return CU_TENSOR_MAP_SWIZZLE_64B;
        case Swizzle::bytes_32: return CU_TENSOR_MAP_SWIZZLE_32B;
        default: return CU_TENSOR_MAP_SWIZZLE_NONE;
    }
}

}  // namespace

template <class T>
CUtensorMap tensor_map(const T* data, const TensorLayout& layout) {
    const auto& [dims, strides_elems, box, swizzle] = layout;
    const size_t rank = dims.size();
    KILN_CHECK(rank >= 1 && rank <= 5 && strides_elems.size() == rank - 1 && box.size() == rank,
               "a tensor map has 1 to 5 dimensions, as many box sides and one stride fewer, not ", rank, ", ",
               box.size(), " and ", strides_elems.size());
    constexpr CUtensorMapDataType kType = std::is_same_v<T, float>    ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
                                          : std::is_same_v<T, __half> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                                      : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    std::vector<cuuint64_t> strides_bytes;
    for (const uint64_t stride : strides_elems) strides_bytes.push_back(stride * sizeof(T));
    strides_bytes.push_back(0);  // never read; keeps the vector from being empty
    const std::vector<cuuint64_t> sizes(dims.begin(), dims.end());
    const std::vector<cuuint32_t> steps(rank, 1);
    CUtensorMap map;
    const CUresult status =
        encoder()(&map, kType, cuuint32_t(rank), const_cast<T*>(data), sizes.data(), strides_bytes.data(), box.data(),
                  steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle_of(swizzle), CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    KILN_CHECK(status == CUDA_SUCCESS, "cuTensorMapEncodeTiled: error ", int(status), " for a tensor of ",
               text_of(dims), " elements of ", sizeof(T), " bytes at ", static_cast<const void*>(data), ", strides of ",
               text_of(strides_bytes), " bytes, tiles of ", text_of(box),
               "; address and strides must be multiples of 16 bytes, tiles at most 256 a side");
    return map;
}

template CUtensorMap tensor_map(const float*, const TensorLayout&);
template CUtensorMap tensor_map(const __nv_bfloat16*, const TensorLayout&);
template CUtensorMap tensor_map(const __half*, const TensorLayout&);

}  // namespace kiln
