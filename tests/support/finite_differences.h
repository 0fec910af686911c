#pragma once
// Compares the backward pass of an operation with finite differences of its forward pass.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "cpu_reference/interface/rng.h"

namespace kiln::testing {

using Floats = std::vector<float>;

inline Floats random_floats(size_t n, uint32_t id, float scale = 1.0f) {
    Floats x(n);
    for (size_t i = 0; i < n; i++) {
        const Philox4 words = philox4x32(17, uint32_t(i), id, 0, 0);
        x[i] = scale * (2 * uniform01(words.v[0]) - 1);
    }
    return x;
}

inline double weighted_sum(const Floats& out, const Floats& weights) {
    double sum = 0;
    for (size_t i = 0; i < out.size(); i++) sum += double(out[i]) * weights[i];
    return sum;
}

// Compares `gradient` of weighted_sum(forward(), dout) with respect to `x` with differences. With four points the
// method's error is h^4 f^(5) / 30, some 1e-7 for the functions here; each output is rounded to about
// 2^-23 |out|, and some `fan` of them depend on one input: noise sqrt(fan) * 2^-23 * 1.5 / h, 1e-5 at fan 100, times
// the few roundings within an operation.
inline void expect_gradient(const char* what, const std::function<Floats()>& forward, const Floats& dout, Floats& x,
                            const Floats& gradient, double tolerance = 2e-4) {
    ASSERT_EQ(x.size(), gradient.size());
    const float h = 0x1p-6f;
    for (size_t i = 0; i < x.size(); i++) {
        const float saved = x[i];
        const auto at = [&](float step) {
            x[i] = saved + step;
            return weighted_sum(forward(), dout);
        };
        const double near = (at(h) - at(-h)) / (2 * double(h));
        const double far = (at(2 * h) - at(-2 * h)) / (4 * double(h));
        x[i] = saved;
        const double measured = (4 * near - far) / 3;
        ASSERT_NEAR(measured, gradient[i], tolerance * (1 + std::abs(measured))) << what << "[" << i << "]";
    }
}

}  // namespace kiln::testing
