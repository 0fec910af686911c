#include <gtest/gtest.h>

#include <memory>

#include "tests/support/fake_engine.h"
#include "tests/support/temp_directory.h"
#include "tools/generate/generator.h"

namespace kiln {
namespace {

ModelConfig tiny(int max_T = 32) {
    ModelConfig config = parse_model("llama:layers=1,dim=8,heads=2,kv_heads=1,ffn=12,vocab=10");
    config.max_T = max_T;
    return config;
}

// The next token is the sum of the sequence modulo 10, with certainty.
void sum_model(const std::vector<int>& tokens, float* logits) {
    int sum = 0;
    for (const int token : tokens) sum += token;
    for (int i = 0; i < 10; i++) logits[i] = i == sum % 10 ? 1.0f : 0.0f;
}

// Several tokens are possible, and they depend on the whole sequence.
void vague_model(const std::vector<int>& tokens, float* logits) {
    uint32_t hash = 1;
    for (const int token : tokens) hash = hash * 31 + uint32_t(token);
    for (int i = 0; i < 10; i++) logits[i] = float((hash >> i) % 3);
}

std::vector<Generated> run(FakeEngine& engine, const SamplerOptions& sampling,
                           const std::vector<GenerateRequest>& requests, const GenerateOptions& options) {
    std::vector<Generated> results(requests.size());
    std::vector<std::vector<int>> streamed(requests.size());
    generate(
        engine, sampling, requests, options, [&](size_t i, int token) { streamed[i].push_back(token); },
        [&](size_t i, const Generated& result) { results[i] = result; });
    for (size_t i = 0; i < results.size(); i++) EXPECT_EQ(streamed[i], results[i].tokens);
    return results;
}

TEST(Generator, greedy_tokens_follow_the_model) {
    FakeEngine engine(tiny(), sum_model);
    const auto results = run(engine, {.temperature = 0}, {{{1, 2}, 0}}, {.max_new_tokens = 5});
    EXPECT_EQ(results[0].tokens, (std::vector<int>{3, 6, 2, 4, 8}));
    EXPECT_EQ(results[0].finish, Finish::length);
    EXPECT_EQ(engine.open_slots_, 0);  // the cache is freed
}

TEST(Generator, stop_token_ends_a_sequence_and_is_left_out) {
    FakeEngine engine(tiny(), sum_model);
    const auto results =
        run(engine, {.temperature = 0}, {{{1, 2}, 0}, {{4, 0}, 0}}, {.max_new_tokens = 5, .stop_tokens = {4}});
    EXPECT_EQ(results[0].tokens, (std::vector<int>{3, 6, 2}));
    EXPECT_EQ(results[0].finish, Finish::stop_token);
    EXPECT_TRUE(results[1].tokens.empty());
}

TEST(Generator, context_ends_a_sequence) {
    FakeEngine engine(tiny(6), sum_model);
    const auto results = run(engine, {.temperature = 0}, {{{1, 2}, 0}}, {.max_new_tokens = 50});
    EXPECT_EQ(results[0].tokens.size(), 4u);
    EXPECT_EQ(results[0].finish, Finish::context);
}

TEST(Generator, prompt_that_fills_the_context_is_an_error) {
    FakeEngine engine(tiny(4), sum_model);
    EXPECT_NE(error_of([&] {
                  run(engine, {}, {{{1, 2, 3, 4}, 0}}, {});
              }).find("4 tokens leaves no room"),
              std::string::npos);
    EXPECT_NE(error_of([&] { run(engine, {}, {{{}, 0}}, {}); }).find("no tokens"), std::string::npos);
}

TEST(Generator, samples_do_not_depend_on_their_batch) {
    std::vector<GenerateRequest> requests;
    for (uint64_t i = 0; i < 11; i++) requests.push_back({{int(i % 7), 1}, i});
    const GenerateOptions options{.max_new_tokens = 12, .stop_tokens = {9}, .max_slots = 4};
    FakeEngine engine(tiny(), vague_model);
    const auto together = run(engine, {.seed = 5}, requests, options);
    EXPECT_EQ(engine.largest_batch_, 4);
    bool lengths_differ = false;
    for (size_t i = 0; i < requests.size(); i++) {
        const auto alone = run(engine, {.seed = 5}, {requests[i]}, options);
        EXPECT_EQ(alone[0].tokens, together[i].tokens) << i;
        lengths_differ |= together[i].tokens.size() != together[0].tokens.size();
    }
    EXPECT_TRUE(lengths_differ);  // so that a waiting request takes a slot while others still run
}

TEST(Generator, sample_numbers_give_different_samples_of_a_prompt) {
    FakeEngine engine(tiny(), vague_model);
    const auto results = run(engine, {}, {{{1}, 0}, {{1}, 1}}, {.max_new_tokens = 20});
    EXPECT_NE(results[0].tokens, results[1].tokens);
}

TEST(Generator, ids_beyond_the_vocabulary_are_never_sampled) {
    FakeEngine engine(tiny(), vague_model);
    const auto results = run(engine, {.temperature = 100, .vocab_size = 3}, {{{1}, 0}}, {.max_new_tokens = 30});
    for (const int token : results[0].tokens) EXPECT_LT(token, 3);
}

// The real engine: a sequence has the same continuation alone and in a batch.
TEST(Generator, cpu_engine_gives_equal_greedy_text_alone_and_in_a_batch) {
    const auto engine = make_engine(
        parse_model("llama:layers=2,dim=32,heads=4,kv_heads=2,ffn=48,vocab=50,ctx=40,init_std=0.3"), {.B = 1, .T = 1});
    engine->init_weights(3);
    std::vector<GenerateRequest> requests;
    for (int i = 0; i < 5; i++) requests.push_back({std::vector<int>(1 + 3 * i, 7 + i), uint64_t(i)});
    const auto tokens_of = [&](const std::vector<GenerateRequest>& some, int slots) {
        std::vector<std::vector<int>> all(some.size());
        generate(*engine, {.temperature = 0}, some, {.max_new_tokens = 16, .max_slots = slots}, nullptr,
                 [&](size_t i, const Generated& result) { all[i] = result.tokens; });
        return all;
    };
    const auto together = tokens_of(requests, 3);
    for (size_t i = 0; i < requests.size(); i++) EXPECT_EQ(tokens_of({requests[i]}, 1)[0], together[i]) << i;
}

}  // namespace
}  // namespace kiln
