#pragma once
#include <vector>

namespace kiln::test {

// Sums over k of a(m, k) b(n, k): `expected` computed in float64, `naive` in float32 in the order of k.
struct ReferenceMatmul {
    std::vector<float> expected, naive;
    template <class A, class B>
    ReferenceMatmul(int M, int N, int K, A a, B b) {
        for (int m = 0; m < M; ++m) {
            for (int n = 0; n < N; ++n) {
                double sum = 0;
                float in_order = 0;
                for (int k = 0; k < K; ++k) {
                    const float x = a(m, k), y = b(n, k);
                    sum += double(x) * y;
                    in_order += x * y;
                }
                expected.push_back(float(sum));
                naive.push_back(in_order);
            }
        }
    }
};
// Tensor cores may truncate what they add to the largest of each 16 products, instead of rounding it.
inline double tensor_core_roundings(int K) {
    return 8 + K / 8.0;
}

}  // namespace kiln::test
