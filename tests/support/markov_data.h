#pragma once
// Shards from a Markov chain with a known entropy, which is the lowest possible loss.
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "cpu_reference/interface/rng.h"
#include "tokenizer/data/shard.h"

namespace kiln {

// From state s the chain goes to (5 s + j) mod V with the probability of j.
class MarkovChain {
public:
    static constexpr int kVocabulary = 16;
    static constexpr double kProbability[4] = {0.5, 0.25, 0.15, 0.10};

    // In nats per token. Every state has the same four probabilities.
    static double entropy() {
        double h = 0;
        for (const double p : kProbability) h -= p * std::log(p);
        return h;
    }

    static std::vector<int> tokens(size_t n, uint64_t seed) {
        std::vector<int> out;
        int state = 0;
        for (size_t i = 0; i < n; i++) {
            double u = uniform01(philox4x32(seed, uint32_t(i), 0, 0, 0).v[0]);
            int j = 0;
            while (j < 3 && u >= kProbability[j]) u -= kProbability[j++];
            state = (5 * state + j) % kVocabulary;
            out.push_back(state);
        }
        return out;
    }
};

// Writes `directory`/train_000.bin, train_001.bin and val_000.bin.
inline void write_markov_shards(const std::filesystem::path& directory, size_t train_tokens, size_t val_tokens) {
    const auto write = [&](const std::string& name, size_t n, uint64_t seed) {
        ShardInfo info;
        info.vocab_size = MarkovChain::kVocabulary;
        write_shard(directory / name, MarkovChain::tokens(n, seed), info);
    };
    std::filesystem::create_directories(directory);
    write("train_000.bin", train_tokens / 2, 1);
    write("train_001.bin", train_tokens - train_tokens / 2, 2);
    write("val_000.bin", val_tokens, 3);
}

}  // namespace kiln
