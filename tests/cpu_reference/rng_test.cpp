#include "cpu_reference/interface/rng.h"
#include "cpu_reference/interface/dropout.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <tuple>
#include <vector>

using namespace kiln;

TEST(Philox, matches_the_known_answers_of_random123) {
    // kat_vectors of the authors' library: philox4x32 10.
    const Philox4 zero = philox4x32(0, 0, 0, 0, 0);
    EXPECT_EQ(zero.v[0], 0x6627e8d5u);
    EXPECT_EQ(zero.v[1], 0xe169c58du);
    EXPECT_EQ(zero.v[2], 0xbc57ac4cu);
    EXPECT_EQ(zero.v[3], 0x9b00dbd8u);
    const Philox4 ones = philox4x32(~uint64_t(0), ~0u, ~0u, ~0u, ~0u);
    EXPECT_EQ(ones.v[0], 0x408f276du);
    EXPECT_EQ(ones.v[1], 0x41c83b0eu);
    EXPECT_EQ(ones.v[2], 0xa20bc7c6u);
    EXPECT_EQ(ones.v[3], 0x6d5451fdu);
}

TEST(Philox, uniform_and_normal_have_their_moments) {
    const int n = 200000;
    double sum = 0, squares = 0, normal_sum = 0, normal_squares = 0;
    for (int i = 0; i < n; i++) {
        const Philox4 words = philox4x32(3, uint32_t(i), 0, 0, 0);
        const float u = uniform01(words.v[0]);
        ASSERT_TRUE(u >= 0 && u < 1);
        sum += u, squares += double(u) * u;
        float x, y;
        normal2(words.v[1], words.v[2], &x, &y);
        ASSERT_TRUE(std::isfinite(x) && std::isfinite(y));
        normal_sum += x + y, normal_squares += double(x) * x + double(y) * y;
    }
    // Five standard errors of each.
    EXPECT_NEAR(sum / n, 0.5, 5 / std::sqrt(12.0 * n));
    EXPECT_NEAR(squares / n, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
    EXPECT_NEAR(normal_sum / (2 * n), 0, 5 / std::sqrt(2.0 * n));
    EXPECT_NEAR(normal_squares / (2 * n), 1, 5 * std::sqrt(2.0 / (2 * n)));
}

TEST(Philox, normal_is_finite_at_the_ends_of_its_range) {
    float x, y;
    for (const uint32_t a : {0u, 255u, ~0u}) {
        normal2(a, a, &x, &y);
        EXPECT_TRUE(std::isfinite(x) && std::isfinite(y)) << a;
    }
}

TEST(Philox, threshold_compares_as_the_uniform_number_does) {
    for (const float p : {0.0f, 0x1p-26f, 0x1p-24f, 0.1f, 0.25f, 0.3f, 0.5f, 0.9f, 1 - 0x1p-24f}) {
        const uint32_t threshold = threshold01(p);
        std::vector<uint32_t> words = {0, 255, 256, ~0u, ~0u - 255, ~0u - 256};
        for (const uint32_t distance : {0u, 1u, 255u, 256u, 257u}) {
            words.insert(words.end(), {threshold + distance, threshold - distance});
        }
        for (const uint32_t word : words) EXPECT_EQ(word < threshold, uniform01(word) < p) << p << " " << word;
    }
}

TEST(DropoutWords, every_place_has_its_own) {
    std::set<std::tuple<uint32_t, uint32_t, uint32_t, uint32_t>> seen;
    size_t drawn = 0;
    const auto draw = [&](RngStream s, uint64_t sample, uint32_t layer, uint32_t head, uint32_t row, uint32_t column4) {
        const Philox4 w = dropout_words(1, s, sample, layer, head, row, column4);
        seen.insert({w.v[0], w.v[1], w.v[2], w.v[3]});
        drawn++;
    };
    for (const auto stream : {RngStream::dropout_residual, RngStream::dropout_attention}) {
        for (const uint64_t sample : {uint64_t(0), uint64_t(1), uint64_t(1) << 32, (uint64_t(1) << 48) - 1}) {
            for (const uint32_t layer : {0u, 1u, 2046u}) {
                for (const uint32_t head : {0u, 1u, 65535u}) {
                    for (const uint32_t row : {0u, 1u, (1u << 20) - 1}) {
                        for (const uint32_t column4 : {0u, 1u, (1u << 18) - 1}) {
                            draw(stream, sample, layer, head, row, column4);
                        }
                    }
                }
            }
        }
    }
    EXPECT_EQ(seen.size(), drawn);
}
