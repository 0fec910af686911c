// A resumed run has the same bits as an unbroken run, wherever it was interrupted.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "tests/support/train_run.h"
#include "tools/train/loss_curve.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

constexpr int kSteps = 200;

// Everything a step depends on: dropout, accumulation, more than one epoch, full outlier windows, skipped updates.
TrainRun make_run(const fs::path& data, const fs::path& output) {
    TrainRun run(data, output);
    run.options.B = 2;
    run.options.total_batch_tokens = 2 * 2 * 16;
    run.options.max_steps = kSteps;
    run.options.warmup_steps = 20;
    run.options.skip_norm_z = 2;
    run.options.val_every = 30;
    run.options.val_max_batches = 3;
    return run;
}

std::string checkpoint_name(int64_t step) {
    char name[64];
    std::snprintf(name, sizeof name, "checkpoint-%08lld", static_cast<long long>(step));
    return name;
}

// trainer_state.json without metrics_bytes, which depends on measured times.
nlohmann::json state_of(const fs::path& checkpoint) {
    nlohmann::json state = nlohmann::json::parse(read_file(checkpoint / "trainer_state.json"));
    state.erase("metrics_bytes");
    return state;
}

void expect_same_checkpoint(const fs::path& a, const fs::path& b) {
    ASSERT_EQ(read_file(a / "model.safetensors"), read_file(b / "model.safetensors")) << a << " " << b;
    ASSERT_EQ(read_file(a / "optimizer.safetensors"), read_file(b / "optimizer.safetensors")) << a << " " << b;
    ASSERT_EQ(state_of(a), state_of(b)) << a << " " << b;
}

class ResumeTest : public testing::Test {
protected:
    // The unbroken run, with a checkpoint of every step.
    static void SetUpTestSuite() {
        directory_ = std::make_unique<TempDirectory>();
        write_markov_shards(directory_->path() / "data", 9000, 1000);
        TrainRun run = make_run(data(), unbroken());
        run.options.checkpoint_every = 1;
        run.hooks.on_step = [](const StepReport& report) { skipped_ += !report.skipped.empty(); };
        ASSERT_EQ(run.run(), TrainOutcome::finished);
        save_start();
    }
    static void TearDownTestSuite() { directory_.reset(); }

    static fs::path data() { return *directory_ / "data"; }
    static fs::path unbroken() { return *directory_ / "unbroken"; }

    // Checkpoint 0, which only a run that is stopped at once writes.
    static void save_start() {
        TrainRun run = make_run(data(), *directory_ / "start");
        run.hooks.stop_requested = [] { return true; };
        ASSERT_EQ(run.run(), TrainOutcome::stopped);
    }

    // A run directory that was killed after checkpoint `step`, with logs of later steps.
    fs::path broken_at(int step) {
        const fs::path run = scratch_ / ("run-" + std::to_string(step));
        const fs::path from = (step == 0 ? *directory_ / "start" : unbroken()) / checkpoint_name(step);
        fs::create_directories(run);
        fs::copy(from, run / checkpoint_name(step), fs::copy_options::recursive);
        for (const char* log : {"main.log", "metrics.jsonl"}) fs::copy_file(unbroken() / log, run / log);
        return run;
    }

    static std::unique_ptr<TempDirectory> directory_;
    static int skipped_;
    TempDirectory scratch_;
};
std::unique_ptr<TempDirectory> ResumeTest::directory_;
int ResumeTest::skipped_ = 0;

TEST_F(ResumeTest, the_run_uses_everything_that_is_saved) {
    EXPECT_GT(skipped_, 0);
    const nlohmann::json state = state_of(unbroken() / checkpoint_name(kSteps));
    EXPECT_EQ(state["loss_window"].size(), OutlierWindow::kSize);
    EXPECT_GT(state["position"].get<int>(), 9000 / 16) << "no second epoch";
    EXPECT_EQ(state["updates"].get<int>(), kSteps - skipped_);
}

TEST_F(ResumeTest, one_step_from_each_of_200_checkpoints_gives_the_bits_of_the_next) {
    for (int step = 0; step < kSteps; step++) {
        TrainRun run = make_run(data(), broken_at(step));
        run.options.resume = true;
        run.options.checkpoint_every = 1;
        run.options.async_save = false;  // so that the run stops right after the save
        const fs::path next = fs::path(run.options.output) / checkpoint_name(step + 1);
        run.hooks.stop_requested = [&] { return fs::exists(next); };
        run.run();
        ASSERT_EQ(run.steps.size(), 1u);
        ASSERT_EQ(run.steps[0].step, step);
        ASSERT_NO_FATAL_FAILURE(expect_same_checkpoint(next, unbroken() / checkpoint_name(step + 1)));
        fs::remove_all(run.options.output);
    }
}

TEST_F(ResumeTest, resumed_to_the_end_log_and_weights_equal_the_unbroken_run) {
    std::mt19937 random(7);
    for (int i = 0; i < 4; i++) {
        const int step = i == 0 ? 60 : int(random() % kSteps);  // a validation is due at step 60
        TrainRun run = make_run(data(), broken_at(step));
        run.options.resume = true;
        EXPECT_EQ(run.run(), TrainOutcome::finished);
        const fs::path output = run.options.output;
        ASSERT_NO_FATAL_FAILURE(
            expect_same_checkpoint(output / checkpoint_name(kSteps), unbroken() / checkpoint_name(kSteps)));
        EXPECT_EQ(read_file(output / "main.log"), read_file(unbroken() / "main.log")) << step;
        const LossCurve curve = read_loss_curve(output);
        EXPECT_EQ(curve.train.size(), size_t(kSteps));
        EXPECT_EQ(read_file(output / "loss.svg"), loss_svg(curve, run_title(output)));
    }
}

