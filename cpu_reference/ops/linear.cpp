#include <algorithm>

#include "cpu_reference/ops/gemm.h"
#include "cpu_reference/ops/ops.h"

namespace kiln {
namespace {

// db = sum over rows of dout. Each thread owns columns, so that it adds rows in their order.
void bias_backward(float* db, const float* dout, int N, int O, size_t stride, bool accumulate) {
    constexpr int kColumns = 64;
#pragma omp parallel for
    for (int o = 0; o < O; o += kColumns) {
        const int columns = std::min(kColumns, O - o);
        float sum[kColumns] = {};
        for (int n = 0; n < N; n++) {
            for (int c = 0; c < columns; c++) sum[c] += dout[n * stride + o + c];
        }
        for (int c = 0; c < columns; c++) db[o + c] = sum[c] + (accumulate ? db[o + c] : 0.0f);
    }
}

// out (N, O) = x w^T for few rows. It reads every weight once, so memory alone limits its speed; oneDNN's matmul with
// N = 1 is several times slower. The result of a row does not depend on the number of rows.
template <int N>
void few_rows(float* out, const float* x, const float* w, const float* bias, int I, int O, size_t stride) {
#pragma omp parallel for
    for (int o = 0; o < O; o++) {
        const float* row = w + size_t(o) * I;
        float sum[N] = {};
        for (int n = 0; n < N; n++) {
            const float* x_row = x + size_t(n) * I;
            float dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int i = 0; i < I; i++) dot += x_row[i] * row[i];
            sum[n] = dot;
        }
        for (int n = 0; n < N; n++) out[n * stride + o] = sum[n] + (bias ? bias[o] : 0.0f);
    }
}

}  // namespace

void linear_forward(float* out, const float* x, const float* w, const float* bias, int N, int I, int O,
                    int out_stride) {
    const size_t stride = out_stride ? out_stride : O;
    switch (N) {
        case 1: return few_rows<1>(out, x, w, bias, I, O, stride);
        case 2: return few_rows<2>(out, x, w, bias, I, O, stride);
        case 3: return few_rows<3>(out, x, w, bias, I, O, stride);
        case 4: return few_rows<4>(out, x, w, bias, I, O, stride);
        default: break;
    }
    tiled_sgemm({.trans_a = 'N',
                 .trans_b = 'T',
                 .M = N,
                 .N = O,
                 .K = I,
                 .A = x,
                 .lda = size_t(I),
                 .B = w,
                 .ldb = size_t(I),
                 .beta = 0,
                 .C = out,
                 .ldc = stride},
                [&](int n0, int o0, int rows, int columns) {
                    if (!bias) return;
                    for (int n = n0; n < n0 + rows; n++) {
                        for (int o = o0; o < o0 + columns; o++) out[n * stride + o] += bias[o];
                    }
                });
}

void linear_backward(float* dx, float* dw, float* db, const float* dout, const float* x, const float* w, int N, int I,
                     int O, bool accumulate, int dout_stride) {
    const size_t stride = dout_stride ? dout_stride : O;
    tiled_sgemm({.trans_a = 'T',
                 .trans_b = 'N',
                 .M = O,
                 .N = I,
                 .K = N,
                 .A = dout,
                 .lda = stride,
                 .B = x,
                 .ldb = size_t(I),
                 .beta = accumulate ? 1.0f : 0.0f,
                 .C = dw,
                 .ldc = size_t(I)});
    if (db) bias_backward(db, dout, N, O, stride, accumulate);
    tiled_sgemm({.trans_a = 'N',
                 .trans_b = 'N',
                 .M = N,
                 .N = I,
                 .K = O,
                 .A = dout,
                 .lda = stride,
                 .B = w,
                 .ldb = size_t(I),
                 .beta = 0,
                 .C = dx,
                 .ldc = size_t(I)});
}

}  // namespace kiln
