#include "cpu_reference/interface/rope_table.h"

#include <cmath>

namespace kiln {
namespace {

// Llama 3.1 divides low frequencies by `factor`, keeps high ones, and interpolates between the two.
double scaled_frequency(double frequency, const RopeScaling& s) {
    if (s.factor == 0) return frequency;
    const double wavelength = 2 * M_PI / frequency;
    const double rotations = s.original_max_T / wavelength;  // within the original context
    if (rotations < s.low_freq_factor) return frequency / s.factor;
    if (rotations > s.high_freq_factor) return frequency;
    const double smooth = (rotations - s.low_freq_factor) / (double(s.high_freq_factor) - s.low_freq_factor);
    return (1 - smooth) * frequency / s.factor + smooth * frequency;
}

}  // namespace

std::vector<float> rope_table(const ModelConfig& c, int T) {
    if (!c.uses_rope()) return {};
    const int half = c.HS / 2;
    std::vector<float> table(size_t(T) * half * 2);
    for (int i = 0; i < half; i++) {
        const double frequency = scaled_frequency(std::pow(double(c.rope_theta), -2.0 * i / c.HS), c.rope_scaling);
        for (int t = 0; t < T; t++) {
            table[(size_t(t) * half + i) * 2] = float(std::cos(t * frequency));
            table[(size_t(t) * half + i) * 2 + 1] = float(std::sin(t * frequency));
        }
    }
    return table;
}

}  // namespace kiln
