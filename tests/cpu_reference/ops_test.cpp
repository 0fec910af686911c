// Every operation's backward pass against finite differences of its forward pass, at odd sizes, and the forward passes
// against formulas written out in double.
#include "cpu_reference/ops/ops.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu_reference/ops/vector_math.h"
#include "tests/support/finite_differences.h"

using namespace kiln;
using namespace kiln::testing;

namespace {

struct RowsAndColumns {
    int N, C;
};

}  // namespace

TEST(VectorMath, exp_is_within_its_stated_error) {
    double worst = 0;
    for (float x = -87.3f; x < 88.7f; x += 0.001f) {
        const double exact = std::exp(double(x));
        worst = std::max(worst, std::abs(exp_approx(x) - exact) / exact);
    }
    EXPECT_LT(worst, 2e-7);
    EXPECT_EQ(exp_approx(0.0f), 1.0f);
    EXPECT_EQ(exp_approx(-1000.0f), 0.0f);
    EXPECT_EQ(exp_approx(-INFINITY), 0.0f);
    EXPECT_EQ(exp_approx(1000.0f), INFINITY);
    EXPECT_TRUE(std::isnan(exp_approx(NAN)));
}

// 1 - sigmoid(x) in float32 would be off by up to 100 roundings here: x is multiplied by it.
TEST(VectorMath, complement_of_the_sigmoid_keeps_its_digits) {
    for (float x = -100; x < 100; x += 0.01f) {
        const auto [s, complement] = sigmoid_and_complement(x);
        const double bounded = std::max(double(x), -80.0), exact = 1 / (1 + std::exp(-bounded));
        // The exponential is off by 2e-7, which is less than 4 roundings; the sum, the quotient and the product by one.
        EXPECT_NEAR(s, exact, 6 * 0x1p-24 * exact + 1e-34) << x;
        if (x > 87) continue;  // the exponential is 0
        EXPECT_NEAR(complement, 1 / (1 + std::exp(bounded)), 8 * 0x1p-24 / (1 + std::exp(bounded))) << x;
    }
}

TEST(LayerNorm, forward_matches_formula_and_backward_differences) {
    for (const auto [N, C] : {RowsAndColumns{1, 1}, {1, 7}, {5, 33}, {3, 130}}) {
        Floats x = random_floats(size_t(N) * C, 1), w = random_floats(C, 2), b = random_floats(C, 3);
        const Floats dy = random_floats(size_t(N) * C, 4);
        Floats y(x.size()), mean(N), rstd(N), dx = random_floats(x.size(), 5), dw(C, 9.0f), db(C, 9.0f);
        const Floats dx_before = dx;
        const auto forward = [&] {
            layernorm_forward(y.data(), mean.data(), rstd.data(), x.data(), w.data(), b.data(), 1e-2f, N, C);
            return y;
        };
        forward();
        for (int n = 0; n < N; n++) {
            double mu = 0, var = 0;
            for (int c = 0; c < C; c++) mu += double(x[n * C + c]) / C;
            for (int c = 0; c < C; c++) var += std::pow(x[n * C + c] - mu, 2) / C;
            for (int c = 0; c < C; c++) {
                EXPECT_NEAR(y[n * C + c], (x[n * C + c] - mu) / std::sqrt(var + 1e-2) * w[c] + b[c], 2e-6);
            }
        }
        layernorm_backward(dx.data(), dw.data(), db.data(), dy.data(), x.data(), mean.data(), rstd.data(), w.data(), N,
                           C, false);
        for (size_t i = 0; i < dx.size(); i++) dx[i] -= dx_before[i];  // the function adds to dx
        expect_gradient("dx", forward, dy, x, dx, 1e-3);
        expect_gradient("dw", forward, dy, w, dw);
        expect_gradient("db", forward, dy, b, db);
        const Floats once = dw;
        layernorm_backward(dx.data(), dw.data(), db.data(), dy.data(), x.data(), mean.data(), rstd.data(), w.data(), N,
                           C, true);
        for (int c = 0; c < C; c++) EXPECT_FLOAT_EQ(dw[c], 2 * once[c]);
    }
}

