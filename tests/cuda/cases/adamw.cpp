// Cases of cuda/kernels/adamw.cu.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu_reference/ops/ops.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/rounding.cuh"
#include "tests/cuda/cases/cases.h"

namespace kiln::test {
namespace {

template <class T>
T read_one(const T* device) {
    T value;
    CUDA_CHECK(cudaMemcpy(&value, device, sizeof(T), cudaMemcpyDeviceToHost));
    return value;
}

// The sum, the flag and the factor. If the shape's `bad` is 1 or 2, a gradient is infinite or NaN; if 3 or 4, a loss
// is.
template <class T>
class SumOfSquares : public KernelCase {
public:
    explicit SumOfSquares(const Shape& shape)
        : n_(size_t(dim(shape, "n"))),
          bad_(dim(shape, "bad")),
          x_(values(n_, bad_)),
          losses_(values(kLosses, bad_ - 2)),
          sum_(1),
          scale_(1),
          norm_(1),
          scratch_(sum_of_squares_scratch_floats()),
          non_finite_(1) {
        bytes = double(n_) * sizeof(T);
    }
    void launch(cudaStream_t stream) override {
        sum_of_squares(sum_.get(), scratch_.get(), x_.get(), n_, stream);
        gradient_scale(GradientScale{scale_.get(), norm_.get(), non_finite_.get(), sum_.get(), losses_.get(), kLosses,
                                     kScale, kMaxNorm},
                       stream);
    }
    void check() override {
        for (Tensor<float>* tensor : {&sum_, &scale_, &norm_, &scratch_}) tensor->expect_sentinel("outputs");
        ASSERT_EQ(read_one(non_finite_.get()), bad_ != 0);
        if (bad_ == 1 || bad_ == 2) return;
        const double sum = kiln::sum_of_squares(x_.values().data(), n_), norm = kScale * std::sqrt(sum);
        // Each of the 1056 * 256 * 4 running sums has few terms; 16 levels of trees and 5 additions follow.
        expect_close("sum", sum_, {float(sum)}, 32);
        expect_close("norm", norm_, {float(norm)}, 32);
        expect_close("scale", scale_, {float(norm > kMaxNorm ? kScale * kMaxNorm / norm : kScale)}, 32);
    }

private:
    static constexpr int kLosses = 300;  // more than the threads of a block
    static constexpr float kScale = 0.25f, kMaxNorm = 3;
    static Values values(size_t n, int bad) {
        Values values = random_values(n, 1);
        if (bad == 1 || bad == 2) values.period.back() = bad == 1 ? INFINITY : NAN;
        return values;
    }
    const size_t n_;
    const int bad_;
    Tensor<T> x_;
    const Tensor<float> losses_;
    Tensor<float> sum_, scale_, norm_, scratch_;
    DeviceBuffer<int> non_finite_;
};

// Two steps of an arena. The bits must equal those of the same formula on the host, which is compared with the
// reference.
template <class T, class G, class M, bool kMaster>
class AdamW : public KernelCase {
public:
    explicit AdamW(const Shape& shape)
        : n_(size_t(dim(shape, "n"))),
          skip_(dim(shape, "skip")),
          switches_(switches_of(n_, dim(shape, "switches"))),
          params_(random_values(n_, 1)),
          master_(random_values(kMaster ? n_ : 0, 1)),
          m_(random_values(n_, 2, 0.1f)),
          v_(squares(n_)),
          grads_(random_values(n_, 4, 2)),
          scale_(std::vector{0.75f}),
          device_switches_(on_device(switches_)),
          non_finite_(on_device(std::vector{skip_})) {
        bytes = double(n_) * (sizeof(G) + 4 * sizeof(M) + (kMaster ? 8 + sizeof(T) : 2 * sizeof(T)));
    }
    void launch(cudaStream_t stream) override {
        adamw(AdamWArena<T, G, M>{.params = params_.get(),
                                  .master = kMaster ? master_.get() : nullptr,
                                  .m = m_.get(),
                                  .v = v_.get(),
                                  .grads = grads_.get(),
                                  .n = n_,
                                  .decay_switches = device_switches_.get(),
                                  .switches = int(switches_.size()),
                                  .grad_scale = scale_.get(),
                                  .non_finite = non_finite_.get()},
              kStep, {.seed = kSeed, .step = 7, .first_element = kFirst}, stream);
    }
    void check() override {
        State state{bits<T>(params_), kMaster ? master_.values() : params_.values(), bits<M>(m_), bits<M>(v_)};
        compare(state);
        launch_and_wait();
        compare(state);
    }

private:
    static constexpr uint64_t kSeed = 0x123456789abcdef, kFirst = (uint64_t(1) << 34) + 8;
    static constexpr AdamWStepSize kStep = {0.01f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.271f, 0.142625f};
    struct State {
        std::vector<T> params;
        std::vector<float> master;
        std::vector<M> m, v;
    };

