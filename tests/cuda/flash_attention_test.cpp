// Flash attention against finite differences, next to a sequence of infinities, and with several numbers of blocks at
// once. cases/flash_attention.cpp compares it with a reference.
#include <gtest/gtest.h>

#include <cmath>

#include "cuda/kernels/kernels.h"
#include "tests/cuda/kernel_case.h"
#include "tests/cuda/needs.h"
#include "tests/cuda/schedules.h"

namespace kiln::test {
namespace {

struct Dims {
    int B, T, NH, NKV, HS;
    AttentionMask mask = {};
    Dropout d = {};
    size_t tokens() const { return size_t(B) * size_t(T); }
    size_t row() const { return size_t(NH + 2 * NKV) * size_t(HS); }
};

// The forward pass, then the backward pass on its results.
template <class E>
struct Passes {
    Passes(const Dims& s, const std::vector<float>& inputs, const std::vector<float>& gradients)
        : qkv(inputs),
          dout(gradients),
          out(gradients.size()),
          dqkv(qkv.size()),
          lse(s.tokens() * size_t(s.NH)),
          scratch(flash_attention_scratch_floats(s.B, s.T, s.NH, s.NKV, s.HS, false)) {
        const Stream stream;
        flash_attention_forward(out.get(), lse.get(), qkv.get(), s.mask, s.d, s.B, s.T, s.NH, s.NKV, s.HS, stream);
        flash_attention_backward(dqkv.get(), BiasGradient<float>{}, scratch.get(), dout.get(), out.get(), qkv.get(),
                                 lse.get(), s.mask, s.d, s.B, s.T, s.NH, s.NKV, s.HS, stream, 0);
        stream.synchronize();
    }
    Tensor<E> qkv, dout, out, dqkv;
    Tensor<float> lse, scratch;
};

using Doubles = std::vector<double>;

// The sum of dout * out of one sequence, in float64. terms (of qkv's shape), unless null, += the absolute values of the
// terms of each gradient: P dout for values; scale P (|dP| + 2 sum |dout out|) times the other operand for q and k.
double loss(const Dims& s, const Doubles& qkv, const Doubles& dout, Doubles* terms) {
    const int HS = s.HS;
    const double scale = 1 / std::sqrt(double(HS));
    const auto at = [&](int t, int head) { return size_t(t) * s.row() + size_t(head) * size_t(HS); };
    double sum = 0;
    for (int h = 0; h < s.NH; ++h) {
        const int key = s.NH + h / (s.NH / s.NKV), value = key + s.NKV;
        for (int q = 0; q < s.T; ++q) {
            const int first = s.mask.window > 0 ? std::max(q - s.mask.window + 1, 0) : 0;
            const double* const d = &dout[(size_t(q) * size_t(s.NH) + size_t(h)) * size_t(HS)];
            Doubles p, dp;
            double total = 0, out = 0, size_of_out = 0;
            for (int k = first; k <= q; ++k) {
                double dot = 0, of_value = 0;
                for (int c = 0; c < HS; ++c) {
                    dot += qkv[at(q, h) + size_t(c)] * qkv[at(k, key) + size_t(c)];
                    of_value += d[c] * qkv[at(k, value) + size_t(c)];
                }
                p.push_back(std::exp(dot * scale));
                dp.push_back(of_value);
                total += p.back();
            }
            for (size_t i = 0; i < p.size(); ++i) out += p[i] / total * dp[i];
            sum += out;
            if (!terms) continue;
            for (int c = 0; c < HS; ++c) {
                double element = 0;
                for (size_t i = 0; i < p.size(); ++i)
                    element += p[i] / total * qkv[at(first + int(i), value) + size_t(c)];
                size_of_out += std::abs(d[c] * element);
            }
            for (size_t i = 0; i < p.size(); ++i) {
                const int k = first + int(i);
                const double probability = p[i] / total, ds = scale * probability * (std::abs(dp[i]) + 2 * size_of_out);
                for (int c = 0; c < HS; ++c) {
                    const size_t n = size_t(c);
                    (*terms)[at(q, h) + n] += ds * std::abs(qkv[at(k, key) + n]);
                    (*terms)[at(k, key) + n] += ds * std::abs(qkv[at(q, h) + n]);
                    (*terms)[at(k, value) + n] += probability * std::abs(d[c]);
                }
            }
        }
    }
    return sum;
}

// dqkv must be the slope of sum(dout * out). The kernel rounds to E each term of its sums once, as P or dS, and also
// out, from which it computes delta, and the gradient itself.
template <class E>
void expect_slopes(const Dims& s, double unit) {
    const Passes<E> run(s, random_values(s.tokens() * s.row(), 1, 1.5f),
                        random_values(s.tokens() * size_t(s.NH * s.HS), 2));
    Doubles qkv(run.qkv.values().begin(), run.qkv.values().end());
    const Doubles dout(run.dout.values().begin(), run.dout.values().end());
    const std::vector<float> actual = run.dqkv.read();
    Doubles terms(qkv.size());
    loss(s, qkv, dout, &terms);
    constexpr double kStep = 1e-4;  // gives an error of about 1e-8; that of float64 is a thousandth of it
    for (size_t i = 0; i < qkv.size(); ++i) {
        const double x = qkv[i];
        qkv[i] = x + kStep;
        const double above = loss(s, qkv, dout, nullptr);
        qkv[i] = x - kStep;
        const double slope = (above - loss(s, qkv, dout, nullptr)) / (2 * kStep);
        qkv[i] = x;
        ASSERT_NEAR(actual[i], slope, unit * (terms[i] + std::abs(slope)) + 1e-6) << "dqkv[" << i << "]";
    }
}

std::vector<uint64_t> bits_of(const Dims& s) {
    std::vector<uint64_t> bits;
    const std::vector<float> inputs = random_values(s.tokens() * s.row(), 1, 2.5f),
                             gradients = random_values(s.tokens() * size_t(s.NH * s.HS), 2);
    const Passes<__nv_bfloat16> run(s, inputs, gradients);
    for (const Tensor<__nv_bfloat16>* tensor : {&run.out, &run.dqkv}) {
        for (const __nv_bfloat16 x : tensor->raw()) bits.push_back(__bfloat16_as_ushort(x));
    }
    return bits;
}

class FlashAttention : public testing::Test {
protected:
    void SetUp() override { KILN_SKIP_BELOW(80); }
};

TEST_F(FlashAttention, gradients_are_the_slopes_of_finite_differences) {
    for (const Dims& s : {Dims{1, 5, 2, 1, 32}, Dims{1, 9, 2, 2, 32, {nullptr, 3}}, Dims{1, 4, 2, 2, 96}}) {
        KILN_IF_FLOAT16(expect_slopes<__half>(s, 0x1p-11);)
        expect_slopes<__nv_bfloat16>(s, 0x1p-8);
    }
}

// Rows of a tile beyond its sequence must be zeros, not rows of the next sequence: 0 times infinity would be NaN.
TEST_F(FlashAttention, a_sequence_of_infinities_does_not_change_the_one_before) {
    for (const int HS : {64, 96, 256}) {
        const Dims two{2, 70, 2, 1, HS}, one{1, 70, 2, 1, HS};
        std::vector<float> inputs = random_values(two.tokens() * two.row(), 1, 2.5f),
                           gradients = random_values(two.tokens() * size_t(two.NH * HS), 2);
        std::fill(inputs.begin() + ptrdiff_t(one.tokens() * one.row()), inputs.end(), INFINITY);
        std::fill(gradients.begin() + ptrdiff_t(one.tokens() * size_t(one.NH * HS)), gradients.end(), INFINITY);
        const Passes<__nv_bfloat16> both(two, inputs, gradients);
        inputs.resize(one.tokens() * one.row());
        gradients.resize(one.tokens() * size_t(one.NH * HS));
        const Passes<__nv_bfloat16> alone(one, inputs, gradients);
        const auto expect_same = [&](const char* name, const std::vector<float>& all, const std::vector<float>& first) {
            for (size_t i = 0; i < first.size(); ++i) {
                ASSERT_EQ(all[i], first[i]) << name << "[" << i << "], HS " << HS;
            }
        };
        expect_same("out", both.out.read(), alone.out.read());
        expect_same("dqkv", both.dqkv.read(), alone.dqkv.read());
    }
}

// Blocks of one head add to dQ one after the other. With more blocks at once than cores, a block can be interrupted
// anywhere while others run.
TEST_F(FlashAttention, ten_runs_give_equal_bits_however_many_blocks_run_at_once) {
    for (const Dims& s : {Dims{1, 600, 2, 1, 32}, Dims{1, 530, 1, 1, 64, {nullptr, 200}}, Dims{1, 150, 1, 1, 256}}) {
        const auto first = bits_of(s);
        for (const unsigned workers : {1, 3, 4, 6, 8, 1, 5, 3, 2}) {
            set_workers(workers);
            ASSERT_EQ(bits_of(s), first) << workers << " blocks at once, T " << s.T;
        }
    }
}

}  // namespace
}  // namespace kiln::test
