// The training loop: its calls of the engine and the loader, and bad steps. resume_test tests resuming.
#include "tools/train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <sstream>
#include <thread>

#include "cpu_reference/interface/error.h"
#include "tests/support/markov_runs.h"
#include "tests/support/tiny_models.h"
#include "tests/support/train_run.h"
#include "tools/train/loss_curve.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

// Records all calls, and can change the loss or the gradient norm of a step.
class WatchedEngine : public EngineProxy {
public:
    struct Log {
        std::vector<uint64_t> samples;  // first_sample of every micro-batch
        std::vector<std::vector<int>> tokens;
        std::vector<float> grad_scales;  // of forward_backward
        std::vector<OptimizerStep> updates;
        std::function<double(int step, double loss)> loss = [](int, double loss) { return loss; };
        std::function<double(int step, double norm)> norm = [](int, double norm) { return norm; };
        int take_losses = 0, norms = 0;
        double peak_flops = 1;  // as on a device that was far too busy
    };

    WatchedEngine(std::unique_ptr<Engine> real, Log& log) : EngineProxy(std::move(real)), log_(log) {}
    void forward_backward(const Batch& batch, float grad_scale, uint64_t seed) override {
        log_.samples.push_back(batch.first_sample);
        log_.tokens.emplace_back(batch.tokens, batch.tokens + 16);
        log_.grad_scales.push_back(grad_scale);
        EngineProxy::forward_backward(batch, grad_scale, seed);
    }
    LossSum take_loss() override {
        LossSum loss = EngineProxy::take_loss();
        loss.sum = log_.loss(log_.take_losses++, loss.sum);
        return loss;
    }
    double peak_flops(double reached) const override { return std::max(log_.peak_flops, reached); }
    double gradient_norm() override { return log_.norm(log_.norms++, EngineProxy::gradient_norm()); }
    void update(const OptimizerStep& step) override {
        log_.updates.push_back(step);
        EngineProxy::update(step);
    }

private:
    Log& log_;
};

class TrainerTest : public MarkovRuns {
protected:
    TrainRun make_run() {
        TrainRun run(data_->path(), directory_ / "run");
        run.wrap = [this](std::unique_ptr<Engine> engine) {
            return std::make_unique<WatchedEngine>(std::move(engine), log_);
        };
        return run;
    }

    WatchedEngine::Log log_;
};

TEST_F(TrainerTest, accumulates_micro_batches_to_the_total_batch) {
    TrainRun run = make_run();
    run.options.total_batch_tokens = 3 * 4 * 16;
    run.options.max_steps = 2;
    EXPECT_EQ(run.run(), TrainOutcome::finished);
    EXPECT_EQ(log_.samples, (std::vector<uint64_t>{0, 4, 8, 12, 16, 20}));
    for (const float scale : log_.grad_scales) EXPECT_FLOAT_EQ(scale, 1.0f / (3 * 4 * 16));
    EXPECT_EQ(log_.updates.size(), 2u);
    EXPECT_EQ(run.progress.position, 24u);
}

TEST_F(TrainerTest, updates_get_rate_clipping_and_options) {
    TrainRun run = make_run();
    run.options.grad_clip = 0.25f;
    run.options.warmup_steps = 4;
    run.options.beta1 = 0.8f;
    run.options.beta2 = 0.97f;
    run.options.weight_decay = 0.3f;
    run.run();
    ASSERT_EQ(log_.updates.size(), 10u);
    int clipped = 0;
    for (size_t i = 0; i < 10; i++) {
        const double norm = run.steps[i].norm;
        clipped += norm > 0.25;
        EXPECT_FLOAT_EQ(log_.updates[i].grad_scale, norm > 0.25 ? float(0.25 / norm) : 1.0f);
        EXPECT_EQ(log_.updates[i].t, int64_t(i) + 1);
        EXPECT_EQ(log_.updates[i].lr, run.steps[i].learning_rate);
        EXPECT_EQ(log_.updates[i].beta1, 0.8f);
        EXPECT_EQ(log_.updates[i].beta2, 0.97f);
        EXPECT_EQ(log_.updates[i].weight_decay, 0.3f);
    }
    EXPECT_GT(clipped, 0);
    EXPECT_FLOAT_EQ(log_.updates[0].lr, 0.0025f);
}