    static Values squares(size_t n) {
        Values values = random_values(n, 3, 0.3f);
        for (float& value : values.period) value *= value;
        return values;
    }
    // The initial values as they are on the device.
    template <class U>
    static std::vector<U> bits(const Tensor<U>& tensor) {
        std::vector<U> bits(tensor.size());
        std::transform(tensor.values().begin(), tensor.values().end(), bits.begin(), from_float<U>);
        return bits;
    }
    // Some are close together, some in the middle of a block, some at its end.
    static std::vector<size_t> switches_of(size_t n, int count) {
        std::vector<size_t> all;
        for (int i = 0; i < count; ++i) all.push_back((n * (i / 2) / count + i % 2 * 8) / 8 * 8);
        return all;
    }
    bool decays(size_t element) const {
        return (std::upper_bound(switches_.begin(), switches_.end(), element) - switches_.begin()) % 2 == 0;
    }

    // Takes `e` a step further.
    void compare(State& e) {
        const float one_minus_beta1 = 1.0f - kStep.beta1, one_minus_beta2 = 1.0f - kStep.beta2;
        // The reference for all elements, with weight decay and without.
        std::vector<float> reference_p[2], old_m(n_), old_v(n_);
        for (size_t i = 0; i < n_; ++i) {
            old_m[i] = to_float(e.m[i]);
            old_v[i] = to_float(e.v[i]);
        }
        for (const bool decayed : {false, true}) {
            std::vector<float> m = old_m, v = old_v;
            reference_p[decayed] = e.master;
            AdamWStepSize size = kStep;
            if (!decayed) size.weight_decay = 0;
            kiln::adamw(reference_p[decayed].data(), m.data(), v.data(), grads_.values().data(), size, 0.75f, n_);
        }
        for (size_t i = 0; i < n_ && !skip_; ++i) {
            const float weight_decay = decays(i) ? kStep.weight_decay : 0.0f;
            const float g = 0.75f * grads_.values()[i];
            const float m = std::fma(kStep.beta1, old_m[i], one_minus_beta1 * g);
            const float v = std::fma(kStep.beta2, old_v[i], one_minus_beta2 * g * g);
            const float change = kStep.lr / kStep.correction1 * m /
                                 std::fma(std::sqrt(v), 1.0f / std::sqrt(kStep.correction2), kStep.eps);
            const float p = e.master[i] - std::fma(kStep.lr * weight_decay, e.master[i], change);
            ASSERT_NEAR(p, reference_p[decays(i)][i], 1e-6) << i;
            const uint64_t element4 = (kFirst + i) / 4;
            const uint32_t moment_word = rounding_words(kSeed, 7, Rounded::moments, element4).v[i % 4];
            const uint32_t word = rounding_words(kSeed, 7, Rounded::params, element4).v[i % 4];
            e.m[i] = round_stochastically<M>(m, moment_word);
            e.v[i] = round_stochastically<M>(v, moment_word << 16);
            e.params[i] = kMaster ? from_float<T>(p) : round_stochastically<T>(p, word);
            e.master[i] = kMaster ? p : to_float(e.params[i]);
        }
        expect_same("params", params_, e.params);
        expect_same("m", m_, e.m);
        expect_same("v", v_, e.v);
        if (kMaster) expect_same("master", master_, e.master);
    }
    template <class U>
    static void expect_same(const char* name, const Tensor<U>& actual, const std::vector<U>& expected) {
        const std::vector<U> raw = actual.raw();
        for (size_t i = 0; i < raw.size(); ++i) {
            ASSERT_EQ(std::memcmp(&raw[i], &expected[i], sizeof(U)), 0)
                << name << "[" << i << "]: " << to_float(raw[i]) << ", expected " << to_float(expected[i]);
        }
        actual.expect_sentinel(name);
    }