TEST_F(ResumeTest, stopped_in_any_micro_batch_or_validation_it_equals_the_unbroken_run) {
    // The n-th question whether to stop is answered with yes: between steps, in a step, or in a validation.
    for (int n = 1; n < 120; n += 7) {
        TrainRun first = make_run(data(), scratch_ / std::to_string(n));
        int asked = 0;
        first.hooks.stop_requested = [&] { return ++asked >= n; };
        ASSERT_EQ(first.run(), TrainOutcome::stopped);
        EXPECT_EQ(asked, n);  // it stops at once
        TrainRun second = make_run(data(), first.options.output);
        second.options.resume = true;
        second.hooks.stop_requested = [&] { return second.steps.size() + first.steps.size() >= 45; };
        ASSERT_EQ(second.run(), TrainOutcome::stopped);
        ASSERT_NO_FATAL_FAILURE(expect_same_checkpoint(fs::path(first.options.output) / checkpoint_name(45),
                                                       unbroken() / checkpoint_name(45)));
    }
}

TEST_F(ResumeTest, other_learning_rate_schedule_or_length_is_allowed_and_logged) {
    TrainRun run = make_run(data(), broken_at(100));
    run.options.resume = true;
    run.options.learning_rate = 0.02;
    run.options.schedule = "linear";
    run.options.max_steps = 103;
    std::ostringstream notes;
    run.hooks.notes = &notes;
    EXPECT_EQ(run.run(), TrainOutcome::finished);
    EXPECT_EQ(run.steps.size(), 3u);
    EXPECT_NE(run.steps[0].learning_rate, 0);
    EXPECT_NE(read_file(fs::path(run.options.output) / "main.log").find("s:100 learning-rate:0.010000->0.020000\n"),
              std::string::npos);
    EXPECT_NE(notes.str().find("--learning-rate is 0.020000 from here on; it was 0.010000"), std::string::npos);
}

TEST_F(ResumeTest, other_model_sequence_length_seed_or_data_is_refused) {
    const fs::path broken = broken_at(100);
    const auto refusal = [&](const std::function<void(TrainRun&)>& change) {
        TrainRun run = make_run(data(), broken);
        change(run);
        run.options.resume = true;
        return error_of([&] {
            const auto plan = make_plan(run.options, true, 1, [](const std::string&) {});
            run.run();
        });
    };
    EXPECT_EQ(refusal([](TrainRun& run) { run.options.max_steps = 101; }), "");
    EXPECT_NE(refusal([](TrainRun& run) {
                  run.options.model = "llama:layers=2,dim=16,heads=2,kv_heads=1,ctx=16,dropout=0.1";
              }).find("was trained with the model llama:layers=1"),
              std::string::npos);
    EXPECT_NE(refusal([](TrainRun& run) { run.options.T = 8; }).find("--sequence-length 16, not 8"), std::string::npos);
    EXPECT_NE(refusal([](TrainRun& run) { run.options.seed = 5; }).find("--seed 1337, not 5"), std::string::npos);
    TempDirectory other;
    write_markov_shards(other.path(), 5000, 500);
    EXPECT_NE(refusal([&](TrainRun& run) { run.options.data = other.path(); }).find("not the same data"),
              std::string::npos);
}

TEST_F(ResumeTest, a_damaged_newest_checkpoint_is_skipped) {
    const fs::path run_directory = broken_at(50);
    fs::copy(unbroken() / checkpoint_name(49), run_directory / checkpoint_name(49), fs::copy_options::recursive);
    fs::resize_file(run_directory / checkpoint_name(50) / "optimizer.safetensors", 1000);
    TrainRun run = make_run(data(), run_directory);
    run.options.resume = true;
    run.hooks.stop_requested = [&] { return run.steps.size() == 2; };
    EXPECT_EQ(run.run(), TrainOutcome::stopped);
    EXPECT_EQ(run.steps[0].step, 49);
    expect_same_checkpoint(run_directory / checkpoint_name(51), unbroken() / checkpoint_name(51));
}

// After a power cut the logs may be shorter than when the checkpoint was written, or their end may be zeros.
TEST_F(ResumeTest, with_a_damaged_log_training_continues_and_saves) {
    TrainRun first = make_run(data(), scratch_ / "damaged");
    first.hooks.stop_requested = [&] { return first.steps.size() == 3; };
    EXPECT_EQ(first.run(), TrainOutcome::stopped);
    const fs::path metrics = scratch_ / "damaged" / "metrics.jsonl";
    std::string damaged = read_file(metrics);
    damaged[0] = 'x';
    write_file_atomic(metrics, damaged);
    TrainRun second = make_run(data(), scratch_ / "damaged");
    second.options.resume = true;
    second.hooks.stop_requested = [&] { return second.steps.size() == 3; };
    std::ostringstream notes;
    second.hooks.notes = &notes;
    EXPECT_EQ(second.run(), TrainOutcome::stopped);
    EXPECT_NE(notes.str().find("no loss.svg: "), std::string::npos) << notes.str();
    expect_same_checkpoint(scratch_ / "damaged" / checkpoint_name(6), unbroken() / checkpoint_name(6));
}

}  // namespace
}  // namespace kiln
