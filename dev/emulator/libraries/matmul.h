#pragma once
// A product as cuBLASLt computes it, taken out of its descriptors: column-major, in float32, with its epilogue.
#include <cublasLt.h>

#include <cstddef>
#include <cstdint>

namespace simt {

struct Operand {
    const void* data = nullptr;
    cudaDataType type{};
    int64_t ld = 0, batch_stride = 0;
    bool transposed = false;
};

struct Product {
    int64_t m = 0, n = 0, k = 0;
    int batch = 1;
    bool tf32 = false;
    Operand a, b, c;
    cudaDataType d_type{};
    void* d = nullptr;
    int64_t d_ld = 0, d_batch_stride = 0;
    float alpha = 1, beta = 0;
    unsigned epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    void *bias = nullptr, *aux = nullptr;
    int64_t aux_ld = 0;
};

// Of an epilogue: whether it keeps or reads the input of its GELU.
inline bool has_aux(unsigned epilogue) {
    return (epilogue & 128) != 0;
}

size_t element_bytes(cudaDataType type);

// Algorithms: they differ in where they cut k, so in rounding, as the real ones do.
enum Variant : uint64_t { whole, halves, short_runs, kVariants };

void run(const Product& p, Variant variant);

}  // namespace simt