    const size_t n_;
    const int skip_;
    const std::vector<size_t> switches_;
    Tensor<T> params_;
    Tensor<float> master_;
    Tensor<M> m_, v_;
    Tensor<G> grads_;
    Tensor<float> scale_;
    DeviceBuffer<size_t> device_switches_;
    DeviceBuffer<int> non_finite_;
};

template <class T>
using AdamWMaster = AdamW<T, float, float, true>;
template <class T>
using AdamWStochastic = AdamW<T, T, float, false>;
template <class T>
using AdamWMasterNarrow = AdamW<T, T, __nv_bfloat16, true>;
template <class T>
using AdamWStochasticNarrow = AdamW<T, float, __nv_bfloat16, false>;

// Results are the two neighbours of x, and their mean is x within five standard deviations.
template <class T>
void expect_mean(float x) {
    constexpr int kDraws = 40000;
    const float nearest = to_float(from_float<T>(x)), gap = std::abs(x - nearest);
    double sum = 0, least = INFINITY, greatest = -INFINITY;
    for (int i = 0; i < kDraws / 4; ++i) {
        const Philox4 words = rounding_words(3, 5, Rounded::params, i);
        for (const uint32_t word : words.v) {
            const double drawn = to_float(round_stochastically<T>(x, word));
            sum += drawn;
            least = std::min(least, drawn);
            greatest = std::max(greatest, drawn);
        }
    }
    SCOPED_TRACE(x);
    EXPECT_LE(least, x);
    EXPECT_GE(greatest, x);
    EXPECT_TRUE(least == nearest || greatest == nearest);
    EXPECT_NEAR(sum / kDraws, x, 5 * 0.5 * (greatest - least) / std::sqrt(double(kDraws)) + 1e-4 * (greatest - least));
    EXPECT_EQ(gap == 0, greatest == least);
}

TEST(StochasticRounding, mean_of_many_draws_is_the_number) {
    for (const float x : {1.0f, 1.001f, -0.3f, 3.14159f, 1e-3f, -65000.0f}) {
        expect_mean<__nv_bfloat16>(x);
        expect_mean<__half>(x);
    }
    for (const float x : {1e-6f, -6.0e-5f, 3e-8f, 6.1034e-5f, 0.0f}) expect_mean<__half>(x);
}

TEST(StochasticRounding, infinities_and_nan_stay_so) {
    for (const uint32_t random : {0u, ~0u}) {
        for (const float x : {INFINITY, -INFINITY}) {
            EXPECT_EQ(to_float(round_stochastically<__nv_bfloat16>(x, random)), x);
            EXPECT_EQ(to_float(round_stochastically<__half>(x, random)), x);
        }
        EXPECT_TRUE(std::isnan(to_float(round_stochastically<__nv_bfloat16>(NAN, random))));
        EXPECT_TRUE(std::isnan(to_float(round_stochastically<__half>(NAN, random))));
        EXPECT_EQ(to_float(round_stochastically<__half>(1e6f, random)), INFINITY);
    }
}

}  // namespace

void add_adamw_families(std::vector<KernelFamily>& families) {
    const auto sum = [](int n, int bad) { return Shape{{"n", n}, {"bad", bad}}; };
    families.push_back({"sum_of_squares",
                        kAllElements,
                        {sum(1, 0), sum(8, 0), sum(5, 2), sum(70003, 0), sum(16384, 1), sum(9, 3), sum(9, 4)},
                        {sum(124475904, 0), sum(1557611200, 0)},
                        make<SumOfSquares>});
    const auto arena = [](int n, int switches, int skip) {
        return Shape{{"n", n}, {"switches", switches}, {"skip", skip}};
    };
    const std::vector<Shape> small = {arena(8, 0, 0), arena(2056, 8, 0), arena(4096, 300, 0), arena(1032, 5, 1)};
    const std::vector<Shape> real = {arena(124475904, 98, 0), arena(1557611200, 386, 0)};
    families.push_back({"adamw_master", kAllElements, small, real, make<AdamWMaster>});
    families.push_back({"adamw_stochastic", kAllElements, small, real, make<AdamWStochastic>});
    families.push_back({"adamw_master_bfloat16_moments", kAllElements, small, real, make<AdamWMasterNarrow>});
    families.push_back({"adamw_stochastic_bfloat16_moments", kAllElements, small, real, make<AdamWStochasticNarrow>});
}

}  // namespace kiln::test
