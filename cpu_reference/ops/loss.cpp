#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu_reference/ops/ops.h"
#include "cpu_reference/ops/vector_math.h"

namespace kiln {

void cross_entropy(float* losses, float* logits, const int* targets, float gradient_scale, int N, int V, int stride) {
    constexpr int kPart = 1024;  // one float sum over a whole row would lose precision
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        float* row = logits + size_t(n) * stride;
        const int target = targets[n];
        if (target < 0) {
            losses[n] = 0;
            if (gradient_scale != 0) std::fill(row, row + V, 0.0f);
            continue;
        }
        float highest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : highest)
        for (int v = 0; v < V; v++) highest = row[v] > highest ? row[v] : highest;
        const float target_logit = row[target];
        double sum = 0;
        for (int v0 = 0; v0 < V; v0 += kPart) {
            const int end = std::min(V, v0 + kPart);
            float part = 0;
            if (gradient_scale != 0) {
#pragma omp simd reduction(+ : part)
                for (int v = v0; v < end; v++) {
                    row[v] = exp_approx(row[v] - highest);
                    part += row[v];
                }
            } else {
#pragma omp simd reduction(+ : part)
                for (int v = v0; v < end; v++) part += exp_approx(row[v] - highest);
            }
            sum += part;
        }
        losses[n] = float(std::log(sum)) - (target_logit - highest);
        if (gradient_scale == 0) continue;
        const float scale = gradient_scale / float(sum);
#pragma omp simd
        for (int v = 0; v < V; v++) row[v] *= scale;
        row[target] -= gradient_scale;
    }
}

}  // namespace kiln