TEST(RmsNorm, forward_matches_formula_and_backward_differences) {
    for (const auto [N, C] : {RowsAndColumns{1, 1}, {1, 7}, {5, 33}, {3, 130}}) {
        Floats x = random_floats(size_t(N) * C, 1), w = random_floats(C, 2);
        const Floats dy = random_floats(size_t(N) * C, 4);
        Floats y(x.size()), rstd(N), dx(x.size()), dw(C, 9.0f);
        const auto forward = [&] {
            rmsnorm_forward(y.data(), rstd.data(), x.data(), w.data(), 1e-2f, N, C);
            return y;
        };
        forward();
        for (int n = 0; n < N; n++) {
            double squares = 0;
            for (int c = 0; c < C; c++) squares += std::pow(double(x[n * C + c]), 2) / C;
            for (int c = 0; c < C; c++) {
                EXPECT_NEAR(y[n * C + c], x[n * C + c] / std::sqrt(squares + 1e-2) * w[c], 2e-6);
            }
        }
        rmsnorm_backward(dx.data(), dw.data(), dy.data(), x.data(), rstd.data(), w.data(), N, C, false);
        expect_gradient("dx", forward, dy, x, dx, 1e-3);
        expect_gradient("dw", forward, dy, w, dw);
    }
}

TEST(QkNorm, backward_matches_differences) {
    const int N = 3, NH = 4, NKV = 2, HS = 6, QKV = (NH + 2 * NKV) * HS;
    Floats x = random_floats(N * QKV, 1), q = random_floats(HS, 2), k = random_floats(HS, 3);
    const Floats dy = random_floats(N * QKV, 4);
    Floats raw(N * (NH + NKV) * HS), rstd(N * (NH + NKV)), dq(HS), dk(HS), dx = dy;
    const auto forward = [&] {
        Floats y = x;
        qk_norm_forward(y.data(), raw.data(), rstd.data(), q.data(), k.data(), 1e-2f, N, NH, NKV, HS);
        return y;
    };
    const Floats y = forward();
    for (int n = 0; n < N; n++) {  // v passes unchanged
        for (int c = (NH + NKV) * HS; c < QKV; c++) EXPECT_EQ(y[n * QKV + c], x[n * QKV + c]);
    }
    qk_norm_backward(dx.data(), dq.data(), dk.data(), raw.data(), rstd.data(), q.data(), k.data(), N, NH, NKV, HS,
                     false);
    expect_gradient("dx", forward, dy, x, dx, 1e-3);
    expect_gradient("dq", forward, dy, q, dq);
    expect_gradient("dk", forward, dy, k, dk);
}

TEST(Rope, rotates_pairs_half_a_head_apart_and_back) {
    ModelConfig c = parse_model("llama:dim=24,heads=4,kv_heads=2,theta=50");
    const int B = 2, T = 5, HS = c.HS, half = HS / 2, first = 3;
    const Floats table = rope_table(c, T + first);
    const Floats x = random_floats(size_t(B) * T * c.QKV(), 1);
    Floats y = x;
    rope(y.data(), table.data(), first, B, T, c.NH, c.NKV, HS, false);
    for (int n = 0; n < B * T; n++) {
        for (int h = 0; h < c.NH + 2 * c.NKV; h++) {
            for (int i = 0; i < half; i++) {
                const size_t low = size_t(n) * c.QKV() + h * HS + i, high = low + half;
                const double angle = h < c.NH + c.NKV ? (first + n % T) * std::pow(50.0, -2.0 * i / HS) : 0.0;
                EXPECT_NEAR(y[low], x[low] * std::cos(angle) - x[high] * std::sin(angle), 1e-6);
                EXPECT_NEAR(y[high], x[high] * std::cos(angle) + x[low] * std::sin(angle), 1e-6);
            }
        }
    }
    rope(y.data(), table.data(), first, B, T, c.NH, c.NKV, HS, true);  // a rotation: its transpose is its inverse
    for (size_t i = 0; i < x.size(); i++) EXPECT_NEAR(y[i], x[i], 1e-6);
}

TEST(Rope, llama3_scaling_slows_low_frequencies_only) {
    const ModelConfig plain = parse_model("llama:dim=128,heads=1,theta=500000");
    ModelConfig scaled = plain;
    scaled.rope_scaling.factor = 8;
    const Floats a = rope_table(plain, 2), b = rope_table(scaled, 2);
    const int half = plain.HS / 2;
    const auto angle = [&](const Floats& t, int i) { return std::atan2(t[(half + i) * 2 + 1], t[(half + i) * 2]); };
    for (int i = 0; i < half; i++) {
        const double frequency = std::pow(500000.0, -2.0 * i / plain.HS), rotations = 8192 * frequency / (2 * M_PI);
        const double ratio = angle(b, i) / angle(a, i);
        const double blend = std::clamp((rotations - 1) / 3, 0.0, 1.0);
        EXPECT_NEAR(ratio, (1 - blend) / 8 + blend, 1e-5) << i;
    }
}

