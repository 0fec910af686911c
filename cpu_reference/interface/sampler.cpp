#include "cpu_reference/interface/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/rng.h"

namespace kiln {
namespace {

// Uniform in [0, 1) with 53 bits. With 24 bits a token of a probability under 6e-8 might never be sampled.
double uniform(uint64_t seed, uint64_t sample_number, uint64_t position) {
    const Philox4 word = philox4x32(seed, uint32_t(sample_number), uint32_t(sample_number >> 32), uint32_t(position),
                                    uint32_t(RngStream::sampling));
    return double((uint64_t(word.v[0]) << 32 | word.v[1]) >> 11) * 0x1p-53;
}

}  // namespace

Sampler::Sampler(const SamplerOptions& options) : options_(options) {
    const auto check = [](bool good, const auto&... parts) {
        if (!good) throw UsageError(concat(parts...));
    };
    check(std::isfinite(options.temperature) && options.temperature >= 0, "temperature is ", options.temperature,
          "; expected 0 or a larger number");
    check(options.top_k >= 0, "top-k is ", options.top_k, "; expected 0 (all) or more");
    check(options.top_p > 0 && options.top_p <= 1, "top-p is ", options.top_p, "; expected a number in (0, 1]");
}

int Sampler::sample(std::span<const float> logits, uint64_t sample_number, uint64_t position) {
    logits = logits.first(size_t(options_.allowed(int(logits.size()))));
    constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
    int best = -1;
    for (size_t i = 0; i < logits.size(); i++) {
        // NaN fails this comparison too.
        KILN_CHECK(logits[i] <= std::numeric_limits<float>::max(), "the model gives ", logits[i],
                   " as the logit of token ", i, "; its weights are damaged or training diverged");
        if (logits[i] > (best < 0 ? kMinusInfinity : logits[best])) best = int(i);
    }
    KILN_CHECK(best >= 0, "no token can be sampled: every logit is minus infinity");
    if (options_.temperature == 0 || options_.top_k == 1) return best;

    candidates_.clear();
    for (size_t i = 0; i < logits.size(); i++) {
        if (logits[i] > kMinusInfinity) candidates_.push_back({logits[i], int(i)});
    }
    const auto likelier = [](const Candidate& a, const Candidate& b) {
        return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    };
    const size_t k = size_t(options_.top_k);
    if (k > 0 && k < candidates_.size()) {
        std::nth_element(candidates_.begin(), candidates_.begin() + k, candidates_.end(), likelier);
        candidates_.resize(k);
    }
    // The standard does not fix the order that nth_element leaves, but the sums below need a fixed order.
    if (options_.top_k > 0 || options_.top_p < 1) std::sort(candidates_.begin(), candidates_.end(), likelier);

    // In double, so that a tiny temperature does not turn (logit - maximum) / temperature into NaN.
    double total = 0;
    weights_.resize(candidates_.size());
    for (size_t i = 0; i < candidates_.size(); i++) {
        weights_[i] = std::exp((double(candidates_[i].logit) - logits[best]) / options_.temperature);
        total += weights_[i];
    }
    size_t count = candidates_.size();
    if (options_.top_p < 1) {
        double kept = 0;
        for (count = 0; count < candidates_.size() && kept < options_.top_p * total;) kept += weights_[count++];
        total = kept;
    }
    double left = uniform(options_.seed, sample_number, position) * total;
    for (size_t i = 0; i < count; i++) {
        left -= weights_[i];
        if (left < 0) return candidates_[i].id;
    }
    // Rounding made `left` end above 0: take the last token with a weight.
    while (count > 1 && weights_[count - 1] == 0) count--;
    return candidates_[count - 1].id;
}

}  // namespace kiln
