#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "cpu_reference/ops/ops.h"

namespace kiln {

void adamw(float* p, float* m, float* v, const float* g, const AdamWStepSize& s, float grad_scale, size_t n) {
    const float root2 = 1.0f / std::sqrt(s.correction2), step = s.lr / s.correction1, decay = s.lr * s.weight_decay;
#pragma omp parallel for simd
    for (size_t i = 0; i < n; i++) {
        const float gradient = grad_scale * g[i];
        const float m_new = s.beta1 * m[i] + (1.0f - s.beta1) * gradient;
        const float v_new = s.beta2 * v[i] + (1.0f - s.beta2) * gradient * gradient;
        m[i] = m_new;
        v[i] = v_new;
        p[i] -= step * m_new / (std::sqrt(v_new) * root2 + s.eps) + decay * p[i];
    }
}

void update_params(Optimizer optimizer, std::span<const TensorSpec> table, const MappedArray& params,
                   const MappedArray& gradients, std::span<const MappedArray> states, const OptimizerStep& step) {
    switch (optimizer) {
        case Optimizer::adamw: {
            AdamWStepSize size = adamw_step_size(step);
            for (const TensorSpec& spec : table) {
                if (!spec.trainable || !updates(optimizer, spec.group)) continue;
                size.weight_decay = spec.decays() ? step.weight_decay : 0.0f;
                adamw(params.data() + spec.offset, states[0].data() + spec.offset, states[1].data() + spec.offset,
                      gradients.data() + spec.offset, size, step.grad_scale, spec.elems());
            }
            return;
        }
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
