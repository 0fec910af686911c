// Tokens that the GPU draws against those that the host's sampler draws from the same logits.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "cpu_reference/interface/tensors.h"
#include "cuda/engine/cuda_engine.h"
#include "tests/cuda/needs.h"
#include "tests/cuda/schedules.h"
#include "tests/support/engine_proxy.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tiny_models.h"

namespace kiln::testing {
namespace {

struct Param {
    std::string name, descriptor;
    Precision precision;
};
const std::string kGpt2 = "gpt2:layers=2,dim=24,heads=3,ctx=24,vocab=37,init_std=0.2",
                  kLlama = "llama:layers=1,dim=24,heads=2,kv_heads=1,ffn=24,ctx=24,vocab=131,init_std=0.2,tied=false";

class CudaGeneration : public ::testing::TestWithParam<Param> {
protected:
    void SetUp() override { KILN_SKIP_BELOW(GetParam().precision == Precision::bfloat16 ? 80 : 0); }

    const ModelConfig config_ = parse_model(GetParam().descriptor);

    std::unique_ptr<Engine> engine(bool graphs = true) const {
        auto made = make_cuda_engine(config_, {.B = 1,
                                               .T = 1,
                                               .training = false,
                                               .precision = GetParam().precision,
                                               .matmul_candidates = 1,
                                               .graphs = graphs});
        randomise(*made, 5);
        return made;
    }
    // The same logits: through the proxy the host samples, as Engine does by itself.
    std::unique_ptr<Engine> on_host() const { return std::make_unique<EngineProxy>(engine()); }
};

// All tokens of some steps with three slots. Sequences end and begin at different times, and `samplers` take turns,
// each for `turn` steps.
std::vector<int> generate(Engine& e, std::vector<Sampler> samplers, int turn = 1) {
    constexpr int kSlots = 3, kSteps = 10;
    std::vector<int> all, last(kSlots);
    std::vector<uint64_t> number(kSlots);
    uint64_t sequences = uint64_t(1) << 32;
    const auto begin = [&](int slot, Sampler& sampler) {
        number[slot] = sequences++;
        e.clear_slot(slot);
        for (const int length : {1 + int(number[slot] % 3), 2}) {
            last[slot] = e.prefill_and_sample(slot, std::vector<int>(length, 7 + slot), sampler, number[slot]);
            all.push_back(last[slot]);
        }
    };
    e.open_cache(kSlots, 16);
    for (int step = 0; step < kSteps; step++) {
        Sampler& sampler = samplers[size_t(step / turn) % samplers.size()];
        std::vector<int> slots, tokens;
        std::vector<uint64_t> numbers;
        for (const int slot : {1, 0, 2}) {
            const int period = 5 + slot, phase = step < slot ? period - 1 : (step - slot) % period;
            if (phase == 0) begin(slot, sampler);
            if (phase == period - 1) continue;  // idle
            slots.push_back(slot);
            tokens.push_back(last[slot]);
            numbers.push_back(number[slot]);
        }
        std::vector<int> next(slots.size());
        e.decode_and_sample(slots, tokens, sampler, numbers, next.data());
        for (size_t i = 0; i < slots.size(); i++) all.push_back(last[slots[i]] = next[i]);
    }
    return all;
}

}  // namespace

TEST_P(CudaGeneration, tokens_equal_those_of_the_hosts_sampler) {
    const std::vector<SamplerOptions> all = {
        {.temperature = 0, .vocab_size = 30},
        {.temperature = 0.7f, .seed = 3},
        {.temperature = 2, .top_k = 20, .top_p = 0.9f, .vocab_size = 35, .seed = 6}};
    std::vector<std::vector<int>> expected;
    const auto host = on_host();
    for (const SamplerOptions& options : all) expected.push_back(generate(*host, {Sampler(options)}));
    test::for_each_schedule([&] {
        const auto device = engine();
        for (size_t i = 0; i < all.size(); i++) {
            const std::vector<int> tokens = generate(*device, {Sampler(all[i])});
            EXPECT_EQ(tokens, expected[i]) << "options " << i;
            for (const int token : tokens) EXPECT_LT(token, all[i].allowed(config_.V));
        }
    });
}

// The options are arguments of captured launches.
TEST_P(CudaGeneration, options_that_change_take_effect) {
    const std::vector<Sampler> samplers = {Sampler({.seed = 3}), Sampler({.temperature = 2, .top_k = 20, .seed = 4})};
    const auto device = engine(), host = on_host();
    for (const int turn : {1, 3}) EXPECT_EQ(generate(*device, samplers, turn), generate(*host, samplers, turn));
}

TEST_P(CudaGeneration, graphs_change_no_token) {
    const std::vector<Sampler> sampler = {Sampler({.seed = 3})};
    EXPECT_EQ(generate(*engine(true), sampler), generate(*engine(false), sampler));
}

// A cache that is opened again has another address, and with RoPE its table may have another one too.
TEST_P(CudaGeneration, opening_the_cache_drops_the_captured_step) {
    const auto device = engine(), host = on_host();
    Sampler sampler({.seed = 9});
    const auto tokens_of = [&](Engine& e, int slots) {
        e.open_cache(slots, 5 + 5 * slots);
        std::vector<int> all(slots), tokens, next;
        std::iota(all.begin(), all.end(), 0);
        for (const int slot : all) next.push_back(e.prefill_and_sample(slot, std::vector<int>{slot, 3}, sampler, 4));
        for (int step = 0; step < 4; step++) {
            e.decode_and_sample(all, next, sampler, std::vector<uint64_t>(slots, 4), next.data());
            tokens.insert(tokens.end(), next.begin(), next.end());
        }
        return tokens;
    };
    for (const int slots : {2, 1, 3}) EXPECT_EQ(tokens_of(*device, slots), tokens_of(*host, slots));
}

TEST_P(CudaGeneration, damaged_logits_are_the_error_of_the_hosts_sampler) {
    const auto device = engine(), host = on_host();
    std::vector<float> weights = read_all(*device, Arena::params);
    for (const TensorSpec& spec : param_table(config_)) {
        if (spec.name == (config_.tied_embeddings ? "wte" : "lm_head")) weights[spec.offset + 11 * config_.C] = NAN;
    }
    for (Engine* e : {device.get(), host.get()}) e->write(Arena::params, 0, weights);
    const int slot = 1, token = 3;
    const uint64_t number = 4;
    for (const float temperature : {0.0f, 1.0f}) {
        Sampler sampler({.temperature = temperature}), below({.temperature = temperature, .vocab_size = 11});
        std::vector<std::string> errors;
        for (Engine* e : {device.get(), host.get()}) {
            e->open_cache(2, 8);
            int next = 11;
            errors.push_back(error_of([&] { e->prefill_and_sample(slot, std::vector<int>{1, 2}, sampler, number); }));
            for (int step = 0; step < 3; step++) {  // on the device the second one is a graph
                errors.push_back(error_of([&] {
                    e->decode_and_sample({&slot, 1}, {&token, 1}, sampler, {&number, 1}, &next);
                }));
            }
            e->decode_and_sample({&slot, 1}, {&token, 1}, below, {&number, 1}, &next);  // 11 is no candidate
            EXPECT_LT(next, 11);
        }
        for (const std::string& error : errors) {
            EXPECT_NE(error.find("nan as the logit of token 11"), std::string::npos) << error;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, CudaGeneration,
                         ::testing::Values(Param{"gpt2_float32", kGpt2, Precision::float32},
                                           Param{"gpt2_bfloat16", kGpt2, Precision::bfloat16},
                                           Param{"llama_float32", kLlama, Precision::float32},
                                           Param{"llama_bfloat16", kLlama, Precision::bfloat16}),
                         [](const auto& p) { return p.param.name; });

}  // namespace kiln::testing
