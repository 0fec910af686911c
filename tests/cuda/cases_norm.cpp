// Cases of cuda/norm.cu.
#include <cmath>

#include "cpu_reference/ops.h"
#include "cuda/kernels.h"
#include "tests/cuda/cases.h"

namespace kiln::test {
namespace {

constexpr float kEps = 1e-5f;

// Around 1, so that a mean is no small difference of large sums, and E[x^2] - mean^2 is no variance.
std::vector<float> off_centre(size_t elems, unsigned salt) {
    std::vector<float> values = random_values(elems, salt);
    for (float& value : values) value += 1;
    return values;
}

template <class T, bool kLayerNorm, bool kResidual>
class NormForward : public KernelCase {
public:
    explicit NormForward(const Shape& shape)
        : N(dim(shape, "N")),
          C(dim(shape, "C")),
          x_(elems(), off_centre(elems(), 1)),
          branch_(elems(), random_values(elems(), 2)),
          w_(C, random_values(C, 3)),
          b_(C, random_values(C, 4)),
          sum_(kResidual ? elems() : 0),
          y_(elems()),
          mean_(kLayerNorm ? N : 0),
          rstd_(N) {
        bytes = (kResidual ? 4.0 : 2.0) * N * C * sizeof(T) + (kLayerNorm ? 8.0 : 4.0) * N +
                (kLayerNorm ? 2.0 : 1.0) * C * sizeof(T);
    }
    void launch(cudaStream_t stream) override {
        if constexpr (kLayerNorm && kResidual) {
            residual_layernorm_forward(sum_.get(), y_.get(), mean_.get(), rstd_.get(), x_.get(), branch_.get(),
                                       w_.get(), b_.get(), kEps, N, C, stream);
        } else if constexpr (kLayerNorm) {
            layernorm_forward(y_.get(), mean_.get(), rstd_.get(), x_.get(), w_.get(), b_.get(), kEps, N, C, stream);
        } else if constexpr (kResidual) {
            residual_rmsnorm_forward(sum_.get(), y_.get(), rstd_.get(), x_.get(), branch_.get(), w_.get(), kEps, N, C,
                                     stream);
        } else {
            rmsnorm_forward(y_.get(), rstd_.get(), x_.get(), w_.get(), kEps, N, C, stream);
        }
    }
    void check() override {
        // The backward pass reads the rounded sum, so the norm is of that.
        std::vector<float> s = x_.values();
        if constexpr (kResidual) {
            for (size_t i = 0; i < s.size(); ++i) s[i] += branch_.values()[i];
            expect_close("sum", sum_, s);
            s = rounded<T>(s);
        }
        // The reference may add the C terms of a row one after another, built without vectors: a random walk of as many
        // roundings, each at the size of the sum so far. Twice its deviation.
        const double terms = 8 + 2 * std::sqrt(double(C));
        std::vector<float> y(elems()), mean(N), rstd(N);
        if constexpr (kLayerNorm) {
            kiln::layernorm_forward(y.data(), mean.data(), rstd.data(), s.data(), w_.values().data(),
                                    b_.values().data(), kEps, N, C);
            expect_close("mean", mean_, mean, terms);
        } else {
            kiln::rmsnorm_forward(y.data(), rstd.data(), s.data(), w_.values().data(), kEps, N, C);
        }
        expect_close("y", y_, y, terms);
        expect_close("rstd", rstd_, rstd, terms);
    }

private:
    size_t elems() const { return size_t(N) * C; }
    const int N, C;
    Tensor<T> x_, branch_, w_, b_, sum_, y_;
    Tensor<float> mean_, rstd_;
};
template <class T>
using RmsNormForward = NormForward<T, false, false>;
template <class T>
using LayerNormForward = NormForward<T, true, false>;
template <class T>
using ResidualRmsNormForward = NormForward<T, false, true>;
template <class T>
using ResidualLayerNormForward = NormForward<T, true, true>;

}  // namespace

void add_norm_families(std::vector<KernelFamily>& families) {
    // A warp a row up to 1024 elements of 16 bits, a block up to 16384 (8192 of 32), then the widest.
    const std::vector<Shape> small = {
        {{"N", 1}, {"C", 8}},    {{"N", 5}, {"C", 64}},   {{"N", 33}, {"C", 40}},   {{"N", 7}, {"C", 768}},
        {{"N", 3}, {"C", 1032}}, {{"N", 2}, {"C", 8200}}, {{"N", 1}, {"C", 16392}},
    };
    const std::vector<Shape> real = {{{"N", 65536}, {"C", 768}},
                                     {{"N", 16384}, {"C", 1600}},
                                     {{"N", 32768}, {"C", 896}},
                                     {{"N", 8192}, {"C", 4096}}};
    families.push_back({"rmsnorm_forward", kAllElements, small, real, make<RmsNormForward>});
    families.push_back({"layernorm_forward", kAllElements, small, real, make<LayerNormForward>});
    families.push_back({"residual_rmsnorm_forward", kAllElements, small, real, make<ResidualRmsNormForward>});
    families.push_back({"residual_layernorm_forward", kAllElements, small, real, make<ResidualLayerNormForward>});
}

}  // namespace kiln::test
