// The engine as a program sees it: accumulation, dropout across micro-batches, updates, caches, memory.
#include <gtest/gtest.h>
#include <omp.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/tensors.h"
#include "tests/support/tiny_models.h"

using namespace kiln;
using namespace kiln::testing;

namespace {

class CpuEngine : public ::testing::TestWithParam<TinyModel> {
protected:
    ModelConfig config_ = parse_model(GetParam().descriptor);
};

std::unique_ptr<Engine> random_engine(const ModelConfig& config, const EngineOptions& options,
                                      Communicator* ranks = nullptr) {
    auto engine = make_engine(config, options, ranks);
    randomise(*engine, 5);
    return engine;
}

// Largest difference relative to the largest value.
double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, scale = 1e-30;
    for (size_t i = 0; i < a.size(); i++) {
        difference = std::max(difference, std::abs(double(a[i]) - b[i]));
        scale = std::max(scale, std::abs(double(a[i])));
    }
    return difference / scale;
}

template <class Function>
std::string message_of(Function function) {
    try {
        function();
    } catch (const Error& error) {
        return error.what();
    }
    return "(no error)";
}

ModelConfig with_dropout(ModelConfig config) {
    config.dropout_embedding = 0.1f, config.dropout_residual = 0.2f, config.dropout_attention = 0.3f;
    return config;
}

}  // namespace

// One batch of four equals four micro-batches of one, masks included. Only the order of sums differs.
TEST_P(CpuEngine, micro_batches_accumulate_to_the_whole_batch) {
    const int T = 6;
    const ModelConfig config = with_dropout(config_);
    const auto whole = random_engine(config, {.B = 4, .T = T});
    const auto parts = random_engine(config, {.B = 1, .T = T});
    const TinyBatch data(4, T, config.V, 10);
    for (int repeat = 0; repeat < 2; repeat++) {  // zero_gradients removes the gradients of the first time
        whole->zero_gradients();
        whole->forward_backward(data.batch(), 0.125f, 3);
        parts->zero_gradients();
        for (uint64_t b = 0; b < 4; b++) parts->forward_backward(TinyBatch(1, T, config.V, 10 + b).batch(), 0.125f, 3);
    }
    const LossSum a = whole->take_loss(), b = parts->take_loss();
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_NEAR(a.sum, b.sum, 1e-5 * a.sum);
    EXPECT_LT(relative_difference(read_all(*whole, Arena::gradients), read_all(*parts, Arena::gradients)), 2e-6 * 10);
    EXPECT_EQ(whole->take_loss().tokens, 0);
}

TEST_P(CpuEngine, dropout_gradient_matches_finite_differences) {
    const int B = 2, T = 5;
    const auto engine = random_engine(with_dropout(config_), {.B = B, .T = T});
    const TinyBatch data(B, T, config_.V);
    const std::vector<float> params = read_all(*engine, Arena::params);
    const auto loss_along = [&](const std::vector<double>& direction, double step) {
        std::vector<float> moved = params;
        for (size_t i = 0; i < moved.size(); i++) moved[i] = float(params[i] + step * direction[i]);
        engine->write(Arena::params, 0, moved);
        engine->zero_gradients();
        engine->forward_backward(data.batch(), 1.0f, 8);
        return engine->take_loss().sum;
    };
    loss_along(std::vector<double>(params.size(), 0.0), 0);
    const std::vector<float> gradient = read_all(*engine, Arena::gradients);
    std::vector<double> direction(params.size());
    double expected = 0, norm = 0;
    for (size_t i = 0; i < params.size(); i++) {
        direction[i] = (philox4x32(4, uint32_t(i), 0, 0, 0).v[0] & 1 ? 1 : -1) / std::sqrt(double(params.size()));
        expected += direction[i] * gradient[i];
        norm += double(gradient[i]) * gradient[i];
    }
    const double h = 0.02;
    const double near = (loss_along(direction, h) - loss_along(direction, -h)) / (2 * h);
    const double far = (loss_along(direction, 2 * h) - loss_along(direction, -2 * h)) / (4 * h);
    // As in decoder_test: rounding of the loss over 2 h.
    EXPECT_NEAR((4 * near - far) / 3, expected, 2e-3 + 2e-3 * std::sqrt(norm));
}