TEST_F(TrainerTest, utilisation_is_never_above_one) {
    TrainRun run = make_run();
    run.run();
    for (const StepReport& step : run.steps) EXPECT_EQ(step.mfu, 1);
    log_.peak_flops = 1e30;
    TrainRun slow = make_run();
    slow.options.output.clear();
    slow.run();
    for (const StepReport& step : slow.steps) EXPECT_LT(step.mfu, 1e-9);
}

TEST_F(TrainerTest, a_loss_that_rises_and_stays_there_is_a_warning) {
    const auto notes_with = [&](double learning_rate, double times) {
        std::ostringstream notes;
        log_.take_losses = 0;
        log_.loss = [=](int step, double loss) { return step < 5 ? loss : times * loss; };
        TrainRun run = make_run();
        run.options.output.clear();
        run.options.learning_rate = learning_rate;
        run.options.schedule = "constant";
        run.options.max_steps = 150;
        run.hooks.notes = &notes;
        run.run();
        return notes.str();
    };
    const std::string notes = notes_with(0.01, 10);
    EXPECT_NE(notes.find("for 100 steps the loss has been above the first one and above 2.77"), std::string::npos)
        << notes;
    EXPECT_NE(notes.find("a lower --learning-rate (-l) such as 0.001,"), std::string::npos) << notes;
    EXPECT_EQ(notes_with(0.01, 1), "");
    EXPECT_EQ(notes_with(0, 1), "");  // near ln V for the whole run
}

TEST_F(TrainerTest, one_epoch_is_every_sequence_once) {
    TrainRun run = make_run();
    run.options.max_steps = -1;
    run.run();
    // (10000 - 1) / 16 sequences in each of two shards, four in a step; the rest is left out.
    EXPECT_EQ(run.steps.size(), 2u * 624 / 4);
}

TEST_F(TrainerTest, overfitting_uses_one_batch_only_and_learns_it) {
    TrainRun run = make_run();
    run.options.overfit_one_batch = true;
    run.options.model = "llama:layers=1,dim=32,heads=2,ctx=16";
    run.options.B = 1;
    run.options.max_steps = 150;
    run.run();
    for (size_t i = 0; i < log_.samples.size(); i++) {
        EXPECT_EQ(log_.samples[i], 0u);
        EXPECT_EQ(log_.tokens[i], log_.tokens[0]);
    }
    EXPECT_LT(run.steps.back().loss, 0.05);  // far below the entropy of the chain, so the model has memorized the batch
}

TEST_F(TrainerTest, validation_counts_every_sequence_once) {
    TrainRun run = make_run();
    run.options.val_every = 5;
    run.options.val_max_batches = 0;
    run.options.max_steps = 5;
    std::vector<int64_t> counted;
    struct Counting : EngineProxy {
        Counting(std::unique_ptr<Engine> real, std::vector<int64_t>& counted)
            : EngineProxy(std::move(real)), counted_(counted) {}
        LossSum evaluate(const Batch& batch, float* losses) override {
            const LossSum sum = EngineProxy::evaluate(batch, losses);
            counted_.push_back(sum.tokens);
            return sum;
        }
        std::vector<int64_t>& counted_;
    };
    run.wrap = [&](std::unique_ptr<Engine> engine) { return std::make_unique<Counting>(std::move(engine), counted); };
    run.options.B = 7;
    run.run();
    // 1999 / 16 = 124 sequences: 17 batches of seven and one of five, at the start and at the end.
    ASSERT_EQ(counted.size(), 36u);
    EXPECT_EQ(counted[0], 7 * 16);
    EXPECT_EQ(counted[17], 5 * 16);
    const std::string log = read_file(directory_ / "run/main.log");
    EXPECT_NE(log.find("s:0 tel:"), std::string::npos);
    EXPECT_NE(log.find("s:5 tel:"), std::string::npos);
}

