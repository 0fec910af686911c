// Cases of cuda/kernels/loss.cu.
#include <gtest/gtest.h>

#include <cmath>

#include "cpu_reference/ops/ops.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"

namespace kiln::test {
namespace {

constexpr float kScale = 0.25f, kFactor = 1.5f;

int padded(int V) {
    return (V + 127) / 128 * 128;
}

// kGradient 0: only losses; 1: with the gradient; 2: with a scale that is multiplied by a factor in device memory.
template <class T, int kGradient>
class CrossEntropy : public KernelCase {
public:
    explicit CrossEntropy(const Shape& shape)
        : N(dim(shape, "N")),
          V(dim(shape, "V")),
          Vp(padded(V)),
          logits_(random_values(size_t(N) * Vp, 1, 6)),
          targets_(targets()),
          factor_(std::vector{kFactor}),
          losses_(N) {
        bytes = double(N) * (kGradient ? V + Vp : V) * sizeof(T) + 8.0 * N;
    }
    void launch(cudaStream_t stream) override {
        cross_entropy(losses_.get(), logits_.get(), targets_.get(), kGradient ? kScale : 0.0f,
                      kGradient == 2 ? factor_.get() : nullptr, N, V, Vp, stream);
    }
    void check() override {
        const float scale = kGradient == 0 ? 0 : kGradient == 1 ? kScale : kScale * kFactor;
        std::vector<float> expected = logits_.values(), losses(N);
        std::vector<int> targets(N);
        for (int n = 0; n < N; ++n) targets[n] = int(targets_.values()[n]);
        kiln::cross_entropy(losses.data(), expected.data(), targets.data(), scale, N, V, Vp);
        // Each thread adds up a 32nd of the row or less; the reference's exponential has an error of three units.
        const double terms = 8 + V / 32 % 256;
        expect_close("losses", losses_, losses, terms);
        logits_.expect_sentinel("logits");
        const std::vector<float> actual = logits_.read();
        if (kGradient == 0) return expect_close("logits", actual, expected, expected, 0);
        // The target's column is by far the largest and would allow too large errors in the other columns.
        std::vector<float> at_target, at_target_expected, others, others_expected;
        for (int n = 0; n < N; ++n) {
            for (int v = 0; v < Vp; ++v) {
                const size_t i = size_t(n) * Vp + v;
                if (v >= V) {
                    ASSERT_EQ(actual[i], 0) << "padding of row " << n << ", column " << v;
                } else {
                    (v == targets[n] ? at_target : others).push_back(actual[i]);
                    (v == targets[n] ? at_target_expected : others_expected).push_back(expected[i]);
                }
            }
        }
        expect_close("gradient at the targets", at_target, at_target_expected, rounded<T>(at_target_expected), terms);
        expect_close("gradient", others, others_expected, rounded<T>(others_expected), terms);
    }

private:
    // Ignored targets, the first column, the last, and one between.
    std::vector<float> targets() const {
        std::vector<float> all(N);
        for (int n = 0; n < N; ++n) all[n] = float(n % 4 == 1 ? -1 : n % 4 == 2 ? 0 : n % 4 == 3 ? V - 1 : V * 2 / 3);
        return all;
    }
    const int N, V, Vp;
    Tensor<T> logits_;
    Tensor<int> targets_;
    Tensor<float> factor_, losses_;
};
template <class T>
using CrossEntropyLoss = CrossEntropy<T, 0>;
template <class T>
using CrossEntropyGradient = CrossEntropy<T, 1>;
template <class T>
using CrossEntropyFactor = CrossEntropy<T, 2>;

// Of four targets, one lies in the padding and one beyond the logits: their rows are NaN, and no other.
template <class T>
class CrossEntropyWrongTarget : public KernelCase {
public:
    explicit CrossEntropyWrongTarget(const Shape& shape)
        : V(dim(shape, "V")),
          Vp(padded(V)),
          logits_(random_values(size_t(kRows) * Vp, 1, 6)),
          targets_(std::vector<float>{0, float(V), 1 << 30, float(V - 1)}),
          losses_(kRows) {}
    void launch(cudaStream_t stream) override {
        cross_entropy(losses_.get(), logits_.get(), targets_.get(), kScale, nullptr, kRows, V, Vp, stream);
    }
    void check() override {
        const std::vector<float> losses = losses_.read(), gradient = logits_.read();
        for (int n = 0; n < kRows; ++n) {
            const bool wrong = n == 1 || n == 2;
            EXPECT_EQ(std::isnan(losses[n]), wrong) << "loss " << n;
            for (int v = 0; v < Vp; ++v) {
                ASSERT_EQ(std::isnan(gradient[size_t(n) * Vp + v]), wrong) << "row " << n << ", column " << v;
            }
        }
        losses_.expect_sentinel("losses");
        logits_.expect_sentinel("logits");
    }

private:
    static constexpr int kRows = 4;
    const int V, Vp;
    Tensor<T> logits_;
    Tensor<int> targets_;
    Tensor<float> losses_;
};

class SumLosses : public KernelCase {
public:
    explicit SumLosses(const Shape& shape) : N(dim(shape, "N")), losses_(random_values(N, 1)), sum_(1) {
        bytes = 4.0 * N;
    }
    void launch(cudaStream_t stream) override { sum_losses(sum_.get(), losses_.get(), N, stream); }
    void check() override {
        double sum = 0, magnitude = 0;
        for (const float loss : losses_.values()) {
            sum += loss;
            magnitude += std::abs(loss);
        }
        sum_.expect_sentinel("sum");
        EXPECT_NEAR(sum_.read()[0], sum, 0x1p-24 * magnitude * (10 + N / 1024));
    }

private:
    const int N;
    Tensor<float> losses_, sum_;
};

}  // namespace

void add_loss_families(std::vector<KernelFamily>& families) {
    // A row of 120001 logits is too long for shared memory in every type.
    const std::vector<Shape> small = {{{"N", 1}, {"V", 1}},    {{"N", 5}, {"V", 8}},      {{"N", 4}, {"V", 131}},
                                      {{"N", 3}, {"V", 5003}}, {{"N", 1}, {"V", 120001}}, {{"N", 4}, {"V", 1024}}};
    const std::vector<Shape> few = {{{"N", 4}, {"V", 300}}};
    const std::vector<Shape> real = {{{"N", 8192}, {"V", 50257}},
                                     {{"N", 4096}, {"V", 128256}},
                                     {{"N", 4096}, {"V", 151936}},
                                     {{"N", 65536}, {"V", 8192}}};
    families.push_back({"cross_entropy", kAllElements, small, real, make<CrossEntropyGradient>});
    families.push_back({"cross_entropy_loss_alone", kAllElements, few, {real[0]}, make<CrossEntropyLoss>});
    families.push_back({"cross_entropy_with_factor", kAllElements, few, {}, make<CrossEntropyFactor>});
    families.push_back({"cross_entropy_wrong_target", kAllElements, {{{"V", 131}}}, {}, make<CrossEntropyWrongTarget>});
    families.push_back({"sum_losses",
                        {Element::float32},
                        {{{"N", 1}}, {{"N", 33}}, {{"N", 5000}}},
                        {{{"N", 65536}}},
                        [](Element, const Shape& shape) { return std::make_unique<SumLosses>(shape); }});
}

}  // namespace kiln::test