TEST_P(CpuEngine, dropout_is_absent_from_evaluation_and_from_p_zero) {
    const int B = 2, T = 6;
    const auto plain = random_engine(config_, {.B = B, .T = T});
    const auto dropping = random_engine(with_dropout(config_), {.B = B, .T = T});
    const TinyBatch data(B, T, config_.V);
    EXPECT_EQ(plain->evaluate(data.batch()).sum, dropping->evaluate(data.batch()).sum);
    plain->forward_backward(data.batch(), 1, 0);
    dropping->forward_backward(data.batch(), 1, 0);
    EXPECT_EQ(plain->take_loss().sum, plain->evaluate(data.batch()).sum);
    EXPECT_NE(dropping->take_loss().sum, plain->evaluate(data.batch()).sum);
}

// Prompts in two chunks, and several slots in one step, give the log-probabilities of evaluate.
TEST_P(CpuEngine, cached_generation_equals_evaluation) {
    const int B = 3, T = 12, V = config_.V;
    const auto engine = random_engine(config_, {.B = B, .T = T, .training = false});
    TinyBatch data(B, T, V);
    for (int b = 0; b < B; b++) {
        for (int t = 0; t < T; t++) data.targets[b * T + t] = t + 1 < T ? data.tokens[b * T + t + 1] : -1;
    }
    std::vector<float> losses(B * T), logits(size_t(B) * V);
    engine->evaluate(data.batch(), losses.data());
    const auto expect_next = [&](int b, int t, const float* row) {
        double sum = 0;
        for (int v = 0; v < V; v++) sum += std::exp(double(row[v]));
        // Logits of about 5 through ~100 roundings of 2^-24 in another order.
        EXPECT_NEAR(std::log(sum) - row[data.targets[b * T + t]], losses[b * T + t], 5e-5) << b << ", " << t;
    };

    engine->open_cache(B, T);
    for (int b = 0; b < B; b++) {  // prompts of 2, 3 and 4 tokens, in two chunks
        engine->prefill(b, {&data.tokens[b * T], 1}, logits.data());
        expect_next(b, 0, logits.data());
        engine->prefill(b, {&data.tokens[b * T + 1], size_t(b + 1)}, logits.data());
        expect_next(b, b + 1, logits.data());
    }
    for (int step = 0; step < 6; step++) {
        const std::vector<int> slots = {2, 0, 1};
        std::vector<int> tokens, at;
        for (const int b : slots) {
            at.push_back(engine->slot_length(b));
            tokens.push_back(data.tokens[b * T + at.back()]);
        }
        engine->decode(slots, tokens, logits.data());
        for (int i = 0; i < 3; i++) expect_next(slots[i], at[i], &logits[size_t(i) * V]);
    }
    engine->clear_slot(1);
    EXPECT_EQ(engine->slot_length(1), 0);
    engine->prefill(1, {&data.tokens[T], 11}, logits.data());
    expect_next(1, 10, logits.data());
}

TEST_P(CpuEngine, same_seed_gives_the_same_bits) {
    const TinyBatch data(2, 7, config_.V);
    std::vector<std::vector<float>> results;
    for (int run = 0; run < 2; run++) {
        const auto engine = random_engine(with_dropout(config_), {.B = 2, .T = 7});
        for (int64_t t = 1; t <= 3; t++) {
            engine->zero_gradients();
            engine->forward_backward(data.batch(), 0.1f, uint64_t(t));
            engine->update({.lr = 0.01f, .t = t});
        }
        results.push_back(read_all(*engine, Arena::params));
    }
    EXPECT_EQ(results[0], results[1]);
}

