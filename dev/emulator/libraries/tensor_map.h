#pragma once
// How the emulator uses the 128 bytes of a CUtensorMap.
#include <cuda.h>

#include <cstdint>

namespace simt {

struct TensorMap {
    uint64_t magic;  // kTensorMapMagic: the emulator's encoder wrote it
    unsigned char* base;
    uint64_t strides[4];  // bytes, of dimension 1 and up
    uint32_t dims[5];     // elements, innermost first
    uint16_t box[5];
    uint8_t rank, element_bytes, chunk_mask;  // the index of a 16-byte chunk is XORed with address / 128 & chunk_mask
};
static_assert(sizeof(TensorMap) <= sizeof(CUtensorMap));
constexpr uint64_t kTensorMapMagic = 0x70616d2d72736e74;

}  // namespace simt