namespace {

struct AttentionCase {
    int B, T, NH, NKV, HS;
    float p = 0;
};

// Attention as the paper writes it, in double, with the mask of dropout drawn anew.
Floats naive_attention(const Floats& qkv, const AttentionCase& s, const Dropout& d) {
    const int stride = (s.NH + 2 * s.NKV) * s.HS;
    Floats out(size_t(s.B) * s.T * s.NH * s.HS);
    for (int b = 0; b < s.B; b++) {
        for (int h = 0; h < s.NH; h++) {
            const int kv = h / (s.NH / s.NKV);
            for (int t = 0; t < s.T; t++) {
                const float* q = &qkv[size_t(b * s.T + t) * stride + h * s.HS];
                std::vector<double> p(t + 1);
                double sum = 0;
                for (int u = 0; u <= t; u++) {
                    const float* k = &qkv[size_t(b * s.T + u) * stride + (s.NH + kv) * s.HS];
                    double dot = 0;
                    for (int c = 0; c < s.HS; c++) dot += double(q[c]) * k[c];
                    sum += p[u] = std::exp(dot / std::sqrt(double(s.HS)));
                }
                for (int c = 0; c < s.HS; c++) {
                    double value = 0;
                    for (int u = 0; u <= t; u++) {
                        const Philox4 words = dropout_words(d.seed, d.stream, d.first_sample + b, d.layer, h, t, u / 4);
                        if (uniform01(words.v[u % 4]) < d.p) continue;
                        const float* v = &qkv[size_t(b * s.T + u) * stride + (s.NH + s.NKV + kv) * s.HS];
                        value += p[u] / sum * v[c] / (1 - d.p);
                    }
                    out[(size_t(b * s.T + t) * s.NH + h) * s.HS + c] = float(value);
                }
            }
        }
    }
    return out;
}

}  // namespace

TEST(Attention, forward_matches_formula_and_backward_differences) {
    const AttentionCase cases[] = {{1, 1, 1, 1, 1},  {2, 5, 3, 3, 4},       {1, 7, 4, 2, 5},
                                   {2, 66, 2, 1, 3}, {2, 6, 4, 1, 6, 0.3f}, {1, 67, 1, 1, 2, 0.5f}};
    for (const AttentionCase& s : cases) {
        const int stride = (s.NH + 2 * s.NKV) * s.HS;
        Dropout d;
        d.p = s.p, d.seed = 11, d.first_sample = 5, d.layer = 2, d.stream = RngStream::dropout_attention;
        Floats qkv = random_floats(size_t(s.B) * s.T * stride, 1, 1.5f);
        Floats out(size_t(s.B) * s.T * s.NH * s.HS), lse(s.B * s.NH * s.T);
        Floats scratch(omp_get_max_threads() * attention_scratch_elems(s.T));
        const Floats dout = random_floats(out.size(), 2);
        const auto forward = [&] {
            attention_forward(out.data(), lse.data(), scratch.data(), qkv.data(), d, s.B, s.T, s.NH, s.NKV, s.HS);
            return out;
        };
        const Floats expected = naive_attention(qkv, s, d);
        forward();
        for (size_t i = 0; i < out.size(); i++) ASSERT_NEAR(out[i], expected[i], 1e-5) << "T " << s.T << " at " << i;
        Floats dqkv(qkv.size(), 9.0f);
        attention_backward(dqkv.data(), scratch.data(), dout.data(), out.data(), qkv.data(), lse.data(), d, s.B, s.T,
                           s.NH, s.NKV, s.HS);
        expect_gradient("dqkv", forward, dout, qkv, dqkv, 5e-4);
    }
}

