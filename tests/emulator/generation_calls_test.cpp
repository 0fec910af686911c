// What generation on a GPU asks the device for: the calls of the host, and the bytes that come back.
#include <gtest/gtest.h>

#include "cuda/engine/cuda_engine.h"
#include "dev/emulator/core/internal.h"
#include "tests/support/tiny_models.h"

namespace kiln::testing {
namespace {

class GenerationCalls : public ::testing::Test {
protected:
    GenerationCalls() { randomise(*engine_, 5); }

    template <class Work>
    static simt::Traffic traffic_of(Work work) {
        const simt::Traffic before = simt::traffic();
        work();
        const simt::Traffic after = simt::traffic();
        return {after.queued - before.queued, after.bytes_to_host - before.bytes_to_host};
    }

    const std::unique_ptr<Engine> engine_ =
        make_cuda_engine(parse_model("llama:layers=2,dim=24,heads=2,kv_heads=1,ffn=24,ctx=64,vocab=131"),
                         {.B = 1, .T = 1, .training = false});
};

}  // namespace

TEST_F(GenerationCalls, a_token_costs_one_graph_launch_and_four_bytes_a_slot) {
    constexpr int kSlots = 3;
    Sampler sampler({.top_k = 20, .top_p = 0.9f, .seed = 3});
    engine_->open_cache(kSlots, 64);
    for (int slot = 0; slot < kSlots; slot++) {
        engine_->prefill_and_sample(slot, std::vector<int>{1, 2, 3}, sampler, 7);
    }
    std::vector<int> slots = {0, 1, 2}, next = {4, 5, 6};
    const std::vector<uint64_t> numbers = {7, 8, 9};
    const auto decode = [&] { engine_->decode_and_sample(slots, next, sampler, numbers, next.data()); };
    for (int step = 0; step < 2; step++) decode();  // the second one is captured
    for (int step = 0; step < 3; step++) {
        const simt::Traffic token = traffic_of(decode);
        EXPECT_EQ(token.queued, 1u);
        EXPECT_EQ(token.bytes_to_host, kSlots * sizeof(int));
        if (step == 1) slots.pop_back(), next.pop_back();  // a sequence that ends changes nothing
    }
}

TEST_F(GenerationCalls, a_prompt_of_another_length_is_not_timed) {
    Sampler sampler({.seed = 3});
    engine_->open_cache(1, 64);
    const auto prefill = [&](int tokens) {
        return traffic_of([&] {
            engine_->clear_slot(0);
            engine_->prefill_and_sample(0, std::vector<int>(tokens, 3), sampler, 7);
        });
    };
    prefill(3);
    const simt::Traffic again = prefill(3), another = prefill(17);
    EXPECT_EQ(again.queued, another.queued);
    EXPECT_EQ(again.bytes_to_host, sizeof(int));
}

}  // namespace kiln::testing
