#pragma once
// Samples the next token from logits: temperature, then top-k, then top-p, in the order of Hugging Face. The result is
// a pure function of (logits, seed, number of the sample, position), so samples do not depend on how they are batched.
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace kiln {

struct SamplerOptions {
    float temperature = 1;  // 0: the most likely token
    int top_k = 0;          // keep the k most likely; 0: all
    float top_p = 1;        // keep the fewest most likely tokens whose probabilities sum to at least this; 1: all
    int vocab_size = 0;     // ids from here on (padding of the model's vocabulary) are never sampled; 0: no limit
    uint64_t seed = 0;
    // How many of V ids may be sampled.
    int allowed(int V) const { return vocab_size > 0 ? std::min(V, vocab_size) : V; }
    bool operator==(const SamplerOptions&) const = default;
};

class Sampler {
public:
    explicit Sampler(const SamplerOptions& options);  // throws UsageError naming what is out of range
    const SamplerOptions& options() const { return options_; }
    // A token of logits (V), for `position` in the sequence. Minus infinity is never chosen. Equal logits rank by id,
    // lowest first. Throws Error if a logit is NaN or plus infinity, or all are minus infinity.
    int sample(std::span<const float> logits, uint64_t sample_number, uint64_t position);

private:
    struct Candidate {
        float logit;
        int id;
    };
    SamplerOptions options_;
    std::vector<Candidate> candidates_;  // kept between calls, so that sampling does not allocate
    std::vector<double> weights_;
};

}  // namespace kiln
