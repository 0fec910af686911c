// Cases of cuda/kernels/ptx.cuh, through a product that is made of it.
#include "tests/cuda/cases/cases.h"
#include "tests/cuda/cases/gemm_kernel.h"

namespace kiln::test {
namespace {

template <class T, bool kTransposeB>
class TensorCoreProduct : public KernelCase {
public:
    explicit TensorCoreProduct(const Shape& shape)
        : M(dim(shape, "M")),
          N(dim(shape, "N")),
          K(dim(shape, "K")),
          a_(size_t(M) * K, random_values(size_t(M) * K, 1)),
          b_(size_t(N) * K, random_values(size_t(N) * K, 2)),
          c_(size_t(M) * N) {}
    void launch(cudaStream_t stream) override {
        if constexpr (!std::is_same_v<T, float>)
            tensor_core_product(c_.get(), a_.get(), b_.get(), kTransposeB, M, N, K, stream);
    }
    void check() override {
        std::vector<float> c(c_.size()), naive(c_.size());
        for (int m = 0; m < M; ++m) {
            for (int n = 0; n < N; ++n) {
                double sum = 0;
                float in_order = 0;
                for (int k = 0; k < K; ++k) {
                    const float a = a_.values()[size_t(m) * K + k];
                    const float b = b_.values()[kTransposeB ? size_t(k) * N + n : size_t(n) * K + k];
                    sum += double(a) * b;
                    in_order += a * b;
                }
                c[size_t(m) * N + n] = float(sum);
                naive[size_t(m) * N + n] = in_order;
            }
        }
        // Tensor cores may cut what they add to the largest of each 16 instead of rounding it: K / 16 times an ulp.
        expect_close("c", c_, c, naive, 8 + K / 8.0);
    }

private:
    const int M, N, K;
    Tensor<T> a_, b_;
    Tensor<float> c_;
};

template <class T>
using Straight = TensorCoreProduct<T, false>;
template <class T>
using Transposed = TensorCoreProduct<T, true>;

}  // namespace

void add_ptx_families(std::vector<KernelFamily>& families) {
    const std::vector<Element> halves = {Element::bfloat16, Element::float16};
    const std::vector<Shape> shapes = {{{"M", 64}, {"N", 64}, {"K", 32}}, {{"M", 64}, {"N", 128}, {"K", 160}}};
    families.push_back({"tensor_core_product", halves, shapes, {}, make<Straight>});
    families.push_back({"tensor_core_product_transposed", halves, shapes, {}, make<Transposed>});
}

}  // namespace kiln::test
