#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "cpu_reference/ops.h"

namespace kiln {

void adamw(float* p, float* m, float* v, const float* g, const AdamWCoefficients& k, size_t n) {
    const float root2 = 1.0f / std::sqrt(k.correction2), step = k.lr / k.correction1, decay = k.lr * k.weight_decay;
#pragma omp parallel for simd
    for (size_t i = 0; i < n; i++) {
        const float gradient = k.grad_scale * g[i];
        const float m_new = k.beta1 * m[i] + (1.0f - k.beta1) * gradient;
        const float v_new = k.beta2 * v[i] + (1.0f - k.beta2) * gradient * gradient;
        m[i] = m_new;
        v[i] = v_new;
        p[i] -= step * m_new / (std::sqrt(v_new) * root2 + k.eps) + decay * p[i];
    }
}

double sum_of_squares(const float* x, size_t n) {
    constexpr size_t kBlocks = 256;  // their sums fit the stack
    const size_t elems = (n + kBlocks - 1) / kBlocks;
    std::array<double, kBlocks> sums;
#pragma omp parallel for
    for (size_t block = 0; block < kBlocks; block++) {
        const size_t begin = std::min(n, block * elems), end = std::min(n, begin + elems);
        // In double: the square of a float may overflow one, and a norm must not be infinite unless a gradient is.
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t i = begin; i < end; i++) sum += double(x[i]) * x[i];
        sums[block] = sum;
    }
    return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace kiln