TEST(Attention, cached_queries_equal_the_whole_sequence) {
    const int T = 71, NH = 4, NKV = 2, HS = 6, stride = (NH + 2 * NKV) * HS, max_T = 80;
    const Floats qkv = random_floats(T * stride, 1, 1.5f);
    Floats out(T * NH * HS), lse(NH * T), scratch(omp_get_max_threads() * attention_scratch_elems(max_T));
    attention_forward(out.data(), lse.data(), scratch.data(), qkv.data(), {}, 1, T, NH, NKV, HS);
    Floats k(NKV * max_T * HS, NAN), v = k;  // what lies beyond the sequence must not be read
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < NKV * HS; i++) {
            const size_t at = (size_t(i / HS) * max_T + t) * HS + i % HS;
            k[at] = qkv[t * stride + NH * HS + i];
            v[at] = qkv[t * stride + (NH + NKV) * HS + i];
        }
    }
    for (const int n : {1, 3, 66, T}) {  // the last n queries, by one and by blocks
        Floats cached(n * NH * HS);
        attention_cached(cached.data(), scratch.data(), &qkv[(T - n) * stride], stride, k.data(), v.data(), n, T, max_T,
                         NH, NKV, HS);
        for (int i = 0; i < n * NH * HS; i++) EXPECT_NEAR(cached[i], out[(T - n) * NH * HS + i], 1e-5) << n;
    }
}

TEST(Linear, forward_and_backward_match_sums_in_double) {
    for (const int N : {1, 2, 3, 4, 5, 70}) {
        const int I = 37, O = 70, stride = 80;
        const Floats x = random_floats(size_t(N) * I, 1), w = random_floats(O * I, 2), b = random_floats(O, 3);
        const Floats dout = random_floats(size_t(N) * stride, 4);
        Floats out(size_t(N) * stride), dx(x.size()), dw(w.size(), 3.0f), db(O, 3.0f);
        linear_forward(out.data(), x.data(), w.data(), b.data(), N, I, O, stride);
        linear_backward(dx.data(), dw.data(), db.data(), dout.data(), x.data(), w.data(), N, I, O, true, stride);
        // Sums of n products below 1: error at most n^2 / 2 * 2^-24, 1.5e-4 for n = 70, a tenth of it in practice.
        for (int n = 0; n < N; n++) {
            for (int o = 0; o < O; o++) {
                double sum = b[o];
                for (int i = 0; i < I; i++) sum += double(x[n * I + i]) * w[o * I + i];
                ASSERT_NEAR(out[n * stride + o], sum, 2e-5) << N;
            }
            for (int i = 0; i < I; i++) {
                double sum = 0;
                for (int o = 0; o < O; o++) sum += double(dout[n * stride + o]) * w[o * I + i];
                ASSERT_NEAR(dx[n * I + i], sum, 2e-5) << N;
            }
        }
        for (int o = 0; o < O; o++) {
            double bias = 3;
            for (int n = 0; n < N; n++) bias += dout[n * stride + o];
            ASSERT_NEAR(db[o], bias, 2e-5) << N;
            for (int i = 0; i < I; i++) {
                double sum = 3;
                for (int n = 0; n < N; n++) sum += double(dout[n * stride + o]) * x[n * I + i];
                ASSERT_NEAR(dw[o * I + i], sum, 2e-5) << N;
            }
        }
        linear_backward(dx.data(), dw.data(), db.data(), dout.data(), x.data(), w.data(), N, I, O, false, stride);
        double sum = 0;
        for (int n = 0; n < N; n++) sum += double(dout[n * stride]) * x[n * I];
        EXPECT_NEAR(dw[0], sum, 2e-5) << "without accumulate the gradient is set";
    }
}

TEST(Linear, a_row_does_not_depend_on_its_companions) {
    const int I = 100, O = 33;
    const Floats x = random_floats(4 * I, 1), w = random_floats(O * I, 2);
    Floats alone(O), together(4 * O);
    linear_forward(together.data(), x.data(), w.data(), nullptr, 4, I, O);
    for (int n = 0; n < 4; n++) {
        linear_forward(alone.data(), &x[n * I], w.data(), nullptr, 1, I, O);
        for (int o = 0; o < O; o++) EXPECT_EQ(alone[o], together[n * O + o]);
    }
}

TEST(Gelu, forward_matches_formula_and_backward_differences) {
    const int N = 3, F = 37;
    Floats x = random_floats(N * F, 1, 6.0f), y(N * F), dx(N * F);
    const Floats dy = random_floats(N * F, 2);
    const auto forward = [&] {
        gelu_forward(y.data(), x.data(), N, F);
        return y;
    };
    forward();
    for (int i = 0; i < N * F; i++) {
        const double u = std::sqrt(2 / M_PI) * (x[i] + 0.044715 * std::pow(double(x[i]), 3));
        EXPECT_NEAR(y[i], 0.5 * x[i] * (1 + std::tanh(u)), 2e-6);
    }
    gelu_backward(dx.data(), dy.data(), x.data(), N, F);
    expect_gradient("dx", forward, dy, x, dx);
}

