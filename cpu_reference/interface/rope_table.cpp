#include "cpu_reference/interface/rope_table.h"

#include <algorithm>
#include <cmath>

namespace kiln {
namespace {

// The share of frequency i that is kept; the factor divides the rest.
double kept(const ModelConfig& c, int i, double frequency) {
    const RopeScaling& s = c.rope_scaling;
    switch (s.type) {
        case RopeType::linear: break;
        case RopeType::llama3: {
            const double rotations = s.original_max_T * frequency / (2 * M_PI);  // within the original context
            return std::clamp((rotations - s.low_freq_factor) / (double(s.high_freq_factor) - s.low_freq_factor), 0.0,
                              1.0);
        }
        case RopeType::yarn: {
            // The index of the frequency that rotates so many times.
            const auto index_of = [&](double rotations) {
                return c.HS * std::log(s.original_max_T / (2 * M_PI * rotations)) /
                       (2 * std::log(double(c.rope_theta)));
            };
            double first = index_of(s.beta_fast), last = index_of(s.beta_slow);
            if (s.truncate) first = std::floor(first), last = std::ceil(last);
            first = std::max(first, 0.0), last = std::min(last, c.HS - 1.0);
            if (first == last) last += 0.001;  // as transformers does
            return 1 - std::clamp((i - first) / (last - first), 0.0, 1.0);
        }
    }
    return 0;
}

double attention_factor(const RopeScaling& s) {
    if (s.factor == 0 || s.type != RopeType::yarn) return 1;
    return s.attention_factor > 0 ? s.attention_factor : 0.1 * std::log(double(s.factor)) + 1;
}

}  // namespace

std::vector<double> rope_frequencies(const ModelConfig& c, bool scaled) {
    std::vector<double> frequencies(c.HS / 2);
    for (int i = 0; i < c.HS / 2; i++) {
        double& frequency = frequencies[i] = std::pow(double(c.rope_theta), -2.0 * i / c.HS);
        if (!scaled || c.rope_scaling.factor == 0) continue;
        const double share = kept(c, i, frequency);
        frequency *= share + (1 - share) / c.rope_scaling.factor;
    }
    return frequencies;
}

std::vector<float> rope_table(const ModelConfig& c, int T) {
    if (!c.uses_rope()) return {};
    const int half = c.HS / 2;
    const double scale = attention_factor(c.rope_scaling);
    const std::vector<double> frequencies = rope_frequencies(c);
    std::vector<float> table(size_t(T) * half * 2);
    for (int i = 0; i < half; i++) {
        for (int t = 0; t < T; t++) {
            table[(size_t(t) * half + i) * 2] = float(scale * std::cos(t * frequencies[i]));
            table[(size_t(t) * half + i) * 2 + 1] = float(scale * std::sin(t * frequencies[i]));
        }
    }
    return table;
}

}  // namespace kiln
