// Flash attention with inputs at the limits of what its launchers accept.
#include <gtest/gtest.h>

#include <climits>
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/kernel_case.h"
#include "tests/cuda/needs.h"
#include "tests/cuda/schedules.h"

namespace kiln::test {
namespace {

using E = __nv_bfloat16;

struct Results {
    std::vector<float> out, lse, dqkv;
};

// Forward and backward pass on one input, with a window and, unless empty, the mask `first_keys`.
struct Problem {
    int B = 1, T = 1, NH = 1, NKV = 1, HS = 32, window = 0;
    std::vector<float> qkv = {}, dout = {};
    std::vector<int> first_keys = {};

    int stride() const { return (NH + 2 * NKV) * HS; }
    size_t tokens() const { return size_t(B) * T; }
    // Element c of head h. Heads are queries, then keys, then values.
    float& at(int b, int t, int h, int c) { return qkv[(size_t(b) * T + t) * stride() + h * HS + c]; }
    void fill_random(uint64_t seed) {
        qkv = random_values(tokens() * stride(), seed);
        dout = random_values(tokens() * NH * HS, seed + 1);
    }

    Results run() const {
        const Stream stream;
        const Tensor<E> in(qkv), of_out(dout), out(dout.size()), gradient(qkv.size());
        const Tensor<float> lse(tokens() * NH), scratch(flash_attention_scratch_floats(B, T, NH, NKV, HS, false));
        const DeviceBuffer<int> firsts = on_device(first_keys);
        const AttentionMask mask{firsts.get(), window};
        flash_attention_forward(out.get(), lse.get(), in.get(), mask, Dropout{}, B, T, NH, NKV, HS, stream);
        flash_attention_backward(gradient.get(), BiasGradient<float>{}, scratch.get(), of_out.get(), out.get(),
                                 in.get(), lse.get(), mask, Dropout{}, B, T, NH, NKV, HS, stream);
        stream.synchronize();
        out.expect_sentinel("out");
        lse.expect_sentinel("lse");
        gradient.expect_sentinel("dqkv");
        scratch.expect_sentinel("scratch");
        return {out.read(), lse.read(), gradient.read()};
    }
};

std::string refusal(int B, int T, int NH, int NKV, int HS, int window, bool backward) {
    E* const none = nullptr;
    const AttentionMask mask{nullptr, window};
    try {
        if (backward) {
            flash_attention_backward(none, BiasGradient<float>{}, nullptr, none, none, none, nullptr, mask, Dropout{},
                                     B, T, NH, NKV, HS, nullptr);
        } else {
            flash_attention_forward(none, nullptr, none, mask, Dropout{}, B, T, NH, NKV, HS, nullptr);
        }
    } catch (const Error& error) {
        return error.what();
    }
    return "none";
}

class FlashAttentionEdges : public testing::Test {
protected:
    void SetUp() override { KILN_SKIP_BELOW(80); }
};

TEST_F(FlashAttentionEdges, shapes_without_a_meaning_are_refused) {
    for (const bool backward : {false, true}) {
        const auto expect = [&](int B, int T, int NH, int NKV, int HS, int window, const std::string& part) {
            const std::string message = refusal(B, T, NH, NKV, HS, window, backward);
            EXPECT_NE(message.find(part), message.npos) << message << ", not " << part;
            EXPECT_NE(message.find(backward ? "flash_attention_backward" : "flash_attention_forward"), message.npos);
        };
        expect(1, 0, 1, 1, 64, 0, "T 0");
        expect(0, 5, 1, 1, 64, 0, "B 0");
        expect(-1, 5, 1, 1, 64, 0, "B -1");
        expect(1, 5, 4, 3, 64, 0, "NKV 3");
        expect(1, 5, 2, 4, 64, 0, "NKV 4");
        expect(1, 5, 4, 0, 64, 0, "NKV 0");
        expect(1, 5, 0, 1, 64, 0, "NH 0");
        expect(1, 5, 1, 1, 64, -1, "a window of -1");
        expect(1, INT_MAX, 1, 1, 64, 0, "T must be below 2^30");
        for (const int HS : {0, -64, 16, 48, 65, 192, 512}) expect(1, 5, 1, 1, HS, 0, concat("HS ", HS));
        expect(1 << 20, 1 << 20, 64, 64, 64, 0, "more blocks than a grid can have");
    }
    EXPECT_THROW(flash_attention_scratch_floats(1, 5, 1, 1, 48, false), Error);
}

// The first keys of a sequence fall, come after their query, are negative or random. Its results may be anything, but
// the launch must end, and the next sequence must have its correct results.
TEST_F(FlashAttentionEdges, malformed_first_keys_neither_hang_nor_reach_another_sequence) {
    Problem p{.B = 2, .T = 400};
    p.fill_random(1);
    Problem alone = p;
    alone.B = 1;
    alone.qkv.erase(alone.qkv.begin(), alone.qkv.begin() + p.qkv.size() / 2);
    alone.dout.erase(alone.dout.begin(), alone.dout.begin() + p.dout.size() / 2);
    for (int t = 0; t < p.T; ++t) alone.first_keys.push_back(t / 60 * 60);
    const Results right = alone.run();
    std::mt19937 rng(3);
    const std::function<int(int)> malformed[] = {
        [&](int t) { return p.T - 1 - t; },
        [&](int) { return int(rng() % (2 * p.T)) - p.T / 2; },
        [&](int t) { return t % 3 == 0   ? INT_MIN
                            : t % 3 == 1 ? INT_MAX
                                         : -t; },
        [&](int t) { return t / 64 % 2 == 0 ? t : 0; },
    };
    for (const auto& first_key : malformed) {
        p.first_keys.clear();
        for (int t = 0; t < p.T; ++t) p.first_keys.push_back(first_key(t));
        p.first_keys.insert(p.first_keys.end(), alone.first_keys.begin(), alone.first_keys.end());
        for_each_schedule([&] {
            const Results now = p.run();
            const auto second = [](const std::vector<float>& x) {
                return std::vector<float>(x.begin() + x.size() / 2, x.end());
            };
            EXPECT_EQ(second(now.out), right.out);
            EXPECT_EQ(second(now.lse), right.lse);
            EXPECT_EQ(second(now.dqkv), right.dqkv);
        });
    }
}

// With equal keys, out is the mean of the values, and lse the score plus the logarithm of the number of keys.
TEST_F(FlashAttentionEdges, equal_scores_give_the_mean) {
    for (const float key : {0.0f, 1.0f, -200.0f}) {
        Problem p{.T = 150, .HS = 64};
        p.fill_random(4);
        for (int t = 0; t < p.T; ++t) {
            for (int c = 0; c < p.HS; ++c) {
                p.at(0, t, 0, c) = key == 0 ? 0 : 1;
                p.at(0, t, 1, c) = key;
                p.at(0, t, 2, c) = float(c % 2 == 0 ? t : -1);
            }
        }
        const Results r = p.run();
        for (int t = 0; t < p.T; ++t) {
            const float score = key * 8;
            EXPECT_NEAR(r.lse[t], score + std::log(t + 1.0f), 0x1p-22f * (8 + std::abs(score))) << t;
            // Values up to 256 are exact in bfloat16; probabilities are all rounded alike, and so is the sum.
            EXPECT_NEAR(r.out[t * 64], t / 2.0f, 0x1p-8f * t) << t;
            EXPECT_NEAR(r.out[t * 64 + 1], -1.0f, 0x1p-7f) << t;
        }
        if (key != 0) continue;
        for (int t = 0; t < p.T; ++t) {
            for (int c = 0; c < 2 * p.HS; ++c) EXPECT_EQ(r.dqkv[t * p.stride() + c], 0.0f) << "queries and keys are 0";
        }
    }
}

TEST_F(FlashAttentionEdges, one_token_and_a_window_of_one_copy_the_value) {
    for (const int T : {1, 2, 130}) {
        Problem p{.B = 2, .T = T, .NH = 2, .NKV = 1, .HS = 80, .window = T == 1 ? 0 : 1};
        p.fill_random(5);
        const Results r = p.run();
        for (int b = 0; b < p.B; ++b) {
            for (int t = 0; t < T; ++t) {
                for (int h = 0; h < p.NH; ++h) {
                    for (int c = 0; c < p.HS; ++c) {
                        const size_t token = size_t(b) * T + t, at = (token * p.NH + h) * p.HS + c;
                        const float value = p.at(b, t, p.NH + p.NKV + h / 2, c);
                        ASSERT_EQ(r.out[at], rounded<E>({value})[0]);
                    }
                }
            }
        }
    }
}

// A NaN or infinity makes the rows that see it not finite. Other sequences and key heads keep their bits; if it is in a
// query, other rows do too.
TEST_F(FlashAttentionEdges, values_that_are_not_finite_reach_only_rows_that_see_them) {
    Problem clean{.B = 2, .T = 100, .NH = 4, .NKV = 2};
    clean.fill_random(6);
    const Results right = clean.run();
    const int token = 77, HS = clean.HS;
    for (const int part : {0, 1, 2}) {  // query head 2, key head 1, its values
        for (const float bad : {NAN, INFINITY}) {
            SCOPED_TRACE(concat("part ", part, ", ", bad));
            Problem p = clean;
            const int head = part == 0 ? 2 : part == 1 ? p.NH + 1 : p.NH + p.NKV + 1;
            for (int c = 0; c < HS; ++c) p.at(1, token, head, c) = bad;
            const Results r = p.run();
            for (int b = 0; b < p.B; ++b) {
                for (int t = 0; t < p.T; ++t) {
                    for (int h = 0; h < p.NH; ++h) {
                        const bool same_head = part == 0 ? h == 2 : h / 2 == 1;
                        const bool sees = b == 1 && same_head && (part == 0 ? t == token : t >= token);
                        // Rows of the same tile that do not see it may be NaN, because 0 * NaN and 0 * infinity are.
                        const bool may = b == 1 && same_head && part != 0;
                        for (int c = 0; c < HS; ++c) {
                            const size_t at = ((size_t(b) * p.T + t) * p.NH + h) * HS + c;
                            // The score of an infinite key may be minus infinity, which has probability 0.
                            if (sees && (part == 2 || std::isnan(bad))) {
                                ASSERT_FALSE(std::isfinite(r.out[at])) << t << ' ' << h << ' ' << c;
                            } else if (!sees && !may) {
                                ASSERT_EQ(r.out[at], right.out[at]) << b << ' ' << t << ' ' << h << ' ' << c;
                            }
                        }
                    }
                    for (int h = 0; h < p.NH + 2 * p.NKV; ++h) {
                        const int kv = h < p.NH ? h / 2 : (h - p.NH) % 2;
                        for (int c = 0; c < HS && (b != 1 || kv != 1); ++c) {
                            const size_t at = (size_t(b) * p.T + t) * p.stride() + h * HS + c;
                            ASSERT_EQ(r.dqkv[at], right.dqkv[at]) << b << ' ' << t << ' ' << h << ' ' << c;
                        }
                    }
                }
            }
        }
    }
}

// A sequence much longer than those of the other tests.
TEST_F(FlashAttentionEdges, a_million_tokens_with_a_window_of_one) {
    Problem p{.T = 1 << 20, .window = 1};
    if (is_emulated()) p.T = 3'001;
    p.fill_random(7);
    const Results r = p.run();
    const std::vector<float> values = rounded<E>(p.qkv), gradients = rounded<E>(p.dout);
    for (int t = 0; t < p.T; ++t) {
        for (int c = 0; c < p.HS; ++c) {
            const size_t value = size_t(t) * p.stride() + 2 * p.HS + c;
            ASSERT_EQ(r.out[size_t(t) * p.HS + c], values[value]) << t;
            ASSERT_EQ(r.dqkv[value], gradients[size_t(t) * p.HS + c]) << t;
        }
    }
}

}  // namespace
}  // namespace kiln::test