TEST_F(TrainerTest, a_step_that_is_not_finite_is_skipped) {
    for (const bool in_loss : {true, false}) {
        log_ = {};
        TrainRun run(data_->path());
        run.wrap = make_run().wrap;
        const auto spoil = [](int step, double value) { return step == 4 || step == 5 ? std::nan("") : value; };
        (in_loss ? log_.loss : log_.norm) = spoil;
        EXPECT_EQ(run.run(), TrainOutcome::finished);
        EXPECT_EQ(log_.updates.size(), 8u);
        EXPECT_EQ(run.progress.updates, 8);
        EXPECT_EQ(run.steps[4].skipped, in_loss ? "loss is not finite" : "gradient is not finite");
        EXPECT_EQ(run.progress.loss_window.values().size(), in_loss ? 8u : 10u);
        EXPECT_EQ(run.progress.norm_window.values().size(), in_loss ? 10u : 8u);
        for (const float w : run.weights) ASSERT_TRUE(std::isfinite(w));
    }
}

TEST_F(TrainerTest, stop_on_nonfinite_writes_a_checkpoint_and_throws) {
    TrainRun run = make_run();
    run.options.on_nonfinite = "stop";
    log_.loss = [](int step, double loss) { return step == 4 ? HUGE_VAL : loss; };
    const std::string message = error_of([&] { run.run(); });
    EXPECT_NE(message.find("loss inf"), std::string::npos) << message;
    EXPECT_EQ(log_.updates.size(), 4u);
    const auto newest = newest_checkpoint(directory_ / "run", [](const std::string&) {});
    ASSERT_TRUE(newest);
    EXPECT_EQ(newest->step, 5);
}

TEST_F(TrainerTest, fifty_skipped_steps_in_a_row_are_an_error) {
    TrainRun run(data_->path());
    run.wrap = make_run().wrap;
    run.options.max_steps = 1000;
    log_.norm = [](int, double) { return HUGE_VAL; };
    EXPECT_NE(error_of([&] { run.run(); }).find("50 times in a row"), std::string::npos);
    EXPECT_EQ(log_.updates.size(), 0u);
}

TEST_F(TrainerTest, rollback_returns_to_the_checkpoint_and_skips_the_batch) {
    TrainRun run = make_run();
    run.options.on_nonfinite = "rollback";
    run.options.checkpoint_every = 4;
    log_.loss = [](int step, double loss) { return step == 6 ? std::nan("") : loss; };
    EXPECT_EQ(run.run(), TrainOutcome::finished);
    // Steps 0 to 6, where the last one fails; then from the checkpoint at 4 to the end at 10.
    std::vector<int64_t> steps;
    for (const StepReport& report : run.steps) steps.push_back(report.step);
    EXPECT_EQ(steps, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8, 9}));
    for (size_t i = 0; i < log_.samples.size(); i++)
        EXPECT_EQ(log_.samples[i], 4 * i);  // the position in the data never goes back
    EXPECT_EQ(log_.updates[6].t, 5);        // the first update after the rollback is number 5
    EXPECT_NE(read_file(directory_ / "run/main.log").find("rollback:step-4"), std::string::npos);
}

TEST_F(TrainerTest, three_rollbacks_that_fail_again_are_an_error) {
    TrainRun run = make_run();
    run.options.on_nonfinite = "rollback";
    run.options.checkpoint_every = 4;
    run.options.max_steps = 1000;
    log_.loss = [](int step, double loss) { return step >= 6 ? std::nan("") : loss; };
    EXPECT_NE(error_of([&] { run.run(); }).find("after 3 rollbacks"), std::string::npos);
    EXPECT_EQ(log_.take_losses, 10);
}

