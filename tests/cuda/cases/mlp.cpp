// Cases of cuda/kernels/mlp.cu.
#include <gtest/gtest.h>

#include "cpu_reference/ops/ops.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"
#include "tests/cuda/cases/rows.h"

namespace kiln::test {
namespace {

// Half of the values lie in [-1, 1], where the gate is between 0 and 1; the others in [-10, 10], where it is near
// either.
Values wide_values(size_t elems, unsigned salt) {
    Values values = random_values(elems, salt);
    for (size_t i = 1; i < values.period.size(); i += 2) values.period[i] *= 10;
    return values;
}

// In roundings of float32 at the size of the largest value. With the bounds of __expf (2 + 1.173 |x| ulps, an ulp is
// two roundings) and __fdividef (2 ulps), and four roundings of GELU's argument, the results are off by at most 8
// forward and 16 backward, where |x| is about 1; the reference is off by as much as its own exponential, a sixth of
// that.
constexpr double kTerms = 20;

template <class T, bool kSwiglu>
class MlpForward : public KernelCase {
public:
    explicit MlpForward(const Shape& shape)
        : N(dim(shape, "N")), F(dim(shape, "F")), fc_(wide_values(size_t(N) * F * kParts, 1)), act_(size_t(N) * F) {
        bytes = (kParts + 1.0) * N * F * sizeof(T);
    }
    void launch(cudaStream_t stream) override {
        (kSwiglu ? kiln::swiglu_forward<T> : kiln::gelu_forward<T>)(act_.get(), fc_.get(), N, F, stream);
    }
    void check() override {
        std::vector<float> act(act_.size());
        if constexpr (kSwiglu) {
            kiln::swiglu_forward(act.data(), fc_.values().data(), N, F);
        } else {
            kiln::gelu_forward(act.data(), fc_.values().data(), N, F);
        }
        expect_close("act", act_, act, kTerms);
    }

private:
    static constexpr int kParts = kSwiglu ? 2 : 1;
    const int N, F;
    Tensor<T> fc_, act_;
};
template <class T>
using GeluForward = MlpForward<T, false>;
template <class T>
using SwigluForward = MlpForward<T, true>;

template <class T>
class SwigluBackward : public KernelCase {
public:
    explicit SwigluBackward(const Shape& shape)
        : N(dim(shape, "N")),
          F(dim(shape, "F")),
          fc_(wide_values(size_t(N) * F * 2, 1)),
          dact_(random_values(size_t(N) * F, 2)),
          dfc_(fc_.size()) {
        bytes = 5.0 * N * F * sizeof(T);
    }
    void launch(cudaStream_t stream) override { swiglu_backward(dfc_.get(), dact_.get(), fc_.get(), N, F, stream); }
    void check() override {
        std::vector<float> dfc(dfc_.size());
        kiln::swiglu_backward(dfc.data(), dact_.values().data(), fc_.values().data(), N, F);
        expect_close("dfc", dfc_, dfc, kTerms);
        swiglu_backward(fc_.get(), dact_.get(), fc_.get(), N, F, nullptr);
        CUDA_CHECK(cudaDeviceSynchronize());
        expect_close("dfc in the place of fc", fc_, dfc, kTerms);
    }

private:
    const int N, F;
    Tensor<T> fc_, dact_, dfc_;
};

template <class T, class G>
class GeluBackward : public KernelCase {
public:
    explicit GeluBackward(const Shape& shape)
        : N(dim(shape, "N")),
          F(dim(shape, "F")),
          fc_(wide_values(size_t(N) * F, 1)),
          dact_(random_values(size_t(N) * F, 2)),
          dfc_(fc_.size()),
          db_(random_values(F, 3)),
          scratch_(bias_backward_scratch_floats(N, F)) {
        bytes = 3.0 * N * F * sizeof(T);
    }
    void launch(cudaStream_t stream) override { run(dfc_, {db_.get(), true}, stream); }
    void check() override {
        std::vector<float> dfc(dfc_.size());
        kiln::gelu_backward(dfc.data(), dact_.values().data(), fc_.values().data(), N, F);
        compare("dfc and db +=", dfc_, dfc, bias_gradient(db_.values(), dfc));
        const Tensor<T> without_bias(dfc_.size());
        run(without_bias, {}, nullptr);
        run(fc_, {db_.get(), false}, nullptr);
        CUDA_CHECK(cudaDeviceSynchronize());
        EXPECT_EQ(without_bias.read(), dfc_.read());
        compare("dfc in the place of fc and db =", fc_, dfc, bias_gradient(std::vector<float>(F), dfc));
    }

private:
    void run(const Tensor<T>& dfc, const BiasGradient<G>& bias, cudaStream_t stream) {
        gelu_backward(dfc.get(), bias, scratch_.get(), dact_.get(), fc_.get(), N, F, stream);
    }
    void compare(const std::string& what, const Tensor<T>& dfc, const std::vector<float>& expected,
                 const std::vector<float>& db) {
        expect_close(what, dfc, expected, kTerms);
        // The N terms of a sum have errors of their own.
        expect_close(what, db_, db, kTerms * N);
        scratch_.expect_sentinel("scratch");
    }
    const int N, F;
    Tensor<T> fc_, dact_, dfc_;
    Tensor<G> db_;
    Tensor<float> scratch_;
};
template <class T>
using GeluBackwardToFloat = GeluBackward<T, float>;
template <class T>
using GeluBackwardToSame = GeluBackward<T, T>;

}  // namespace

void add_mlp_families(std::vector<KernelFamily>& families) {
    // A block takes 512 packs, 2048 or 4096 elements; backward of GELU, 128 or 256 columns and a chunk of at least 32
    // rows.
    const std::vector<Shape> small = {{{"N", 1}, {"F", 8}},
                                      {{"N", 3}, {"F", 24}},
                                      {{"N", 1}, {"F", 4096}},
                                      {{"N", 7}, {"F", 1032}},
                                      {{"N", 65}, {"F", 136}}};
    // GPT-2 124M and 1558M; Qwen2.5 0.5B and Llama 3 8B.
    const std::vector<Shape> gelu = {{{"N", 65536}, {"F", 3072}}, {{"N", 16384}, {"F", 6400}}};
    const std::vector<Shape> swiglu = {{{"N", 32768}, {"F", 4864}}, {{"N", 8192}, {"F", 14336}}};
    families.push_back({"gelu_forward", kAllElements, small, gelu, make<GeluForward>});
    families.push_back({"gelu_backward", kAllElements, small, gelu, make<GeluBackwardToSame>});
    families.push_back({"gelu_backward_float_gradient", kNarrowElements, small, gelu, make<GeluBackwardToFloat>});
    families.push_back({"swiglu_forward", kAllElements, small, swiglu, make<SwigluForward>});
    families.push_back({"swiglu_backward", kAllElements, small, swiglu, make<SwigluBackward>});
}

}  // namespace kiln::test