TEST(SwiGlu, forward_matches_formula_and_backward_differences) {
    const int N = 3, F = 19;
    Floats x = random_floats(N * 2 * F, 1, 6.0f), y(N * F), dx(N * 2 * F);
    const Floats dy = random_floats(N * F, 2);
    const auto forward = [&] {
        swiglu_forward(y.data(), x.data(), N, F);
        return y;
    };
    forward();
    for (int n = 0; n < N; n++) {
        for (int f = 0; f < F; f++) {
            const double gate = x[n * 2 * F + f], up = x[n * 2 * F + F + f];
            EXPECT_NEAR(y[n * F + f], gate / (1 + std::exp(-gate)) * up, 1e-5);
        }
    }
    swiglu_backward(dx.data(), dy.data(), x.data(), N, F);
    expect_gradient("dx", forward, dy, x, dx);
}

TEST(CrossEntropy, loss_and_gradient_match_formula_and_differences) {
    const int N = 4, V = 1030, stride = 1040;  // more than one part of the sum
    const int targets[] = {0, V - 1, -1, 512};
    Floats x = random_floats(N * stride, 1, 4.0f), losses(N);
    for (int n = 0; n < N; n++) std::fill(&x[n * stride + V], &x[(n + 1) * stride - 1] + 1, 100.0f);  // never read
    const Floats weights(N, 0.25f);
    const auto forward = [&] {
        Floats untouched = x;
        cross_entropy(losses.data(), untouched.data(), targets, 0.0f, N, V, stride);
        EXPECT_EQ(untouched, x);
        return losses;
    };
    forward();
    Floats gradient = x;
    cross_entropy(losses.data(), gradient.data(), targets, 0.25f, N, V, stride);
    for (int n = 0; n < N; n++) {
        double sum = 0;
        for (int v = 0; v < V; v++) sum += std::exp(double(x[n * stride + v]));
        EXPECT_NEAR(losses[n], targets[n] < 0 ? 0.0 : std::log(sum) - x[n * stride + targets[n]], 2e-6);
        for (int v = 0; v < V; v++) {
            const double p = std::exp(double(x[n * stride + v])) / sum - (v == targets[n]);
            EXPECT_NEAR(gradient[n * stride + v], targets[n] < 0 ? 0.0 : 0.25 * p, 1e-7);
        }
    }
}

TEST(CrossEntropy, huge_and_broken_logits) {
    Floats x = {1e30f, -1e30f, 0, 0, 1, NAN, 2, 3}, losses(2);
    const int targets[] = {1, 0};
    cross_entropy(losses.data(), x.data(), targets, 1.0f, 2, 4, 4);
    EXPECT_FLOAT_EQ(losses[0], 2e30f);
    EXPECT_FLOAT_EQ(x[0], 1);
    EXPECT_TRUE(std::isnan(losses[1]));  // NaN is reported
}

TEST(Embedding, backward_adds_every_occurrence) {
    const int B = 2, T = 3, C = 70, V = 5;
    const int tokens[] = {4, 1, 4, 4, 0, 1};
    const Floats wte = random_floats(V * C, 1), wpe = random_floats(8 * C, 2), dout = random_floats(B * T * C, 3);
    Floats out(B * T * C), dwte(V * C), dwpe(8 * C);
    embedding_forward(out.data(), tokens, wte.data(), wpe.data(), 2, B, T, C);
    EXPECT_EQ(out[4 * C + 3], wte[0 * C + 3] + wpe[3 * C + 3]);
    embedding_backward(dwte.data(), dwpe.data(), dout.data(), tokens, B, T, C);
    EXPECT_FLOAT_EQ(dwte[4 * C + 69], dout[0 * C + 69] + dout[2 * C + 69] + dout[3 * C + 69]);
    EXPECT_FLOAT_EQ(dwpe[1 * C + 5], dout[1 * C + 5] + dout[4 * C + 5]);
    EXPECT_EQ(dwte[2 * C], 0.0f);
}

TEST(DropoutMask, keeps_its_share_and_scales_it) {
    const int B = 4, T = 50, C = 203;
    const Floats x(B * T * C, 1.0f);
    Floats y(x.size());
    Dropout d;
    d.p = 0.3f, d.seed = 1;
    dropout(y.data(), x.data(), d, B, T, C);
    size_t kept = 0;
    for (const float value : y) {
        EXPECT_FLOAT_EQ(value, value == 0 ? 0 : 1 / 0.7f);
        kept += value != 0;
    }
    // Binomial: five standard deviations.
    const double n = double(y.size());
    EXPECT_NEAR(kept / n, 0.7, 5 * std::sqrt(0.3 * 0.7 / n));
}

