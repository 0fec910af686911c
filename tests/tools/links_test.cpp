// <run>/model and <run>/best, the links to checkpoints.
#include "tools/checkpoint/links.h"

#include <gtest/gtest.h>

#include <atomic>
#include <sstream>
#include <thread>

#include "tests/support/fake_engine.h"
#include "tests/support/train_run.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

fs::path save(const fs::path& run, int64_t step) {
    FakeEngine engine(parse_model("llama:layers=1,dim=8,heads=2,kv_heads=1,ffn=12,vocab=11,ctx=16"));
    engine.fill(float(step));
    return save_checkpoint(run, step, engine, {{"step", step}}, {});
}

std::string target(const fs::path& run, const std::string& name) {
    std::error_code error;
    return fs::read_symlink(run / name, error).string();
}

TEST(Links, are_relative_and_replaced) {
    const TempDirectory directory;
    const fs::path run = directory / "run";
    const fs::path first = save(run, 1), second = save(run, 2);
    EXPECT_FALSE(linked_checkpoint(run, kModelLink));
    link_checkpoint(run, kModelLink, first);
    EXPECT_EQ(target(run, "model"), "checkpoint-00000001");
    fs::create_directory_symlink("checkpoint-00000001", run / ".model.new");  // left by a killed process
    link_checkpoint(run, kModelLink, second);
    EXPECT_EQ(linked_checkpoint(run, kModelLink), second);
    EXPECT_EQ(resolve_model_directory(run / "model"), second);
    EXPECT_EQ(resolve_model_directory(run / "model/"), second);
    fs::create_directory_symlink(run / "model/", directory / "chain");
    EXPECT_EQ(resolve_model_directory(directory / "chain/"), second);
    EXPECT_EQ(resolve_model_directory(second / ""), second);  // its name is compared with the step in it
    EXPECT_EQ(list_checkpoints(run).size(), 2u);
    fs::remove_all(second);
    EXPECT_FALSE(linked_checkpoint(run, kModelLink));
    EXPECT_NE(error_of([&] { resolve_model_directory(run / "model"); }).find("checkpoint-00000002"), std::string::npos);
}

TEST(Links, do_not_replace_files_and_directories_of_others) {
    const TempDirectory run;
    const fs::path checkpoint = save(run.path(), 1);
    run.write("model", "of the user");
    EXPECT_NE(error_of([&] { link_checkpoint(run.path(), "model", checkpoint); }).find("model: is not a link"),
              std::string::npos);
    EXPECT_EQ(read_file(run / "model"), "of the user");
    fs::create_directory(run / "best");
    EXPECT_NE(error_of([&] { link_checkpoint(run.path(), "best", checkpoint); }).find("best: is not a link"),
              std::string::npos);
}

TEST(Links, are_never_missing_while_they_are_replaced) {
    const TempDirectory run;
    const fs::path checkpoints[] = {save(run.path(), 1), save(run.path(), 2)};
    link_checkpoint(run.path(), kModelLink, checkpoints[0]);
    std::atomic<bool> done = false;
    std::atomic<int> reads = 0, failures = 0;
    std::thread reader([&] {
        for (; !done; reads++) failures += !fs::exists(run / "model" / "config.json");
    });
    for (int i = 0; i < 300 || reads < 300; i++) link_checkpoint(run.path(), kModelLink, checkpoints[i % 2]);
    done = true;
    reader.join();
    EXPECT_EQ(failures, 0);
}

TEST(Links, best_is_the_lowest_loss_of_a_step_with_a_checkpoint) {
    const TempDirectory run;
    for (const int64_t step : {10, 20, 30, 40}) save(run.path(), step);
    const auto best = [&](const std::vector<std::pair<int64_t, double>>& losses) {
        const auto found = best_checkpoint(run.path(), losses);
        return found ? found->step : -1;
    };
    EXPECT_EQ(best({}), -1);
    EXPECT_EQ(best({{15, 1.0}}), -1);
    EXPECT_EQ(best({{0, 9.0}, {10, 3.0}, {15, 1.0}, {20, 2.0}, {30, 2.5}}), 20);
    EXPECT_EQ(best({{20, 2.0}, {30, 2.0}, {40, 2.0}}), 20);
    EXPECT_EQ(best({{20, 2.0}, {30, 1.0}, {30, 4.0}}), 20);  // the step was repeated after a rollback
}

