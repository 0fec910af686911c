#pragma once
// Elementary functions that a compiler can vectorise: they have no branches, tables or calls. g++ does not vectorise
// expf without -ffast-math.
#include <bit>
#include <cstdint>
#include <limits>

namespace kiln {

// e^x. Relative error below 2e-7 where e^x is a normal number; smaller results are 0, larger ones infinity, NaN stays.
// Cody and Waite: x = n ln 2 + r, |r| <= ln(2)/2; e^r by Taylor's polynomial of degree 7 (remainder below 6e-9); the
// exponent of the result is n.
inline float exp_approx(float x) {
    constexpr float kLow = -87.33f, kHigh = 88.72f, kMagic = 0x1.8p23f;  // adding kMagic rounds to an integer
    float clamped = x < kLow ? kLow : x;
    clamped = clamped > kHigh ? kHigh : clamped;
    const float shifted = clamped * 1.44269504088896341f + kMagic;
    const float n = shifted - kMagic;
    float r = clamped - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    // 2^n as two factors, because 2^128 is not a float.
    const int32_t k = int32_t(std::bit_cast<uint32_t>(shifted)) - int32_t(std::bit_cast<uint32_t>(kMagic));
    const int32_t half = k >> 1;
    const float y = p * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((k - half + 127) << 23);
    return x < kLow ? 0.0f : (x > kHigh ? std::numeric_limits<float>::infinity() : y);
}

// 1 / (1 + e^-x)
inline float sigmoid_approx(float x) {
    return 1.0f / (1.0f + exp_approx(-x));
}

// sigmoid(x) and sigmoid(-x). The difference 1 - sigmoid(x) would keep the rounding error of the division, which a
// derivative multiplies by x and more. x is at least -80, since s e would be 0 times infinity far below.
struct SigmoidAndComplement {
    float s, complement;
};
inline SigmoidAndComplement sigmoid_and_complement(float x) {
    const float e = exp_approx(x < -80.0f ? 80.0f : -x), s = 1.0f / (1.0f + e);
    return {s, s * e};
}

}  // namespace kiln
