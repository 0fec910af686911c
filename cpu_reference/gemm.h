#pragma once
// C = alpha op(A) op(B) + beta C, row-major, by oneDNN; op(A) is (M, K), op(B) (K, N). Inside an OpenMP region it runs
// on the calling thread alone.
#include <oneapi/dnnl/dnnl.h>

#include "cpu_reference/error.h"

namespace kiln {

inline void sgemm(char trans_a, char trans_b, int M, int N, int K, float alpha, const float* A, size_t lda,
                  const float* B, size_t ldb, float beta, float* C, size_t ldc) {
    const dnnl_status_t status =
        dnnl_sgemm(trans_a, trans_b, M, N, K, alpha, A, dnnl_dim_t(lda), B, dnnl_dim_t(ldb), beta, C, dnnl_dim_t(ldc));
    KILN_CHECK(status == dnnl_success, "oneDNN could not multiply (", M, ", ", K, ") by (", K, ", ", N, "): status ",
               int(status), status == dnnl_out_of_memory ? ", out of memory; lower the batch size" : "");
}

}  // namespace kiln