TEST_F(TrainerTest, an_outlier_is_skipped_once_the_window_is_full) {
    for (const bool by_loss : {true, false}) {
        log_ = {};
        TrainRun run(data_->path());
        run.wrap = make_run().wrap;
        run.options.max_steps = 140;
        (by_loss ? run.options.skip_loss_z : run.options.skip_norm_z) = 8;
        const auto spike = [](int step, double value) { return step == 5 || step == 135 ? 100 * value : value; };
        (by_loss ? log_.loss : log_.norm) = spike;
        run.run();
        EXPECT_EQ(run.steps[5].skipped, "");  // the window is not full yet
        // One distant value among 128 has the z-score 127 / sqrt(127), about 11, at any distance.
        EXPECT_NEAR(by_loss ? run.steps[135].loss_z : run.steps[135].norm_z, 11.27, 0.1);
        EXPECT_NE(run.steps[135].skipped.find("outlier"), std::string::npos);
        EXPECT_EQ(log_.updates.size(), 139u);
    }
}

TEST_F(TrainerTest, any_number_of_ranks_trains_on_the_same_samples_with_the_same_losses) {
    // Steps of eight sequences: as one micro-batch, as eight, and as two on 2 and 4 ranks. Ranks may change the losses
    // as much as micro-batches do by rounding.
    struct Result {
        std::vector<double> losses;
        std::map<uint64_t, std::vector<int>> tokens;  // by number of the sample
    };
    std::string model;
    const auto train = [&](int world, int B) {
        auto communicators = make_thread_communicators(world);
        std::vector<WatchedEngine::Log> logs(world);
        std::vector<std::unique_ptr<TrainRun>> runs;
        std::vector<std::thread> threads;
        for (int rank = 0; rank < world; rank++) {
            runs.push_back(std::make_unique<TrainRun>(data_->path()));
            TrainRun& run = *runs.back();
            run.world = world;
            run.options.model = model;
            run.options.B = B;

            run.options.total_batch_tokens = 8 * 16;
            run.wrap = [&logs, rank](std::unique_ptr<Engine> engine) {
                return std::make_unique<WatchedEngine>(std::move(engine), logs[rank]);
            };
            threads.emplace_back([&run, &communicators, rank] { run.run_as(*communicators[rank]); });
        }
        for (std::thread& thread : threads) thread.join();
        Result result;
        for (const StepReport& report : runs[0]->steps) result.losses.push_back(report.loss);
        for (int rank = 0; rank < world; rank++) {
            EXPECT_EQ(runs[rank]->weights, runs[0]->weights) << rank;  // all ranks have the same bits
            for (size_t i = 0; i < logs[rank].samples.size(); i++) {
                EXPECT_TRUE(result.tokens.emplace(logs[rank].samples[i], logs[rank].tokens[i]).second) << "seen twice";
            }
        }
        return result;
    };
    for (const testing::TinyModel& tiny : testing::odd_models()) {
        SCOPED_TRACE(tiny.name);
        model = tiny.descriptor;
        const Result whole = train(1, 8), cut = train(1, 1);
        double tolerance = 1e-6;
        for (size_t i = 0; i < whole.losses.size(); i++) {
            tolerance = std::max(tolerance, 4 * std::abs(whole.losses[i] - cut.losses[i]));
        }
        EXPECT_LT(tolerance, 1e-3);
        for (const int world : {2, 4}) {
            const Result result = train(world, 4 / world);
            ASSERT_EQ(result.losses.size(), 10u);
            for (size_t i = 0; i < 10; i++)
                EXPECT_NEAR(result.losses[i], whole.losses[i], tolerance) << world << " " << i;
            for (const auto& [row, tokens] : result.tokens) EXPECT_EQ(tokens, cut.tokens.at(row)) << row;
            EXPECT_EQ(result.tokens.size(), size_t(10 * 2 * world));
        }
    }
}

TEST_F(TrainerTest, the_loss_reaches_the_entropy_of_the_source) {
    TempDirectory data;
    write_markov_shards(data.path(), 200000, 40000);
    TrainRun run(data.path(), directory_ / "run");
    run.options.model = "llama:layers=1,dim=32,heads=2,ctx=32";
    run.options.T = 32;
    run.options.B = 16;
    run.options.max_steps = 300;
    run.options.warmup_steps = 10;
    run.options.val_every = 300;
    run.options.val_max_batches = 0;
    run.run();
    const double loss = read_loss_curve(directory_ / "run").val.back().loss;
    EXPECT_NEAR(loss, MarkovChain::entropy(), 0.02 * MarkovChain::entropy());
}

