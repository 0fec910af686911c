#pragma once
// Random strings that are difficult for tokenizers, equal to those of dev/fixtures/random_text.py. The alphabet is in
// tests/fixtures/tokenizer/alphabet.json.
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

class SplitMix64 {  // Steele, Lea and Flood 2014
public:
    explicit SplitMix64(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        uint64_t z = state_ += 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
    size_t below(size_t n) { return (next() >> 32) * n >> 32; }

private:
    uint64_t state_;
};

class Alphabet {
public:
    // `more` is another group of texts, with this weight.
    explicit Alphabet(const std::vector<std::string>& more = {}, size_t weight = 0) {
        auto groups = nlohmann::json::parse(slurp(tokenizer_fixture("alphabet.json")));
        if (weight > 0) groups.push_back({{"weight", weight}, {"texts", more}});
        for (const auto& group : groups) {
            std::vector<std::string> choices = group.value("texts", std::vector<std::string>());
            for (const auto& range : group.value("ranges", nlohmann::json::array())) {
                for (uint32_t c = range[0]; c <= range[1].get<uint32_t>(); ++c) append_utf8(choices.emplace_back(), c);
            }
            by_weight_.insert(by_weight_.end(), group.at("weight").get<size_t>(), groups_.size());
            groups_.push_back(std::move(choices));
        }
    }
    const std::string& draw(SplitMix64& random) const {
        const auto& group = groups_[by_weight_[random.below(by_weight_.size())]];
        return group[random.below(group.size())];
    }
    std::string string(SplitMix64& random, size_t longest) const {
        static const std::string kNone;
        const std::string* last = &kNone;
        std::string text;
        for (size_t n = 1 + random.below(longest); n > 0; --n) {
            if (random.below(8) != 0 || last->empty()) last = &draw(random);
            text += *last;
        }
        return text;
    }

private:
    std::vector<std::vector<std::string>> groups_;
    std::vector<size_t> by_weight_;  // each group as often as it weighs
};

}  // namespace kiln
