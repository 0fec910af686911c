#include "tools/formats/gguf_types.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "cpu_reference/interface/error.h"
#include "tools/formats/safetensors.h"

namespace kiln {
namespace {

float get_half(const unsigned char* in) {
    return half_to_float(uint16_t(in[0] | in[1] << 8));
}

void put_16(unsigned char* out, uint16_t bits) {
    out[0] = static_cast<unsigned char>(bits), out[1] = static_cast<unsigned char>(bits >> 8);
}

void encode_f32(const float* in, unsigned char* out) {
    std::memcpy(out, in, sizeof(float));
}
void decode_f32(const unsigned char* in, float* out) {
    std::memcpy(out, in, sizeof(float));
}
void encode_f16(const float* in, unsigned char* out) {
    put_16(out, float_to_half(*in));
}
void decode_f16(const unsigned char* in, float* out) {
    *out = get_half(in);
}
void encode_bf16(const float* in, unsigned char* out) {
    put_16(out, float_to_bfloat16(*in));
}
void decode_bf16(const unsigned char* in, float* out) {
    *out = bfloat16_to_float(uint16_t(in[0] | in[1] << 8));
}

// Q8_0: float16 d, then 32 int8 q; a value is d q. The largest magnitude becomes 127.
void encode_q8_0(const float* in, unsigned char* out) {
    float max = 0;
    for (int i = 0; i < 32; i++) max = std::max(max, std::fabs(in[i]));
    const float d = max / 127, inverse = d > 0 ? 1 / d : 0;
    put_16(out, float_to_half(d));
    for (int i = 0; i < 32; i++) out[2 + i] = static_cast<unsigned char>(int(std::round(in[i] * inverse)));
}
void decode_q8_0(const unsigned char* in, float* out) {
    const float d = get_half(in);
    for (int i = 0; i < 32; i++) out[i] = d * static_cast<int8_t>(in[2 + i]);
}

// Q4_0: float16 d, then 16 bytes, byte i with q of values i (low) and i + 16 (high); a value is d (q - 8). The value of
// the largest magnitude, whatever its sign, becomes q = 0.
void encode_q4_0(const float* in, unsigned char* out) {
    const float max = *std::max_element(in, in + 32, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
    const float d = max / -8, inverse = d != 0 ? 1 / d : 0;
    put_16(out, float_to_half(d));
    const auto q = [&](int i) { return std::min(15, int(in[i] * inverse + 8.5f)); };
    for (int i = 0; i < 16; i++) out[2 + i] = static_cast<unsigned char>(q(i) | q(i + 16) << 4);
}
void decode_q4_0(const unsigned char* in, float* out) {
    const float d = get_half(in);
    for (int i = 0; i < 16; i++) {
        out[i] = d * ((in[2 + i] & 15) - 8);
        out[i + 16] = d * ((in[2 + i] >> 4) - 8);
    }
}

// Q4_K: a block of 256 is eight groups of 32. float16 d and dmin; 12 bytes with a scale and a minimum of 6 bits for
// each group; 128 bytes with q of 4 bits, 32 bytes for two groups. A value is d scale q - dmin minimum.
constexpr int kGroups = 8, kGroup = 32;

struct Affine {
    float scale = 0, min = 0;  // a value is scale q - min; min >= 0
};

int q_of(float value, const Affine& group) {
    return group.scale > 0 ? int(std::clamp(std::round((value + group.min) / group.scale), 0.0f, 15.0f)) : 0;
}

double squared_error(const float* in, const Affine& group) {
    double sum = 0;
    for (int i = 0; i < kGroup; i++) {
        const double error = double(group.scale) * q_of(in[i], group) - group.min - in[i];
        sum += error * error;
    }
    return sum;
}

// From the lowest value (or 0) to the highest one.
Affine whole_range(const float* in) {
    const auto [low, high] = std::minmax_element(in, in + kGroup);
    const float min = std::max(0.0f, -*low);
    return {std::max(0.0f, (*high + min) / 15), min};
}

// The scale and minimum with the least squared error for the q that `group` gives.
Affine least_squares(const float* in, const Affine& group) {
    double q_sum = 0, qq_sum = 0, sum = 0, product = 0;
    for (int i = 0; i < kGroup; i++) {
        const double q = q_of(in[i], group);
        q_sum += q, qq_sum += q * q, sum += in[i], product += q * in[i];
    }
    const double determinant = kGroup * qq_sum - q_sum * q_sum;
    if (determinant <= 0) return group;
    const double scale = (kGroup * product - q_sum * sum) / determinant, min = (scale * q_sum - sum) / kGroup;
    if (min >= 0) return {float(scale), float(min)};
    return {float(std::max(0.0, product / qq_sum)), 0};
}

// Smaller steps cut off the largest values, but suit all others better.
Affine best_affine(const float* in) {
    const Affine range = whole_range(in);
    Affine best = range;
    double least = squared_error(in, range);
    for (int step = -1; step < 8; step++) {
        const Affine fitted = least_squares(in, {range.scale * (1 - 0.03f * float(step)), range.min});
        const double error = squared_error(in, fitted);
        if (error < least) best = fitted, least = error;
    }
    return best;
}

int six_bits(float value, float unit) {
    return unit > 0 ? int(std::min(63.0f, std::round(value / unit))) : 0;
}

// Writes the block with these scales rounded to 6 bits. Returns the squared error.
double put_q4_k(const float* in, const std::array<Affine, kGroups>& groups, unsigned char* out) {
    float scale = 0, min = 0;
    for (const Affine& group : groups) scale = std::max(scale, group.scale), min = std::max(min, group.min);
    put_16(out, float_to_half(scale / 63)), put_16(out + 2, float_to_half(min / 63));
    const float d = get_half(out), dmin = get_half(out + 2);
    std::fill_n(out + 4, 140, 0);
    unsigned char *bits = out + 4, *qs = out + 16;
    double error = 0;
    for (int g = 0; g < kGroups; g++, in += kGroup) {
        const int scale6 = six_bits(groups[g].scale, d), min6 = six_bits(groups[g].min, dmin);
        if (g < 4) {
            bits[g] |= scale6, bits[g + 4] |= min6;
        } else {
            bits[g + 4] = static_cast<unsigned char>((scale6 & 15) | (min6 & 15) << 4);
            bits[g - 4] |= scale6 >> 4 << 6, bits[g] |= min6 >> 4 << 6;
        }
        const Affine rounded{d * float(scale6), dmin * float(min6)};
        for (int i = 0; i < kGroup; i++) qs[g / 2 * kGroup + i] |= q_of(in[i], rounded) << (g % 2 * 4);
        error += squared_error(in, rounded);
    }
    return error;
}

void encode_q4_k(const float* in, unsigned char* out) {
    std::array<Affine, kGroups> ranges, best;
    for (int g = 0; g < kGroups; g++) {
        ranges[g] = whole_range(in + g * kGroup), best[g] = best_affine(in + g * kGroup);
    }
    // Rounding the scales to 6 bits can undo what the search has gained.
    std::array<unsigned char, 144> other;
    if (put_q4_k(in, ranges, out) > put_q4_k(in, best, other.data())) std::ranges::copy(other, out);
}

void decode_q4_k(const unsigned char* in, float* out) {
    const float d = get_half(in), dmin = get_half(in + 2);
    const unsigned char *bits = in + 4, *qs = in + 16;
    for (int g = 0; g < kGroups; g++) {
        const int scale = g < 4 ? bits[g] & 63 : (bits[g + 4] & 15) | bits[g - 4] >> 6 << 4;
        const int min = g < 4 ? bits[g + 4] & 63 : bits[g + 4] >> 4 | bits[g] >> 6 << 4;
        for (int i = 0; i < kGroup; i++) {
            const int q = qs[g / 2 * kGroup + i] >> (g % 2 * 4) & 15;
            out[g * kGroup + i] = d * float(scale) * float(q) - dmin * float(min);
        }
    }
}

constexpr float kMaxHalf = 65504;
constexpr GgufType kTypes[] = {
    {"F32", 0, 0, 1, 4, FLT_MAX, "", encode_f32, decode_f32},
    {"F16", 1, 1, 1, 2, 65519, "", encode_f16, decode_f16},
    {"BF16", 30, 32, 1, 2, 0x1.fefffep127f, "", encode_bf16, decode_bf16},
    {"Q8_0", 8, 7, 32, 34, 127 * kMaxHalf, "F16", encode_q8_0, decode_q8_0},
    {"Q4_0", 2, 2, 32, 18, 8 * kMaxHalf, "F16", encode_q4_0, decode_q4_0},
    {"Q4_K", 12, 14, 256, 144, 63 * kMaxHalf, "Q8_0", encode_q4_k, decode_q4_k},
};

}  // namespace

std::span<const GgufType> gguf_types() {
    return kTypes;
}

const GgufType* find_gguf_type(uint32_t id) {
    const auto* found = std::ranges::find(kTypes, id, &GgufType::id);
    return found == std::end(kTypes) ? nullptr : found;
}

const GgufType* find_gguf_type(std::string_view name) {
    const auto* found = std::ranges::find_if(kTypes, [&](const GgufType& type) {
        return std::ranges::equal(type.name, name, [](char a, char b) { return std::tolower(a) == std::tolower(b); });
    });
    return found == std::end(kTypes) ? nullptr : found;
}

std::string gguf_type_names() {
    std::string names;
    for (const GgufType& type : kTypes) names += concat(names.empty() ? "" : ", ", type.name);
    return names;
}

}  // namespace kiln
