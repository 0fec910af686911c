// Cases of cuda/kernels/ptx.cuh: a matmul that uses its instructions.
#include "tests/cuda/cases/cases.h"
#include "tests/cuda/cases/gemm_kernel.h"
#include "tests/cuda/reference_matmul.h"

namespace kiln::test {
namespace {

template <class T, bool kTransposeB>
class TensorCoreMatmul : public KernelCase {
public:
    explicit TensorCoreMatmul(const Shape& shape)
        : M(dim(shape, "M")),
          N(dim(shape, "N")),
          K(dim(shape, "K")),
          a_(random_values(size_t(M) * K, 1)),
          b_(random_values(size_t(N) * K, 2)),
          c_(size_t(M) * N) {}
    void launch(cudaStream_t stream) override {
        tensor_core_matmul(c_.get(), a_.get(), b_.get(), kTransposeB, M, N, K, stream);
    }
    void check() override {
        const ReferenceMatmul reference(
            M, N, K, [&](int m, int k) { return a_.values()[size_t(m) * K + k]; },
            [&](int n, int k) { return b_.values()[kTransposeB ? size_t(k) * N + n : size_t(n) * K + k]; });
        expect_close("c", c_, reference.expected, reference.naive, tensor_core_roundings(K));
    }

private:
    const int M, N, K;
    Tensor<T> a_, b_;
    Tensor<float> c_;
};

template <class T>
using Straight = TensorCoreMatmul<T, false>;
template <class T>
using Transposed = TensorCoreMatmul<T, true>;

}  // namespace

void add_ptx_families(std::vector<KernelFamily>& families) {
    const std::vector<Shape> shapes = {{{"M", 64}, {"N", 64}, {"K", 32}}, {{"M", 64}, {"N", 128}, {"K", 160}}};
    families.push_back({"tensor_core_matmul", kNarrowElements, shapes, {}, make_narrow<Straight>, 0, 80});
    families.push_back({"tensor_core_matmul_transposed", kNarrowElements, shapes, {}, make_narrow<Transposed>, 0, 80});
}

}  // namespace kiln::test
