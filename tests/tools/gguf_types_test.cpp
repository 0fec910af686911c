// The blocks of GGUF's types: their bytes, and bounds on what they lose that follow from how they are made.
#include "tools/formats/gguf_types.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace kiln {
namespace {

std::vector<float> normal_values(size_t n, unsigned seed, float mean = 0) {
    std::mt19937 random(seed);
    std::normal_distribution<float> distribution(mean, 1);
    std::vector<float> values(n);
    for (float& value : values) value = distribution(random);
    return values;
}

// What is left of one block.
std::vector<float> coded(const char* name, const std::vector<float>& values) {
    const GgufType& type = *find_gguf_type(name);
    EXPECT_EQ(values.size(), type.elems);
    std::vector<unsigned char> bytes(type.bytes, 0xAA);
    std::vector<float> out(values.size());
    type.encode(values.data(), bytes.data());
    type.decode(bytes.data(), out.data());
    return out;
}

double squared_error(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); i++) sum += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    return sum;
}

float largest(const float* values, size_t n) {
    return std::fabs(
        *std::max_element(values, values + n, [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
}

constexpr float kHalfRounding = 0x1p-11f;  // of a scale, relative

TEST(GgufTypes, blocks_have_the_bytes_of_the_format) {
    // Scale 1 (0x3C00): 127 / 127, and -8 / -8.
    std::vector<float> values(32, 0);
    values[0] = 127, values[1] = -3, values[31] = 0.5f;
    std::vector<unsigned char> bytes(34), expected(34, 0);
    find_gguf_type("q8_0")->encode(values.data(), bytes.data());
    expected[1] = 0x3C, expected[2] = 127, expected[3] = 253, expected[33] = 1;
    EXPECT_EQ(bytes, expected);

    values.assign(32, 0);
    values[0] = -8, values[1] = 7, values[16] = 3, values[17] = 9;
    values[0] = -16;  // scale 2
    bytes.resize(18), expected.assign(18, 0x88);
    find_gguf_type("q4_0")->encode(values.data(), bytes.data());
    expected[0] = 0, expected[1] = 0x40, expected[2] = 0xA0;  // 3 / 2 + 8.5 = 10, and -16 / 2 + 8 = 0
    expected[3] = 0xDC;                                       // 9 / 2 + 8.5 = 13, and 7 / 2 + 8.5 = 12
    EXPECT_EQ(bytes, expected);
}

TEST(GgufTypes, q4_k_has_the_layout_of_ggml) {
    // Group g has scale 63 - g and minimum 63 - 2 g in units of 1, and all its q. Written by hand from the layout.
    std::vector<unsigned char> block(144, 0);
    block[1] = block[3] = 0x3C;  // d = dmin = 1
    for (int g = 0; g < 8; g++) {
        const int scale = 63 - g, min = 63 - 2 * g;
        if (g < 4) {
            block[4 + g] |= scale, block[8 + g] |= min;
        } else {
            block[12 + g - 4] = static_cast<unsigned char>(scale % 16 + min % 16 * 16);
            block[4 + g - 4] |= scale / 16 * 64, block[8 + g - 4] |= min / 16 * 64;
        }
        for (int i = 0; i < 32; i++) block[16 + g / 2 * 32 + i] |= (i + g) % 16 << g % 2 * 4;
    }
    std::vector<float> values(256);
    find_gguf_type("Q4_K")->decode(block.data(), values.data());
    for (int g = 0; g < 8; g++) {
        for (int i = 0; i < 32; i++) {
            EXPECT_EQ(values[g * 32 + i], float((63 - g) * ((i + g) % 16) - (63 - 2 * g))) << g << " " << i;
        }
    }
    // These values lie on a grid that the type has, so that nothing is lost.
    EXPECT_EQ(coded("Q4_K", values), values);
}

TEST(GgufTypes, q8_0_loses_half_a_step) {
    for (unsigned seed = 0; seed < 100; seed++) {
        const std::vector<float> values = normal_values(32, seed), left = coded("Q8_0", values);
        const float step = largest(values.data(), 32) / 127;
        // Rounding, and 127 times what the scale was rounded by.
        const float bound = step * (0.5f + 127 * kHalfRounding);
        for (int i = 0; i < 32; i++) EXPECT_LE(std::fabs(values[i] - left[i]), bound * 1.0001f);
    }
}

TEST(GgufTypes, q4_0_loses_a_step_at_most_and_half_of_one_mostly) {
    for (unsigned seed = 0; seed < 100; seed++) {
        const std::vector<float> values = normal_values(32, seed), left = coded("Q4_0", values);
        const float max = *std::ranges::max_element(values, {}, [](float v) { return std::fabs(v); });
        const float step = std::fabs(max) / 8;
        for (int i = 0; i < 32; i++) {
            // 16 codes reach from the largest value to 7 steps on the other side of zero.
            const bool beyond = values[i] / max < -7.5f / 8;
            EXPECT_LE(std::fabs(values[i] - left[i]), step * ((beyond ? 1 : 0.5f) + 8 * kHalfRounding) * 1.0001f);
        }
    }
}

TEST(GgufTypes, q4_k_loses_no_more_than_its_plain_grid_and_less_than_q4_0) {
    double q4_k = 0, q4_0 = 0;
    for (unsigned seed = 0; seed < 100; seed++) {
        const std::vector<float> values = normal_values(256, seed, seed % 3 == 0 ? 0 : 0.5f);
        const std::vector<float> left = coded("Q4_K", values);
        float scales[8], mins[8];
        for (int g = 0; g < 8; g++) {
            const auto [low, high] = std::minmax_element(&values[g * 32], &values[g * 32] + 32);
            mins[g] = std::max(0.0f, -*low), scales[g] = (*high + mins[g]) / 15;
            const std::vector<float> group(&values[g * 32], &values[g * 32] + 32);
            q4_0 += squared_error(group, coded("Q4_0", group));
        }
        // The grid from the lowest to the highest value, whose scale and minimum have errors of half a 63rd of the
        // largest ones of the block: a value is off by half a step, 15 times the error of the scale, and that of the
        // minimum.
        const float d = *std::max_element(scales, scales + 8) / 63, dmin = *std::max_element(mins, mins + 8) / 63;
        double bound = 0;
        for (const float scale : scales) {
            const double most = scale / 2 + d / 4 + 15 * d / 2 + dmin / 2;
            bound += 32 * most * most;
        }
        EXPECT_LE(squared_error(values, left), bound * 1.01);
        q4_k += squared_error(values, left);
    }
    EXPECT_LT(q4_k, 0.8 * q4_0);
}

TEST(GgufTypes, constant_and_zero_blocks_stay) {
    for (const float value : {0.0f, -2.0f, 1.0f}) {
        for (const char* name : {"Q8_0", "Q4_0", "Q4_K"}) {
            const std::vector<float> values(find_gguf_type(name)->elems, value);
            for (const float left : coded(name, values)) EXPECT_NEAR(left, value, std::fabs(value) * 0x1p-9f) << name;
        }
    }
}

TEST(GgufTypes, halves_round_to_the_nearest) {
    for (const float value : {1.0f, 0.0f, 65519.0f, 0x1p-24f, 0x1.4p-25f, 1 + 0x1p-11f, 1 + 0x1.8p-10f, -3.14159f}) {
        const float left = coded("F16", {value})[0];
        const float unit = std::max(0x1p-24f, std::ldexp(1.0f, std::ilogb(value == 0 ? 1 : value) - 10));
        EXPECT_LE(std::fabs(left - value), unit / 2) << value;
        EXPECT_TRUE(std::isfinite(left)) << value;
    }
    EXPECT_EQ(coded("F16", {1 + 0x1p-11f})[0], 1);  // ties to even
    EXPECT_EQ(coded("F16", {1 + 0x3p-11f})[0], 1 + 0x2p-10f);
    EXPECT_EQ(coded("BF16", {1 + 0x1p-8f})[0], 1);
    EXPECT_EQ(coded("BF16", {1 + 0x3p-8f})[0], 1 + 0x2p-7f);
}

}  // namespace
}  // namespace kiln