TEST(Links, pruning_keeps_what_they_point_to) {
    const TempDirectory run;
    for (const int64_t step : {1, 2, 3, 4, 5}) save(run.path(), step);
    link_checkpoint(run.path(), kBestLink, run / "checkpoint-00000002");
    fs::create_directory_symlink("checkpoint-00000003", run / "of-the-user");
    prune_checkpoints(run.path(), 1, 0);
    std::vector<int64_t> steps;
    for (const CheckpointRef& checkpoint : list_checkpoints(run.path())) steps.push_back(checkpoint.step);
    EXPECT_EQ(steps, (std::vector<int64_t>{5, 3, 2}));
}

// Its validation losses are 7, 5, 6, 6, 6, ...: the best is the second one, at step 2.
class ChosenLosses : public EngineProxy {
public:
    ChosenLosses(std::unique_ptr<Engine> real, int& validations)
        : EngineProxy(std::move(real)), validations_(validations) {}
    LossSum evaluate(const Batch& batch, float* losses) override {
        LossSum loss = EngineProxy::evaluate(batch, losses);
        const int n = validations_++;
        loss.sum = double(loss.tokens) * (n == 0 ? 7 : n == 1 ? 5 : 6);
        return loss;
    }

private:
    int& validations_;
};

class LinksOfARun : public testing::Test {
protected:
    LinksOfARun() { write_markov_shards(directory_ / "data", 4000, 600); }
    TrainRun make_run() {
        TrainRun run(directory_ / "data", run_);
        run.wrap = [this](std::unique_ptr<Engine> engine) {
            return std::make_unique<ChosenLosses>(std::move(engine), validations_);
        };
        run.options.val_every = run.options.checkpoint_every = 2;
        run.options.val_max_batches = 1;
        run.options.keep = 1;
        return run;
    }

    TempDirectory directory_;
    const fs::path run_ = directory_ / "run";
    int validations_ = 0;
};

TEST_F(LinksOfARun, name_the_newest_and_the_best_checkpoint) {
    make_run().run();
    EXPECT_EQ(target(run_, "model"), "checkpoint-00000010");
    EXPECT_EQ(target(run_, "best"), "checkpoint-00000002");
    verify_checkpoint(run_ / "best");
    EXPECT_EQ(list_checkpoints(run_).size(), 2u);
}

TEST_F(LinksOfARun, are_right_after_a_resume_of_a_killed_run) {
    make_run().run();
    link_checkpoint(run_, kModelLink, run_ / "checkpoint-00000002");  // as if it was killed after a save
    fs::remove(run_ / "best");
    TrainRun resumed = make_run();
    resumed.options.resume = true;
    resumed.run();  // which is at its end
    EXPECT_EQ(target(run_, "model"), "checkpoint-00000010");
    EXPECT_EQ(target(run_, "best"), "checkpoint-00000002");
    resumed.options.max_steps = 14;
    resumed.run();
    EXPECT_EQ(target(run_, "model"), "checkpoint-00000014");
    EXPECT_EQ(target(run_, "best"), "checkpoint-00000002");
}

TEST_F(LinksOfARun, never_recommend_a_damaged_best_checkpoint) {
    make_run().run();
    const TrainPlan plan = make_run().plan();
    const RunSummary summary{.step = 10, .total_steps = 10, .validated_part = "", .best = LossPoint{0, 4}};
    const ProgramNames names{"train_gpt2", "kiln"};
    const std::string best = run_ / "best";
    EXPECT_NE(summary_text(summary, plan, names).find("; the best that was saved is " + best), std::string::npos);
    EXPECT_NE(summary_text(summary, plan, names).find("--model " + best), std::string::npos);
    fs::resize_file(run_ / "best/model.safetensors", 100);
    const std::string text = summary_text(summary, plan, names);
    EXPECT_NE(text.find("the best, " + best + " -> checkpoint-00000002, is damaged: "), std::string::npos) << text;
    EXPECT_EQ(text.find("--model " + best), std::string::npos) << text;

    std::ostringstream notes;
    TrainRun resumed = make_run();
    resumed.options.resume = true;
    resumed.hooks.notes = &notes;
    resumed.run();  // which is at its end
    EXPECT_EQ(target(run_, "best"), "checkpoint-00000010");
    EXPECT_NE(notes.str().find("checkpoint-00000002: had the lowest validation loss, but is damaged: "),
              std::string::npos)
        << notes.str();
}

TEST_F(LinksOfARun, need_no_validation_and_their_failure_does_not_end_the_run) {
    std::ostringstream notes;
    TrainRun run = make_run();
    run.options.val_every = 0;
    run.hooks.notes = &notes;
    fs::create_directories(run_ / "model");
    EXPECT_EQ(run.run(), TrainOutcome::finished);
    EXPECT_NE(notes.str().find("model: is not a link"), std::string::npos) << notes.str();
    EXPECT_FALSE(fs::exists(fs::symlink_status(run_ / "best")));
}

}  // namespace
}  // namespace kiln
