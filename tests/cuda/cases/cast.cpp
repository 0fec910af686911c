// Cases of cuda/kernels/cast.cu.
#include <gtest/gtest.h>

#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"

namespace kiln::test {
namespace {

template <class From, class To>
class Cast : public KernelCase {
public:
    explicit Cast(const Shape& shape) : n_(size_t(dim(shape, "n"))), in_(values(n_)), out_(n_) {
        bytes = double(n_) * (sizeof(From) + sizeof(To));
    }
    void launch(cudaStream_t stream) override { cast(out_.get(), in_.get(), n_, stream); }
    void check() override {
        const std::vector<float> expected = rounded<To>(in_.values()), actual = out_.read();
        for (size_t i = 0; i < n_; ++i) {
            const bool both_nan = actual[i] != actual[i] && expected[i] != expected[i];
            ASSERT_TRUE(actual[i] == expected[i] || both_nan) << i << ": " << actual[i] << ", expected " << expected[i];
        }
        out_.expect_sentinel("out");
    }

private:
    // Values of many magnitudes, infinities and NaN.
    static Values values(size_t n) {
        Values values = random_values(n, 1, 3);
        std::vector<float>& some = values.period;
        for (size_t i = 0; i < some.size(); ++i) some[i] *= std::ldexp(1.0f, int(i % 43) - 26);
        if (n > 20) some[7] = INFINITY, some[9] = -INFINITY, some[11] = NAN, some[14] = 1e-30f;
        return values;
    }
    const size_t n_;
    Tensor<From> in_;
    Tensor<To> out_;
};

template <class T>
class Add : public KernelCase {
public:
    explicit Add(const Shape& shape)
        : n_(size_t(dim(shape, "n"))), in_(random_values(n_, 1, 3)), out_(random_values(n_, 2, 3)) {
        bytes = 3 * double(n_) * sizeof(T);
    }
    void launch(cudaStream_t stream) override { add(out_.get(), in_.get(), n_, stream); }
    void check() override {
        const std::vector<float> a = rounded<T>(in_.values()), b = rounded<T>(out_.values()), actual = out_.read();
        for (size_t i = 0; i < n_; ++i) ASSERT_EQ(actual[i], to_float(from_float<T>(a[i] + b[i]))) << i;
        out_.expect_sentinel("out");
    }

private:
    const size_t n_;
    Tensor<T> in_, out_;
};

template <class T>
using CastFromFloat = Cast<float, T>;
template <class T>
using CastToFloat = Cast<T, float>;

}  // namespace

void add_cast_families(std::vector<KernelFamily>& families) {
    const std::vector<Shape> small = {{{"n", 1}}, {{"n", 8}}, {{"n", 4099}}, {{"n", 12288}}};
    const std::vector<Shape> real = {{{"n", 124475904}}, {{"n", 1557611200}}, {{"n", 38597376}}};
    families.push_back({"cast_from_float", kNarrowElements, small, real, make_narrow<CastFromFloat>});
    families.push_back({"cast_to_float", kNarrowElements, small, real, make_narrow<CastToFloat>});
    families.push_back({"add", kAllElements, small, real, make<Add>});
}

}  // namespace kiln::test
