// Queued updates of the CUDA engine: which are applied, and how long each step took.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <numeric>
#include <thread>

#include "cpu_reference/interface/tensors.h"
#include "cuda/engine/cuda_engine.h"
#include "tests/cuda/needs.h"
#include "tests/support/tiny_models.h"

namespace kiln::testing {
namespace {

constexpr int kB = 2, kT = 11;

}  // namespace

// The logit of a target is minus infinity. So its loss is infinite, but with a small enough weight its gradient is
// finite.
TEST(CudaEngineUpdate, step_of_infinite_loss_and_finite_gradient_is_not_applied) {
    const ModelConfig config = parse_model("gpt2:layers=1,dim=16,heads=2,ctx=16,vocab=37,tied=false");
    for (const auto precision : {Precision::float32, Precision::bfloat16}) {
        KILN_SKIP_BELOW(precision == Precision::bfloat16 ? 80 : 0);
        const auto e = make_cuda_engine(config, {.B = kB, .T = kT, .precision = precision});
        std::vector<float> weights(param_table(config).back().offset + param_table(config).back().elems());
        e->init_weights(5);
        e->read(Arena::params, 0, weights);
        for (const TensorSpec& spec : param_table(config)) {
            // Normalised values of 16 elements are above -4. With 5 added, every term of that logit is negative.
            if (spec.name == "lnf_b") std::fill_n(&weights[spec.offset], spec.elems(), 5.0f);
            if (spec.name == "lm_head") std::fill_n(&weights[spec.offset + 36 * config.C], config.C, -3e38f);
        }
        e->write(Arena::params, 0, weights);
        weights = read_all(*e, Arena::params);
        TinyBatch bad(kB, kT, 36);
        for (const int micro : {0, 1, 2}) {
            bad.targets[3] = micro == 1 ? 36 : 3;
            e->forward_backward(bad.batch(), 1e-30f, 3);
        }
        e->queue_update({.lr = 0.1f, .t = 1}, 1);
        const StepResult result = e->take_update();
        EXPECT_TRUE(std::isinf(result.loss.sum)) << result.loss.sum;
        EXPECT_TRUE(std::isfinite(result.norm)) << result.norm;
        EXPECT_EQ(read_all(*e, Arena::params), weights);
        // The next step is applied again.
        e->zero_gradients();
        bad.targets[3] = 3;
        e->forward_backward(bad.batch(), 1e-30f, 3);
        e->queue_update({.lr = 0.1f, .t = 2}, 1);
        EXPECT_TRUE(std::isfinite(e->take_update().loss.sum));
        EXPECT_NE(read_all(*e, Arena::params), weights);
    }
}

// Each of several queued steps has its own time, also the first and the last. The time that the device waits for the
// host between two steps counts too.
TEST(CudaEngineUpdate, seconds_of_queued_steps_add_up_to_the_time_that_passed) {
    const ModelConfig config = parse_model("gpt2:layers=1,dim=16,heads=2,ctx=16,vocab=37");
    const auto e = make_cuda_engine(config, {.B = kB, .T = kT});
    e->init_weights(5);
    int t = 0;
    const auto queue_step = [&] {
        e->zero_gradients();
        e->forward_backward(TinyBatch(kB, kT, config.V, t).batch(), 0.05f, 3);
        e->queue_update({.lr = 1e-3f, .t = ++t}, 1);
    };
    // Not timed: kernels are loaded and matmuls planned, and then the micro-step is captured for each set of buffers.
    for (int step = 0; step < 4; step++) {
        queue_step();
        e->take_update();
    }
    constexpr int kSteps = 6;
    std::vector<double> seconds;
    const auto began = std::chrono::steady_clock::now();
    for (int step = 0; step < kSteps; step++) {
        queue_step();
        if (step > 0) seconds.push_back(e->take_update().seconds);
        if (step == 2) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    seconds.push_back(e->take_update().seconds);
    const double passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    for (const double s : seconds) EXPECT_GT(s, 0);
    const double sum = std::accumulate(seconds.begin(), seconds.end(), 0.0);
    EXPECT_LE(sum, passed);
    EXPECT_GE(sum, passed - 0.05);
    EXPECT_GE(seconds.back(), 0.1 * (passed - 0.1) / kSteps);
    EXPECT_GE(seconds[3], 0.09);
}

}  // namespace kiln::testing
