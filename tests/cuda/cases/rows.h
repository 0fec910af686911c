#pragma once
#include "tests/cuda/kernel_case.h"

namespace kiln::test {

// N rows of C, as a norm reads them.
struct Rows {
    explicit Rows(const Shape& shape) : N(dim(shape, "N")), C(dim(shape, "C")) {}
    size_t elems() const { return size_t(N) * C; }
    const int N, C;
};
inline Shape rows(int N, int C) {
    return {{"N", N}, {"C", C}};
}
// The gradient of a bias (O) whose layer has the output gradient dout (N, O): `before` + the sum of its rows.
inline std::vector<float> bias_gradient(const std::vector<float>& before, const std::vector<float>& dout) {
    std::vector<double> sum(before.begin(), before.end());
    for (size_t i = 0; i < dout.size(); ++i) sum[i % sum.size()] += dout[i];
    return {sum.begin(), sum.end()};
}
constexpr float kNormEps = 1e-5f;
// GPT-2 124M and XL, Qwen2.5 0.5B, Llama 3 8B.
inline const std::vector<Shape> kRealRows = {rows(65536, 768), rows(16384, 1600), rows(32768, 896), rows(8192, 4096)};

}  // namespace kiln::test
