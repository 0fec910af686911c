#include <algorithm>
#include <cmath>

#include "cpu_reference/ops/ops.h"

namespace kiln {
namespace {

constexpr int kColumns = 64;  // that one thread sums over all rows, in a fixed order and without atomics

// Columns [c0, c0 + columns) of dw = sum over rows of dy * (x - mean) * rstd and of db = sum of dy.
template <bool kLayerNorm>
void weight_gradients(float* dw, float* db, const float* dy, const float* x, const float* mean, const float* rstd,
                      int N, int C, int c0, bool accumulate) {
    const int columns = std::min(kColumns, C - c0);
    float sum_w[kColumns] = {}, sum_b[kColumns] = {};
    for (int n = 0; n < N; n++) {
        const float* dy_row = dy + size_t(n) * C + c0;
        const float* x_row = x + size_t(n) * C + c0;
        const float mu = kLayerNorm ? mean[n] : 0.0f, r = rstd[n];
        for (int c = 0; c < columns; c++) {
            sum_w[c] += dy_row[c] * (x_row[c] - mu) * r;
            if (kLayerNorm) sum_b[c] += dy_row[c];
        }
    }
    for (int c = 0; c < columns; c++) {
        dw[c0 + c] = sum_w[c] + (accumulate ? dw[c0 + c] : 0.0f);
        if (kLayerNorm) db[c0 + c] = sum_b[c] + (accumulate ? db[c0 + c] : 0.0f);
    }
}

float rms_row(float* y, const float* x, const float* w, float eps, int C) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int c = 0; c < C; c++) squares += x[c] * x[c];
    const float r = 1.0f / std::sqrt(squares / C + eps);
    for (int c = 0; c < C; c++) y[c] = x[c] * r * w[c];
    return r;
}

// With xhat = x * r: dx = r * (dy w - xhat * mean(dy w xhat)), += or =.
template <bool kAdd>
void rms_row_backward(float* dx, const float* dy, const float* x, const float* w, float r, int C) {
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int c = 0; c < C; c++) dot += dy[c] * w[c] * x[c];
    const float along = dot / C * r * r * r;
    for (int c = 0; c < C; c++) {
        const float d = dy[c] * w[c] * r - x[c] * along;
        dx[c] = kAdd ? dx[c] + d : d;
    }
}

}  // namespace

void layernorm_forward(float* y, float* mean, float* rstd, const float* x, const float* w, const float* b, float eps,
                       int N, int C) {
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const float* x_row = x + size_t(n) * C;
        float* y_row = y + size_t(n) * C;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int c = 0; c < C; c++) sum += x_row[c];
        const float mu = sum / C;
        float squares = 0;  // a second pass over the row: E[x^2] - mu^2 would lose precision
#pragma omp simd reduction(+ : squares)
        for (int c = 0; c < C; c++) squares += (x_row[c] - mu) * (x_row[c] - mu);
        const float r = 1.0f / std::sqrt(squares / C + eps);
        for (int c = 0; c < C; c++) y_row[c] = (x_row[c] - mu) * r * w[c] + b[c];
        if (mean) mean[n] = mu;
        if (rstd) rstd[n] = r;
    }
}

void layernorm_backward(float* dx, float* dw, float* db, const float* dy, const float* x, const float* mean,
                        const float* rstd, const float* w, int N, int C, bool accumulate) {
#pragma omp parallel for
    for (int c0 = 0; c0 < C; c0 += kColumns) weight_gradients<true>(dw, db, dy, x, mean, rstd, N, C, c0, accumulate);
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const float* dy_row = dy + size_t(n) * C;
        const float* x_row = x + size_t(n) * C;
        float* dx_row = dx + size_t(n) * C;
        const float mu = mean[n], r = rstd[n];
        float sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
        for (int c = 0; c < C; c++) {
            const float g = dy_row[c] * w[c];
            sum += g;
            dot += g * (x_row[c] - mu) * r;
        }
        const float mean_g = sum / C, mean_dot = dot / C;
        for (int c = 0; c < C; c++) {
            dx_row[c] += r * (dy_row[c] * w[c] - mean_g - (x_row[c] - mu) * r * mean_dot);
        }
    }
}

void rmsnorm_forward(float* y, float* rstd, const float* x, const float* w, float eps, int N, int C) {
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const float r = rms_row(y + size_t(n) * C, x + size_t(n) * C, w, eps, C);
        if (rstd) rstd[n] = r;
    }
}

void rmsnorm_backward(float* dx, float* dw, const float* dy, const float* x, const float* rstd, const float* w, int N,
                      int C, bool accumulate) {
#pragma omp parallel for
    for (int c0 = 0; c0 < C; c0 += kColumns) {
        weight_gradients<false>(dw, nullptr, dy, x, nullptr, rstd, N, C, c0, accumulate);
    }
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const size_t row = size_t(n) * C;
        rms_row_backward<true>(dx + row, dy + row, x + row, w, rstd[n], C);
    }
}

void qk_norm_forward(float* qkv, float* raw, float* rstd, const float* q_norm, const float* k_norm, float eps, int N,
                     int NH, int NKV, int HS) {
    const int heads = NH + NKV, stride = (NH + 2 * NKV) * HS;
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        float* row = qkv + size_t(n) * stride;
        if (raw) std::copy(row, row + heads * HS, raw + size_t(n) * heads * HS);
        for (int h = 0; h < heads; h++) {
            const float r = rms_row(row + h * HS, row + h * HS, h < NH ? q_norm : k_norm, eps, HS);
            if (rstd) rstd[size_t(n) * heads + h] = r;
        }
    }
}

void qk_norm_backward(float* dqkv, float* dq_norm, float* dk_norm, const float* raw, const float* rstd,
                      const float* q_norm, const float* k_norm, int N, int NH, int NKV, int HS, bool accumulate) {
    const int heads = NH + NKV, stride = (NH + 2 * NKV) * HS;
    // Each thread sums some elements of the weight's gradient over all rows and heads.
#pragma omp parallel for
    for (int i = 0; i < 2 * HS; i++) {
        const bool query = i < HS;
        const int c = i % HS, first = query ? 0 : NH, last = query ? NH : heads;
        float* dw = (query ? dq_norm : dk_norm) + c;
        float sum = accumulate ? *dw : 0.0f;
        for (int n = 0; n < N; n++) {
            for (int h = first; h < last; h++) {
                sum += dqkv[size_t(n) * stride + h * HS + c] * raw[(size_t(n) * heads + h) * HS + c] *
                       rstd[size_t(n) * heads + h];
            }
        }
        *dw = sum;
    }
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        for (int h = 0; h < heads; h++) {
            float* d = dqkv + size_t(n) * stride + h * HS;
            const size_t head = size_t(n) * heads + h;
            rms_row_backward<false>(d, d, raw + head * HS, h < NH ? q_norm : k_norm, rstd[head], HS);
        }
    }
}

}  // namespace kiln
