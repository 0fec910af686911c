#include <algorithm>

#include "cpu_reference/ops/ops.h"

namespace kiln {

void embedding_forward(float* out, const int* tokens, const float* wte, const float* wpe, int first_position, int B,
                       int T, int C) {
#pragma omp parallel for
    for (int n = 0; n < B * T; n++) {
        float* row = out + size_t(n) * C;
        const float* token = wte + size_t(tokens[n]) * C;
        std::copy(token, token + C, row);
        if (!wpe) continue;
        const float* position = wpe + size_t(first_position + n % T) * C;
        for (int c = 0; c < C; c++) row[c] += position[c];
    }
}

void embedding_backward(float* dwte, float* dwpe, const float* dout, const int* tokens, int B, int T, int C) {
    // A token may occur twice. Each thread owns columns, so no two threads add to one element, and the order is fixed.
    constexpr int kColumns = 64;
#pragma omp parallel for
    for (int c0 = 0; c0 < C; c0 += kColumns) {
        const int columns = std::min(kColumns, C - c0);
        for (int n = 0; n < B * T; n++) {
            const float* d = dout + size_t(n) * C + c0;
            float* token = dwte + size_t(tokens[n]) * C + c0;
            for (int c = 0; c < columns; c++) token[c] += d[c];
            if (!dwpe) continue;
            float* position = dwpe + size_t(n % T) * C + c0;
            for (int c = 0; c < columns; c++) position[c] += d[c];
        }
    }
}

namespace {

// out = base + x * mask / (1 - p); base may be null. One draw gives the mask of four columns.
void drop_row(float* out, const float* base, const float* x, const Dropout& d, int b, int t, int C) {
    const float keep_scale = 1.0f / (1.0f - d.p);
    for (int c = 0; c < C; c += 4) {
        const Philox4 words =
            dropout_words(d.seed, d.stream, d.first_sample + b, d.layer, d.site, uint32_t(t), uint32_t(c / 4));
        for (int i = 0; i < 4 && c + i < C; i++) {
            const float kept = uniform01(words.v[i]) < d.p ? 0.0f : x[c + i] * keep_scale;
            out[c + i] = base ? base[c + i] + kept : kept;
        }
    }
}

}  // namespace

void dropout(float* out, const float* x, const Dropout& d, int B, int T, int C) {
#pragma omp parallel for
    for (int n = 0; n < B * T; n++) {
        const size_t row = size_t(n) * C;
        if (d.p > 0) {
            drop_row(out + row, nullptr, x + row, d, n / T, n % T, C);
        } else if (out != x) {
            std::copy(x + row, x + row + C, out + row);
        }
    }
}

void residual_forward(float* out, const float* residual, const float* branch, const Dropout& d, int B, int T, int C) {
#pragma omp parallel for
    for (int n = 0; n < B * T; n++) {
        const size_t row = size_t(n) * C;
        if (d.p > 0) {
            drop_row(out + row, residual + row, branch + row, d, n / T, n % T, C);
        } else {
            for (int c = 0; c < C; c++) out[row + c] = residual[row + c] + branch[row + c];
        }
    }
}

}  // namespace kiln
