// Cases of cuda/kernels/dropout.cu.
#include <gtest/gtest.h>

#include "cpu_reference/ops/ops.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"

namespace kiln::test {
namespace {

template <class T_, bool kResidual>
class DropoutCase : public KernelCase {
public:
    explicit DropoutCase(const Shape& shape)
        : B(dim(shape, "B")),
          T(dim(shape, "T")),
          C(dim(shape, "C")),
          dropout_{dim(shape, "percent") / 100.0f, kSeed, kFirstSample, RngStream::dropout_residual, 3, 1},
          in_place_(dim(shape, "in_place")),
          elems_(size_t(B) * T * C),
          x_(random_values(elems_, 1)),
          residual_(random_values(kResidual ? elems_ : 0, 2)),
          out_(elems_) {
        bytes = (kResidual ? 3.0 : 2.0) * double(elems_) * sizeof(T_);
    }
    void launch(cudaStream_t stream) override {
        T_* const out = in_place_ ? x_.get() : out_.get();
        if constexpr (kResidual) {
            residual_forward(out, residual_.get(), x_.get(), dropout_, B, T, C, stream);
        } else {
            dropout(out, x_.get(), dropout_, B, T, C, stream);
        }
    }
    void check() override {
        std::vector<float> expected(elems_);
        if (kResidual) {
            kiln::residual_forward(expected.data(), residual_.values().data(), x_.values().data(), dropout_, B, T, C);
        } else {
            kiln::dropout(expected.data(), x_.values().data(), dropout_, B, T, C);
        }
        const Tensor<T_>& out = in_place_ ? x_ : out_;
        expect_close("out", out, expected);
        if (kResidual) return;
        // The mask must be the same in every element.
        const std::vector<float> actual = out.read();
        for (size_t i = 0; i < elems_; ++i) ASSERT_EQ(actual[i] == 0, expected[i] == 0) << i;
    }

private:
    static constexpr uint64_t kSeed = 0xfedcba9876543210, kFirstSample = (uint64_t(1) << 33) + 5;
    const int B, T, C;
    const Dropout dropout_;
    const bool in_place_;
    const size_t elems_;
    Tensor<T_> x_, residual_, out_;
};

template <class T>
using DropoutAlone = DropoutCase<T, false>;
template <class T>
using DropoutResidual = DropoutCase<T, true>;

}  // namespace

void add_dropout_families(std::vector<KernelFamily>& families) {
    const auto shape = [](int B, int T, int C, int percent, int in_place) {
        return Shape{{"B", B}, {"T", T}, {"C", C}, {"percent", percent}, {"in_place", in_place}};
    };
    const std::vector<Shape> small = {shape(1, 1, 8, 50, 0), shape(3, 5, 40, 10, 0), shape(2, 7, 776, 30, 1),
                                      shape(2, 1, 64, 0, 0), shape(1, 3, 72, 99, 1)};
    const std::vector<Shape> real = {shape(64, 1024, 768, 10, 0), shape(16, 1024, 1600, 10, 0),
                                     shape(2, 4096, 4096, 10, 0)};
    families.push_back({"dropout", kAllElements, small, real, make<DropoutAlone>});
    families.push_back({"residual_forward", kAllElements, small, real, make<DropoutResidual>});
}

}  // namespace kiln::test
