// The times by group of kernels: which ranges count, and that profiling changes no result.
#include "cuda/device/profile.h"

#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "cuda/engine/cuda_engine.h"
#include "tests/support/tiny_models.h"

namespace kiln::testing {
namespace {

constexpr EngineOptions kOptions = {.B = 2, .T = 11, .matmul_candidates = 1};

std::vector<float> train_a_step(const char* model, Profiler* profiler) {
    const ModelConfig config = parse_model(model);
    const auto engine = make_cuda_engine(config, kOptions, nullptr, profiler);
    engine->init_weights(1);
    engine->zero_gradients();
    engine->forward_backward(TinyBatch(kOptions.B, kOptions.T, config.V).batch(), 0.05f, 3);
    engine->gradient_norm();
    engine->update({.lr = 1e-3f});
    return read_all(*engine, Arena::params);
}

const char* const kLlama = "llama:layers=2,dim=16,heads=2,kv_heads=1,ffn=24,ctx=16,vocab=37";

}  // namespace

TEST(Profile, step_has_times_of_the_groups_of_its_model) {
    Profiler profiler;
    train_a_step(kLlama, &profiler);
    const auto times = profiler.take();
    for (int i = 0; i < kGroups; i++) {
        const bool absent = Group(i) == Group::bias || Group(i) == Group::dropout;
        EXPECT_EQ(times[i].ranges > 0, !absent) << name_of(Group(i));
        EXPECT_EQ(times[i].ms > 0, !absent) << name_of(Group(i));
    }
    // Of each layer: four matmuls forward, and twice as many backward; the head's, where the two backward are one
    // range.
    EXPECT_EQ(times[size_t(Group::matmuls)].ranges, 2 * 12 + 2);
    EXPECT_EQ(times[size_t(Group::attention)].ranges, 2 * 2);
    EXPECT_EQ(times[size_t(Group::rope)].ranges, 2 * 2);
    EXPECT_EQ(times[size_t(Group::norm)].ranges, (2 * 2 + 1) * 2);
    for (const GroupTime& time : profiler.take()) EXPECT_EQ(time.ranges, 0);
}

TEST(Profile, does_not_change_results) {
    Profiler profiler;
    EXPECT_EQ(train_a_step(kLlama, &profiler), train_a_step(kLlama, nullptr));
}

TEST(Profile, second_take_has_only_its_own_times) {
    const Stream stream;
    Profiler profiler;
    for (const int n : {3, 1, 5}) {
        for (int i = 0; i < n; i++) const GroupRange range(&profiler, Group::copies, stream);
        EXPECT_EQ(profiler.take()[size_t(Group::copies)].ranges, n);
    }
}

TEST(Profile, groups_that_nest_are_refused) {
    const Stream stream;
    Profiler profiler;
    const GroupRange outer(&profiler, Group::norm, stream);
    EXPECT_THROW(GroupRange(&profiler, Group::loss, stream), Error);
    EXPECT_THROW(profiler.take(), Error);
}

}  // namespace kiln::testing
