#pragma once
// C = alpha op(A) op(B) + beta C, row-major, by oneDNN; op(A) is (M, K), op(B) (K, N).
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <cstddef>
#include <new>

#include "cpu_reference/interface/error.h"

namespace kiln {

struct GemmOperands {
    char trans_a, trans_b;  // 'N' or 'T'
    int M, N, K;
    const float* A;
    size_t lda;
    const float* B;
    size_t ldb;
    float beta;
    float* C;
    size_t ldc;
    float alpha = 1;
};

inline void check_gemm(dnnl_status_t status, const GemmOperands& g) {
    if (status == dnnl_out_of_memory) throw std::bad_alloc();
    KILN_CHECK(status == dnnl_success, "oneDNN could not multiply (", g.M, ", ", g.K, ") by (", g.K, ", ", g.N,
               "): status ", int(status));
}

// One matmul. Within an OpenMP region it runs on the calling thread alone.
inline void sgemm(const GemmOperands& g) {
    const dnnl_status_t status = dnnl_sgemm(g.trans_a, g.trans_b, g.M, g.N, g.K, g.alpha, g.A, dnnl_dim_t(g.lda), g.B,
                                            dnnl_dim_t(g.ldb), g.beta, g.C, dnnl_dim_t(g.ldc));
    check_gemm(status, g);
}

// A matmul in tiles, one thread per tile. The tiles depend on the shape alone, so the result does not depend on the
// number of threads, as it would with oneDNN's own threads. With 50,000 columns the tiles are also faster (tiles of
// 4096 columns: 197 to 216 GFLOP/s per core; oneDNN's threads: 173 to 200). Calls `finish(m, n, rows, columns)` on each
// tile while it is in cache.
template <class Finish>
void tiled_sgemm(const GemmOperands& g, Finish finish) {
    // One core reaches 97 % of its best speed with 128 rows, and is 3 % faster with 384 columns than with 192. oneDNN's
    // AVX-512 kernel computes 48 columns at a time.
    constexpr int kRows = 288, kFewRows = 144, kColumns = 384, kDepth = 4096, kEnoughTiles = 8;
    const auto tiles = [](int size, int largest) { return (size + largest - 1) / largest; };
    const auto even = [&](int size, int largest) {  // the size of equal tiles, rounded up to a multiple of 16
        return (tiles(size, tiles(size, largest)) + 15) / 16 * 16;
    };
    const bool few = tiles(g.M, kRows) * tiles(g.N, kColumns) < kEnoughTiles;
    const int tile_M = even(g.M, few ? kFewRows : kRows), tile_N = even(g.N, kColumns);
    dnnl_status_t worst = dnnl_success;  // an exception must not leave the region
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int n = 0; n < g.N; n += tile_N) {
        for (int m = 0; m < g.M; m += tile_M) {
            const int rows = std::min(tile_M, g.M - m), columns = std::min(tile_N, g.N - n);
            const bool a_plain = g.trans_a == 'N', b_plain = g.trans_b == 'N';
            float* C = g.C + m * g.ldc + n;
            for (int k = 0; k < g.K; k += kDepth) {
                const float* A = g.A + (a_plain ? m * g.lda + k : k * g.lda + m);
                const float* B = g.B + (b_plain ? k * g.ldb + n : n * g.ldb + k);
                const dnnl_status_t status =
                    dnnl_sgemm(g.trans_a, g.trans_b, rows, columns, std::min(kDepth, g.K - k), g.alpha, A,
                               dnnl_dim_t(g.lda), B, dnnl_dim_t(g.ldb), k == 0 ? g.beta : 1.0f, C, dnnl_dim_t(g.ldc));
                if (status != dnnl_success) {
#pragma omp atomic write
                    worst = status;
                }
            }
            finish(m, n, rows, columns);
        }
    }
    check_gemm(worst, g);
}

inline void tiled_sgemm(const GemmOperands& g) {
    tiled_sgemm(g, [](int, int, int, int) {});
}

}  // namespace kiln