TEST_P(CpuEngine, bits_do_not_depend_on_the_number_of_threads) {
    const TinyBatch data(3, 7, config_.V);
    const int threads_before = omp_get_max_threads();
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 3}) {
        omp_set_num_threads(threads);
        const auto engine = random_engine(with_dropout(config_), {.B = 3, .T = 7});
        omp_set_num_threads(threads_before);  // the engine keeps its number of threads
        engine->forward_backward(data.batch(), 0.1f, 1);
        engine->gradient_norm();
        engine->update({.lr = 0.01f, .t = 1});
        results.push_back(read_all(*engine, Arena::params));
    }
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
}

// As a resumed run does: all arenas are copied from one engine to another, and both then compute the same.
TEST_P(CpuEngine, arenas_carry_a_run_into_another_engine) {
    const TinyBatch data(2, 5, config_.V);
    const auto step = [&](Engine& engine, int64_t t) {
        engine.zero_gradients();
        engine.forward_backward(data.batch(), 0.1f, 0);
        engine.update({.lr = 0.01f, .t = t});
    };
    const auto first = random_engine(config_, {.B = 2, .T = 5});
    step(*first, 1);
    const auto second = make_engine(config_, {.B = 2, .T = 5});
    for (const Arena& arena : {Arena::params, Arena{"moment1"}, Arena{"moment2"}}) {
        const std::vector<float> values = read_all(*first, arena);
        const size_t half = values.size() / 2;
        second->write(arena, 0, {values.data(), half});
        second->write(arena, half, {values.data() + half, values.size() - half});
    }
    step(*first, 2);
    step(*second, 2);
    EXPECT_EQ(read_all(*first, Arena::params), read_all(*second, Arena::params));
    EXPECT_EQ(read_all(*first, Arena{"moment2"}), read_all(*second, Arena{"moment2"}));
}

TEST_P(CpuEngine, update_is_adamw_with_decay_on_matrices_only) {
    const auto engine = random_engine(config_, {.B = 2, .T = 5});
    const TinyBatch data(2, 5, config_.V);
    const std::vector<float> before = read_all(*engine, Arena::params);
    engine->forward_backward(data.batch(), 0.1f, 0);
    const std::vector<float> gradients = read_all(*engine, Arena::gradients);
    double squares = 0;
    for (const float g : gradients) squares += double(g) * g;
    EXPECT_NEAR(engine->gradient_norm(), std::sqrt(squares), 1e-12 * std::sqrt(squares));
    engine->update({.lr = 0.01f, .weight_decay = 0.5f, .grad_scale = 0.25f, .t = 1});
    const std::vector<float> after = read_all(*engine, Arena::params);
    for (const TensorSpec& spec : param_table(config_)) {
        for (size_t i = spec.offset; i < spec.offset + spec.elems(); i++) {
            // At t = 1 the corrected moments are g and g^2.
            const double g = 0.25 * gradients[i], decay = spec.shape[1] > 1 ? 0.5 : 0.0;
            const double expected = before[i] - 0.01 * (g / (std::abs(g) + 1e-8) + decay * before[i]);
            ASSERT_NEAR(after[i], expected, 1e-6) << spec.name;
        }
    }
}

TEST_P(CpuEngine, training_learns_a_batch_by_heart) {
    const auto engine = make_engine(config_, {.B = 2, .T = 8});
    engine->init_weights(1);
    const TinyBatch data(2, 8, config_.V);
    double loss = 0;
    for (int64_t t = 1; t <= 150; t++) {
        engine->zero_gradients();
        engine->forward_backward(data.batch(), 1.0f / 16, 0);
        const LossSum sum = engine->take_loss();
        loss = sum.sum / double(sum.tokens);
        engine->update({.lr = 0.01f, .weight_decay = 0, .t = t});
    }
    EXPECT_LT(loss, 0.1);
}

INSTANTIATE_TEST_SUITE_P(Families, CpuEngine, ::testing::ValuesIn(tiny_models()),
                         [](const auto& info) { return info.param.name; });

namespace {

const ModelConfig kTiny = parse_model("llama:layers=1,dim=16,heads=2,ctx=8,vocab=11");

}  // namespace

