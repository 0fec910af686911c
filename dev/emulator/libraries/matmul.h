#pragma once
// Computes a matmul like cuBLASLt: column-major, in float32, with its epilogue.
#include <cublasLt.h>

#include <cstddef>
#include <cstdint>
#include <functional>

namespace simt {

struct Operand {
    const void* data = nullptr;
    cudaDataType type{};
    int64_t ld = 0;
    bool transposed = false;
};

// What the descriptors of one call say. D (m, n) = alpha op(A) op(B) + beta C.
struct MatmulProblem {
    int64_t m = 0, n = 0, k = 0;
    bool tf32 = false;
    Operand a, b, c;
    cudaDataType d_type{};
    void* d = nullptr;
    int64_t d_ld = 0;
    float alpha = 1, beta = 0;
    unsigned epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void* bias = nullptr;
    void* aux = nullptr;
    int64_t aux_ld = 0;
};

size_t element_bytes(cudaDataType type);

// The order of a sum over k: from term `start` on, around the end, in runs of `run` terms. The sums of the runs are
// added last.
struct SumOrder {
    int64_t start = 0, run = 0;
};

void run(const MatmulProblem& p, const SumOrder& order);

// Unless empty, it is asked before a matmul is queued, with the number of its algorithm. True: the launch fails.
std::function<bool(const MatmulProblem&, size_t)>& matmul_fails();
// If set, it is called with the number of the algorithm when a queued matmul runs.
std::function<void(size_t)>& matmul_runs();

}  // namespace simt
