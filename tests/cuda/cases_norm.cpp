// Cases of cuda/norm.cu.
#include "cpu_reference/ops.h"
#include "cuda/kernels.h"
#include "tests/cuda/cases.h"

namespace kiln::test {
namespace {

constexpr float kEps = 1e-5f;

template <class T>
class RmsNormForward : public KernelCase {
public:
    explicit RmsNormForward(const Shape& shape)
        : N(dim(shape, "N")),
          C(dim(shape, "C")),
          x_(size_t(N) * C, random_values(size_t(N) * C, 1)),
          w_(C, random_values(C, 2)),
          y_(size_t(N) * C),
          rstd_(N) {
        bytes = 2.0 * N * C * sizeof(T) + 4.0 * N;
    }
    void launch(cudaStream_t stream) override {
        rmsnorm_forward(y_.get(), rstd_.get(), x_.get(), w_.get(), kEps, N, C, stream);
    }
    void check() override {
        std::vector<float> y(y_.size()), rstd(N);
        kiln::rmsnorm_forward(y.data(), rstd.data(), x_.values().data(), w_.values().data(), kEps, N, C);
        expect_close("y", y_, y);
        expect_close("rstd", rstd_, rstd);
    }

private:
    const int N, C;
    Tensor<T> x_, w_, y_;
    Tensor<float> rstd_;
};

}  // namespace

void add_norm_families(std::vector<KernelFamily>& families) {
    const std::vector<Shape> small = {
        {{"N", 1}, {"C", 8}}, {{"N", 5}, {"C", 64}}, {{"N", 3}, {"C", 1032}}, {{"N", 130}, {"C", 40}}};
    const std::vector<Shape> real = {
        {{"N", 65536}, {"C", 768}}, {{"N", 16384}, {"C", 1600}}, {{"N", 8192}, {"C", 4096}}};
    families.push_back({"rmsnorm_forward", kAllElements, small, real, make<RmsNormForward>});
}

}  // namespace kiln::test