TEST_F(TrainerTest, an_epoch_shorter_than_a_step_is_one_step) {
    TrainOptions options;
    options.T = 16;
    options.total_batch_tokens = 1024 * 16;
    EXPECT_EQ(total_steps(options, 10), 1);
    options.epochs = 2.5;
    EXPECT_EQ(total_steps(options, 4096), 10);
    options.max_steps = 7;
    EXPECT_EQ(total_steps(options, 4096), 7);
}

// Shards that another process truncates. The run ends with an error and a checkpoint, from which it can be resumed.
class ChangingDataTest : public ::testing::TestWithParam<const char*> {
protected:
    void SetUp() override { write_markov_shards(directory_ / "data", 3000, 2000); }

    TrainRun make_run(const std::string& output) {
        TrainRun run(directory_ / "data", directory_ / output);
        run.options.val_every = 3;
        run.options.val_max_batches = 2;
        run.options.max_steps = 40;
        return run;
    }
    std::vector<fs::path> shards() const {
        std::vector<fs::path> found;
        for (const auto& entry : fs::directory_iterator(directory_ / "data")) {
            if (entry.path().filename().string().starts_with(GetParam())) found.push_back(entry.path());
        }
        return found;
    }

    TempDirectory directory_;
};
INSTANTIATE_TEST_SUITE_P(Shards, ChangingDataTest, ::testing::Values("train", "val"));

TEST_P(ChangingDataTest, truncated_shard_ends_the_run_with_a_checkpoint) {
    TrainRun whole = make_run("whole");
    whole.run();

    std::map<fs::path, std::string> contents;
    for (const fs::path& shard : shards()) contents[shard] = read_file(shard);
    TrainRun run = make_run("run");
    run.hooks.on_step = [&](const StepReport& report) {
        if (report.step == 4) {
            for (const auto& [shard, content] : contents) fs::resize_file(shard, content.size() / 2);
        }
    };
    const std::string message = error_of([&] { run.run(); });
    EXPECT_TRUE(message.starts_with((directory_ / "data" / GetParam()).string())) << message;
    EXPECT_NE(message.find("was truncated from"), std::string::npos) << message;
    const auto saved = newest_checkpoint(directory_ / "run", [](const std::string&) {});
    ASSERT_TRUE(saved);
    EXPECT_EQ(saved->step, run.steps.back().step + 1);  // nothing is lost

    for (const auto& [shard, content] : contents) write_file_atomic(shard, content);
    TrainRun resumed = make_run("run");
    resumed.options.resume = true;
    EXPECT_EQ(resumed.run(), TrainOutcome::finished);
    EXPECT_EQ(resumed.weights, whole.weights);
}

TEST_P(ChangingDataTest, data_that_fails_on_one_rank_ends_all_ranks) {
    auto communicators = make_thread_communicators(2);
    std::vector<TrainRun> runs(2, make_run("run"));
    std::string messages[2];
    std::vector<std::thread> threads;
    for (int rank = 0; rank < 2; rank++) {
        runs[rank].world = 2;
        runs[rank].options.total_batch_tokens = 2 * 4 * 16;
        if (rank == 1) {
            runs[1].hooks.on_step = [&](const StepReport& report) {
                if (report.step == 4) fs::resize_file(shards().front(), 2000);
            };
        }
        threads.emplace_back(
            [&, rank] { messages[rank] = error_of([&] { runs[rank].run_as(*communicators[rank]); }); });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_NE((messages[0] + messages[1]).find("was truncated from"), std::string::npos);
    for (const std::string& message : messages) EXPECT_NE(message, "");
    EXPECT_TRUE(newest_checkpoint(directory_ / "run", [](const std::string&) {}));
}

}  // namespace
}  // namespace kiln
