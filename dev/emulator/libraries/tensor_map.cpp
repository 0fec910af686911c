// The driver's encoder of tensor maps and its entry point, compiled against the real headers. It refuses what the
// manual of the CUDA driver API says, and the few things that the emulator's TMA cannot do.
#include "dev/emulator/libraries/tensor_map.h"

#include <cuda_runtime.h>

#include <cstring>
#include <string_view>

#undef cuTensorMapEncodeTiled

extern "C" {

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* base,
                                const cuuint64_t* dims, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill) {
    simt::TensorMap out{};
    switch (type) {
        case CU_TENSOR_MAP_DATA_TYPE_FLOAT32: out.element_bytes = 4; break;
        case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
        case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16: out.element_bytes = 2; break;
        default: return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (rank < 1 || rank > 5 || reinterpret_cast<uintptr_t>(base) % 16 != 0) return CUDA_ERROR_INVALID_VALUE;
    if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    for (cuuint32_t i = 0; i < rank; ++i) {
        if (dims[i] < 1 || dims[i] > uint64_t(1) << 32 || box[i] < 1 || box[i] > 256) return CUDA_ERROR_INVALID_VALUE;
        if (steps[i] != 1 || dims[i] >> 32) return CUDA_ERROR_NOT_SUPPORTED;
        if (i > 0 && (strides[i - 1] % 16 != 0 || strides[i - 1] >> 40)) return CUDA_ERROR_INVALID_VALUE;
        out.dims[i] = uint32_t(dims[i]);
        out.box[i] = uint16_t(box[i]);
        if (i > 0) out.strides[i - 1] = strides[i - 1];
    }
    const uint32_t row_bytes = box[0] * out.element_bytes;
    if (row_bytes % 16 != 0) return CUDA_ERROR_INVALID_VALUE;
    uint32_t span = 0;
    switch (swizzle) {
        case CU_TENSOR_MAP_SWIZZLE_NONE: break;
        case CU_TENSOR_MAP_SWIZZLE_32B: span = 32; break;
        case CU_TENSOR_MAP_SWIZZLE_64B: span = 64; break;
        case CU_TENSOR_MAP_SWIZZLE_128B: span = 128; break;
        default: return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (span > 0 && row_bytes > span) return CUDA_ERROR_INVALID_VALUE;
    if (span > 0 && row_bytes < span)
        return CUDA_ERROR_NOT_SUPPORTED;  // the real encoder allows it; Kiln does not need it
    out.chunk_mask = uint8_t(span > 0 ? span / 16 - 1 : 0);
    out.magic = simt::kTensorMapMagic;
    out.base = static_cast<unsigned char*>(base);
    out.rank = uint8_t(rank);
    std::memset(map, 0, sizeof *map);
    std::memcpy(map, &out, sizeof out);
    return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
    const bool known = std::string_view(symbol) == "cuTensorMapEncodeTiled";
    *function = known ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
    if (found) *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}

#if CUDART_VERSION < 12050
cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** function, unsigned long long flags,
                                    cudaDriverEntryPointQueryResult* found) {
    return cudaGetDriverEntryPointByVersion(symbol, function, 0, flags, found);
}
#endif

}  // extern "C"