TEST(DropoutMask, depends_on_the_sample_not_on_the_batch) {
    const int T = 5, C = 13;
    const Floats x(4 * T * C, 1.0f);
    Floats whole(4 * T * C), half(2 * T * C), other(4 * T * C);
    Dropout d;
    d.p = 0.5f, d.seed = 1, d.first_sample = 100;
    dropout(whole.data(), x.data(), d, 4, T, C);
    Dropout second = d;
    second.first_sample = 102;
    dropout(half.data(), x.data(), second, 2, T, C);
    EXPECT_TRUE(std::equal(half.begin(), half.end(), whole.begin() + 2 * T * C));
    for (auto change : {+[](Dropout& e) { e.seed = 2; }, +[](Dropout& e) { e.layer = 1; },
                        +[](Dropout& e) { e.site = 1; }, +[](Dropout& e) { e.stream = RngStream::dropout_embedding; },
                        +[](Dropout& e) { e.first_sample += uint64_t(1) << 32; }}) {
        Dropout changed = d;
        change(changed);
        dropout(other.data(), x.data(), changed, 4, T, C);
        EXPECT_NE(other, whole);
    }
}

TEST(DropoutMask, zero_probability_adds_the_branch_unchanged) {
    const Floats a = random_floats(30, 1), b = random_floats(30, 2);
    Floats out(30);
    residual_forward(out.data(), a.data(), b.data(), {}, 2, 3, 5);
    for (int i = 0; i < 30; i++) EXPECT_EQ(out[i], a[i] + b[i]);
}

TEST(AdamW, two_steps_match_the_formula_in_double) {
    const size_t n = 133;
    Floats p = random_floats(n, 1), m(n), v(n);
    std::vector<double> p2(p.begin(), p.end()), m2(n), v2(n);
    const double lr = 0.01, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0.1, scale = 0.5;
    for (int t = 1; t <= 2; t++) {
        const Floats g = random_floats(n, 10 + t);
        const double c1 = 1 - std::pow(beta1, t), c2 = 1 - std::pow(beta2, t);
        adamw(p.data(), m.data(), v.data(), g.data(),
              {float(lr), float(beta1), float(beta2), float(eps), float(decay), float(c1), float(c2)}, float(scale), n);
        for (size_t i = 0; i < n; i++) {
            const double gradient = scale * g[i];
            m2[i] = beta1 * m2[i] + (1 - beta1) * gradient;
            v2[i] = beta2 * v2[i] + (1 - beta2) * gradient * gradient;
            p2[i] -= lr * (m2[i] / c1 / (std::sqrt(v2[i] / c2) + eps) + decay * p2[i]);
            ASSERT_NEAR(p[i], p2[i], 1e-6) << t;
        }
    }
}

TEST(UpdateParams, leaves_frozen_parameters_alone) {
    const MappedArray p(4, "parameters"), g(4, "gradients"), states[] = {{4, "moment1"}, {4, "moment2"}};
    std::fill_n(p.data(), 4, 1.0f);
    std::fill_n(g.data(), 4, 1.0f);
    const TensorSpec table[] = {{"frozen", -1, {1, 2}, Init::ones, ParamGroup::matrix, 0, false},
                                {"trained", -1, {1, 2}, Init::ones, ParamGroup::matrix, 2, true}};
    update_params(Optimizer::adamw, table, p, g, states, {.lr = 0.1f});
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(p.data()[i], 1.0f);
        EXPECT_EQ(states[0].data()[i], 0.0f);
        EXPECT_LT(p.data()[2 + i], 0.95f);
    }
}

TEST(GradientNorm, sums_squares_in_double_and_shows_what_is_not_finite) {
    Floats x(40000, 1e30f);  // squares overflow a float
    EXPECT_NEAR(sum_of_squares(x.data(), x.size()) / 4e64, 1, 1e-6);
    x[39999] = NAN;
    EXPECT_TRUE(std::isnan(sum_of_squares(x.data(), x.size())));
    x[39999] = INFINITY;
    EXPECT_TRUE(std::isinf(sum_of_squares(x.data(), x.size())));
    EXPECT_EQ(sum_of_squares(x.data(), 0), 0.0);
}