TEST(CpuEngineInit, weights_follow_the_table_and_the_seed) {
    const ModelConfig config = parse_model("gpt2:layers=3,dim=64,heads=2,vocab=300,ctx=64");
    const auto engine = make_engine(config, {.B = 1, .T = 4});
    engine->init_weights(1);
    const std::vector<float> params = read_all(*engine, Arena::params);
    for (const TensorSpec& spec : param_table(config)) {
        double sum = 0, squares = 0;
        for (size_t i = spec.offset; i < spec.offset + spec.elems(); i++) {
            sum += params[i];
            squares += double(params[i]) * params[i];
        }
        const double n = double(spec.elems()), mean = sum / n, std = std::sqrt(squares / n - mean * mean);
        const bool residual = spec.name.ends_with("attn_out_w") || spec.name.ends_with("proj_w");
        if (spec.shape[1] == 1) {
            EXPECT_EQ(sum, spec.name.ends_with("_b") ? 0 : n) << spec.name;
        } else {
            const double expected = residual ? 0.02 / std::sqrt(6.0) : 0.02;
            EXPECT_NEAR(mean, 0, 5 * expected / std::sqrt(n)) << spec.name;  // five standard errors
            EXPECT_NEAR(std, expected, 5 * expected / std::sqrt(2 * n)) << spec.name;
        }
    }
    engine->init_weights(1);
    EXPECT_EQ(read_all(*engine, Arena::params), params);
    engine->init_weights(2);
    EXPECT_NE(read_all(*engine, Arena::params), params);
}

TEST(CpuEngineGradients, zeroed_gradients_read_as_zero_and_can_be_written) {
    const auto engine = random_engine(kTiny, {.B = 1, .T = 4});
    engine->forward_backward(TinyBatch(1, 4, kTiny.V).batch(), 1, 0);
    EXPECT_GT(engine->gradient_norm(), 0);
    engine->zero_gradients();
    EXPECT_EQ(engine->gradient_norm(), 0);
    const float three = 3;
    engine->write(Arena::gradients, 5, {&three, 1});
    const std::vector<float> gradients = read_all(*engine, Arena::gradients);
    EXPECT_EQ(gradients[5], 3);
    EXPECT_EQ(gradients[6], 0);
    EXPECT_EQ(engine->gradient_norm(), 3);
}

TEST(CpuEngineGradients, what_is_not_finite_shows_in_the_norm) {
    const auto engine = random_engine(kTiny, {.B = 1, .T = 4});
    const TinyBatch data(1, 4, kTiny.V);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    engine->write(Arena::params, size_t(kTiny.V) * kTiny.C + 20, {&nan, 1});
    engine->forward_backward(data.batch(), 1, 0);
    EXPECT_FALSE(std::isfinite(engine->gradient_norm()));
    EXPECT_FALSE(std::isfinite(engine->take_loss().sum));
}

