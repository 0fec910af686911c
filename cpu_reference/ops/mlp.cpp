#include "cpu_reference/ops/ops.h"
#include "cpu_reference/ops/vector_math.h"

namespace kiln {
namespace {

// GELU's tanh form is x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3), since (1 + tanh u) / 2 = sigmoid(2 u).
constexpr float kSlope = 1.5957691216057308f;  // 2 sqrt(2 / pi)
constexpr float kCubic = 0.044715f;

}  // namespace

void gelu_forward(float* act, const float* fc, int N, int F) {
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const float* x = fc + size_t(n) * F;
        float* y = act + size_t(n) * F;
#pragma omp simd
        for (int f = 0; f < F; f++) y[f] = x[f] * sigmoid_approx(kSlope * (x[f] + kCubic * x[f] * x[f] * x[f]));
    }
}

void gelu_backward(float* dfc, const float* dact, const float* fc, int N, int F) {
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const size_t row = size_t(n) * F;
#pragma omp simd
        for (int f = 0; f < F; f++) {
            const float x = fc[row + f];
            const auto [s, complement] = sigmoid_and_complement(kSlope * (x + kCubic * x * x * x));
            const float slope = s + x * s * complement * kSlope * (1.0f + 3.0f * kCubic * x * x);
            dfc[row + f] = dact[row + f] * slope;
        }
    }
}

void swiglu_forward(float* act, const float* fc, int N, int F) {
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const float* gate = fc + size_t(n) * 2 * F;
        const float* up = gate + F;
        float* y = act + size_t(n) * F;
#pragma omp simd
        for (int f = 0; f < F; f++) y[f] = gate[f] * sigmoid_approx(gate[f]) * up[f];
    }
}

void swiglu_backward(float* dfc, const float* dact, const float* fc, int N, int F) {
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const float* gate = fc + size_t(n) * 2 * F;
        const float* up = gate + F;
        const float* dy = dact + size_t(n) * F;
        float* dgate = dfc + size_t(n) * 2 * F;
        float* dup = dgate + F;
#pragma omp simd
        for (int f = 0; f < F; f++) {
            const auto [s, complement] = sigmoid_and_complement(gate[f]);
            dgate[f] = dy[f] * up[f] * s * (1.0f + gate[f] * complement);
            dup[f] = dy[f] * gate[f] * s;
        }
    }
}

}  // namespace kiln
