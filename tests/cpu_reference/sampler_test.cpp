#include "cpu_reference/interface/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"

namespace kiln {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// How often each token is sampled, over many positions.
std::map<int, int> histogram(const SamplerOptions& options, const std::vector<float>& logits, int draws) {
    Sampler sampler(options);
    std::map<int, int> counts;
    for (int i = 0; i < draws; i++) counts[sampler.sample(logits, 7, uint64_t(i))]++;
    return counts;
}

// Five standard deviations of a binomial count: a correct sampler fails once in two million tests.
void expect_share(int count, int draws, double p) {
    EXPECT_NEAR(count, draws * p, 5 * std::sqrt(draws * p * (1 - p)));
}

TEST(Sampler, frequencies_follow_the_softmax) {
    const std::vector<float> logits = {0.0f, 1.0f, 2.0f, -1.0f};
    const int draws = 100000;
    for (const float temperature : {0.5f, 1.0f, 2.0f}) {
        const auto counts = histogram({.temperature = temperature, .seed = 3}, logits, draws);
        double total = 0;
        for (const float logit : logits) total += std::exp(logit / temperature);
        for (int i = 0; i < 4; i++) expect_share(counts.at(i), draws, std::exp(logits[i] / temperature) / total);
    }
}

TEST(Sampler, top_k_keeps_the_k_most_likely_and_renormalises) {
    const std::vector<float> logits = {std::log(1.0f), std::log(4.0f), std::log(3.0f), std::log(2.0f)};
    const int draws = 50000;
    const auto counts = histogram({.top_k = 2}, logits, draws);
    EXPECT_EQ(counts.size(), 2u);
    expect_share(counts.at(1), draws, 4.0 / 7);
    expect_share(counts.at(2), draws, 3.0 / 7);
}

TEST(Sampler, top_k_ties_go_to_the_lowest_ids) {
    const auto counts = histogram({.top_k = 3}, std::vector<float>(50, 1.0f), 1000);
    EXPECT_EQ(counts.size(), 3u);
    EXPECT_EQ(counts.rbegin()->first, 2);
}

TEST(Sampler, top_p_keeps_the_fewest_tokens_that_reach_p) {
    const std::vector<float> logits = {std::log(1.0f), std::log(4.0f), std::log(3.0f), std::log(2.0f)};
    const int draws = 50000;
    const auto counts = histogram({.top_p = 0.65f}, logits, draws);  // 0.4 + 0.3 is enough, 0.4 is not
    EXPECT_EQ(counts.size(), 2u);
    expect_share(counts.at(1), draws, 4.0 / 7);
    EXPECT_EQ(histogram({.top_p = 0.3f}, logits, 1000).size(),
              1u);  // only the most likely token, although its probability exceeds p
    EXPECT_EQ(histogram({.top_p = 0.95f}, logits, 10000).size(), 4u);
}

TEST(Sampler, top_p_counts_after_top_k) {
    // After top-k 2 the most likely token has probability 4/7 = 0.57, which is enough for 0.55; 0.4 would not be.
    const std::vector<float> logits = {std::log(1.0f), std::log(4.0f), std::log(3.0f), std::log(2.0f)};
    EXPECT_EQ(histogram({.top_k = 2, .top_p = 0.55f}, logits, 1000).size(), 1u);
}

TEST(Sampler, temperature_zero_takes_the_first_most_likely_token) {
    EXPECT_EQ(Sampler({.temperature = 0}).sample(std::vector<float>{1, 3, 3, 2}, 0, 0), 1);
    EXPECT_EQ(Sampler({.top_k = 1}).sample(std::vector<float>{1, 3, 3, 2}, 5, 9), 1);
}

TEST(Sampler, tiny_temperature_does_not_overflow) {
    EXPECT_EQ(Sampler({.temperature = 1e-30f}).sample(std::vector<float>{-1e30f, 1e30f, 0}, 0, 0), 1);
}

TEST(Sampler, minus_infinity_is_never_chosen) {
    const auto counts = histogram({.temperature = 1e6f}, {-kInfinity, 0, -kInfinity, 1}, 1000);
    EXPECT_EQ(counts.size(), 2u);
    EXPECT_FALSE(counts.contains(0) || counts.contains(2));
}

TEST(Sampler, draws_depend_on_seed_sample_and_position_only) {
    const std::vector<float> logits(1000, 0.0f);
    Sampler a({.seed = 1}), b({.seed = 1}), other({.seed = 2});
    a.sample(logits, 9, 9);  // a call before changes nothing
    EXPECT_EQ(a.sample(logits, 3, 4), b.sample(logits, 3, 4));
    EXPECT_NE(a.sample(logits, 3, 4), a.sample(logits, 3, 5));
    EXPECT_NE(a.sample(logits, 3, 4), a.sample(logits, 4, 3));
    EXPECT_NE(a.sample(logits, 3, 4), other.sample(logits, 3, 4));
}

TEST(Sampler, damaged_logits_are_an_error) {
    Sampler sampler(SamplerOptions{});
    const float nan = std::numeric_limits<float>::quiet_NaN();
    EXPECT_NE(error_of([&] { sampler.sample(std::vector<float>{0, nan}, 0, 0); }).find("token 1"), std::string::npos);
    EXPECT_THROW(sampler.sample(std::vector<float>{0, kInfinity}, 0, 0), Error);
    EXPECT_THROW(sampler.sample(std::vector<float>{-kInfinity, -kInfinity}, 0, 0), Error);
}

TEST(Sampler, options_out_of_range_are_usage_errors) {
    EXPECT_THROW(Sampler({.temperature = -1}), UsageError);
    EXPECT_THROW(Sampler({.temperature = std::nanf("")}), UsageError);
    EXPECT_THROW(Sampler({.top_k = -1}), UsageError);
    EXPECT_THROW(Sampler({.top_p = 0}), UsageError);
    EXPECT_THROW(Sampler({.top_p = 1.5f}), UsageError);
}

}  // namespace
}  // namespace kiln