TEST(CpuEngineGradients, ranks_in_threads_sum_to_the_whole_batch) {
    const int T = 5;
    const auto whole = random_engine(kTiny, {.B = 2, .T = T});
    whole->forward_backward(TinyBatch(2, T, kTiny.V).batch(), 1, 0);
    auto ranks = make_thread_communicators(2);
    std::vector<std::vector<float>> gradients(2);
    std::vector<std::thread> threads;
    for (int r = 0; r < 2; r++) {
        threads.emplace_back([&, r] {
            const auto engine = random_engine(kTiny, {.B = 1, .T = T}, ranks[r].get());
            const TinyBatch data(1, T, kTiny.V, uint64_t(r));
            Batch batch = data.batch();
            batch.last = true;
            engine->forward_backward(batch, 1, 0);
            gradients[r] = read_all(*engine, Arena::gradients);
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(gradients[0], gradients[1]);
    EXPECT_LT(relative_difference(read_all(*whole, Arena::gradients), gradients[0]), 2e-6);
}

TEST(CpuEngineErrors, misuse_is_named) {
    const auto engine = random_engine(kTiny, {.B = 1, .T = 4, .training = false});
    TinyBatch data(1, 4, kTiny.V);
    std::vector<float> logits(2 * kTiny.V);
    const auto has = [](const std::string& message, const char* part) {
        EXPECT_NE(message.find(part), std::string::npos) << message;
    };
    has(message_of([&] { engine->forward_backward(data.batch(), 1, 0); }), "EngineOptions::training");
    has(message_of([&] { read_all(*engine, Arena{"moment1"}); }),
        "moment1 needs an engine made with EngineOptions::training");
    data.tokens[2] = 11;
    has(message_of([&] { engine->evaluate(data.batch()); }), "token 11 at position 2");
    data.tokens[2] = 1, data.targets[3] = -2;
    has(message_of([&] { engine->evaluate(data.batch()); }), "target -2 at position 3");
    has(message_of([&] { engine->open_cache(1, 9); }), "context is 8");
    engine->open_cache(2, 4);
    const std::vector<int> five = {1, 2, 3, 4, 5}, same = {1, 1};
    has(message_of([&] { engine->prefill(0, five, logits.data()); }), "5 more do not fit");
    has(message_of([&] { engine->prefill(2, {five.data(), 1}, logits.data()); }), "slot 2 of 2");
    has(message_of([&] { engine->decode(same, same, logits.data()); }), "given twice");
    engine->prefill(0, {five.data(), 4}, logits.data());
    const int slot = 0;
    has(message_of([&] { engine->decode({&slot, 1}, {&slot, 1}, logits.data()); }), "is full at 4");
    EXPECT_THROW(make_engine(kTiny, {.B = 1, .T = 9}), UsageError);
    EXPECT_THROW(make_engine(kTiny, {.B = 0, .T = 4}), UsageError);
}

TEST(CpuEnginePeak, is_at_least_the_rate_that_a_step_reached) {
    const auto engine = make_engine(kTiny, {.B = 1, .T = 4});
    EXPECT_GT(engine->peak_flops(), 0);
    EXPECT_GE(engine->peak_flops(1e30), 1e30);
    EXPECT_GE(engine->peak_flops(1), 1e30);  // the largest seen
}

TEST(CpuEngineMemory, a_size_beyond_the_machine_is_refused_before_allocation) {
    const std::string message = message_of(
        [] { make_engine(parse_model("llama:layers=400,dim=16384,heads=128,ctx=4096"), {.B = 8, .T = 512}); });
    for (const char* part : {"needs", "GiB", "available", "lower the batch size", "gradients"}) {
        EXPECT_NE(message.find(part), std::string::npos) << message;
    }
}

// The peak memory of a process that only trains is within 5 % of the plan.
TEST(CpuEngineMemory, plan_predicts_the_peak_of_training) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {  // another process: the peak of this one includes earlier tests
        execl("/proc/self/exe", "cpu_engine_test", "--gtest_filter=CpuEngineMemory.DISABLED_child",
              "--gtest_also_run_disabled_tests", "--gtest_brief=1", nullptr);
        _exit(127);
    }
    close(ends[0]);
    close(ends[1]);
    int status = 0;
    rusage usage{};
    ASSERT_EQ(wait4(child, &status, 0, &usage), child);
    ASSERT_EQ(status, 0);
    size_t planned = 0;
    for (const MemoryItem& item : plan_memory(parse_model("llama-tiny"), {.B = 8, .T = 256})) planned += item.bytes;
    EXPECT_NEAR(double(usage.ru_maxrss) * 1024, double(planned), 0.05 * double(planned));
}

TEST(CpuEngineMemory, DISABLED_child) {
    const ModelConfig config = parse_model("llama-tiny");
    const auto engine = make_engine(config, {.B = 8, .T = 256});
    engine->init_weights(1);
    const TinyBatch data(8, 256, config.V);
    for (int64_t t = 1; t <= 2; t++) {
        engine->zero_gradients();
        engine->forward_backward(data.batch(), 1.0f / 2048, 0);
        engine->gradient_norm();
        engine->update({.lr = 1e-3f, .t = t});
    }
}
