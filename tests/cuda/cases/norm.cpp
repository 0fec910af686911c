// Cases of cuda/kernels/norm.cu.
#include <cmath>

#include "cpu_reference/ops/ops.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"
#include "tests/cuda/cases/rows.h"

namespace kiln::test {
namespace {

// Values around 1, so that the mean is not near 0 and a variance computed as E[x^2] - mean^2 is inaccurate.
Values off_centre(size_t elems, unsigned salt) {
    Values values = random_values(elems, salt);
    for (float& value : values.period) value += 1;
    return values;
}

template <class T, bool kLayerNorm, bool kResidual>
class NormForward : public KernelCase, Rows {
public:
    explicit NormForward(const Shape& shape)
        : Rows(shape),
          x_(off_centre(elems(), 1)),
          branch_(random_values(elems(), 2)),
          w_(random_values(C, 3)),
          b_(random_values(C, 4)),
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
                                       w_.get(), b_.get(), kNormEps, N, C, stream);
        } else if constexpr (kLayerNorm) {
            layernorm_forward(y_.get(), mean_.get(), rstd_.get(), x_.get(), w_.get(), b_.get(), kNormEps, N, C, stream);
        } else if constexpr (kResidual) {
            residual_rmsnorm_forward(sum_.get(), y_.get(), rstd_.get(), x_.get(), branch_.get(), w_.get(), kNormEps, N,
                                     C, stream);
        } else {
            rmsnorm_forward(y_.get(), rstd_.get(), x_.get(), w_.get(), kNormEps, N, C, stream);
        }
    }
    void check() override {
        // The norm takes the rounded sum, which the backward pass reads.
        std::vector<float> s = x_.values();
        if constexpr (kResidual) {
            for (size_t i = 0; i < s.size(); ++i) s[i] += branch_.values()[i];
            expect_close("sum", sum_, s);
            s = rounded<T>(s);
        }
        // A reference built without vectors adds the C terms of a row one after another: a random walk of C roundings.
        // This is twice its deviation.
        const double terms = 8 + 2 * std::sqrt(double(C));
        std::vector<float> y(elems()), mean(N), rstd(N);
        if constexpr (kLayerNorm) {
            kiln::layernorm_forward(y.data(), mean.data(), rstd.data(), s.data(), w_.values().data(),
                                    b_.values().data(), kNormEps, N, C);
            expect_close("mean", mean_, mean, terms);
        } else {
            kiln::rmsnorm_forward(y.data(), rstd.data(), s.data(), w_.values().data(), kNormEps, N, C);
        }
        expect_close("y", y_, y, terms);
        expect_close("rstd", rstd_, rstd, terms);
    }

private:
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
    // A row of up to 1024 elements of 16 bits has a warp, one of up to 16384 (8192 of 32 bits) a block; then a longer
    // one.
    const std::vector<Shape> small = {
        rows(1, 8), rows(5, 64), rows(33, 40), rows(7, 768), rows(3, 1032), rows(2, 8200), rows(1, 16392),
    };
    families.push_back({"rmsnorm_forward", kAllElements, small, kRealRows, make<RmsNormForward>});
    families.push_back({"layernorm_forward", kAllElements, small, kRealRows, make<LayerNormForward>});
    families.push_back({"residual_rmsnorm_forward", kAllElements, small, kRealRows, make<ResidualRmsNormForward>});
    families.push_back({"residual_layernorm_forward", kAllElements, small, kRealRows, make<ResidualLayerNormForward>});
}

}  // namespace kiln::test
