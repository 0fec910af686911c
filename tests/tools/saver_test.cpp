// Saving in the background, and what happens to a run when saving it, or its directory, fails.
#include "tools/train/saver.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <sstream>
#include <thread>

#include "tests/support/fake_engine.h"
#include "tests/support/markov_runs.h"
#include "tests/support/train_run.h"
#include "tools/checkpoint/links.h"
#include "tools/checkpoint/names.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class SaverTest : public MarkovRuns {
protected:
    TrainRun make_run(const fs::path& output) {
        TrainRun run(data_->path(), output);
        run.options.checkpoint_every = 2;
        run.hooks.notes = &notes_;
        return run;
    }
    size_t noted(const std::string& text) const {
        size_t count = 0;
        for (size_t at = 0; (at = notes_.str().find(text, at)) != std::string::npos; at++) count++;
        return count;
    }

    const fs::path run_ = directory_ / "run";
    std::ostringstream notes_;
};

// A saver of an engine whose state a test sets.
struct SavedByHand {
    explicit SavedByHand(const fs::path& run)
        : engine(parse_model("llama:layers=2,dim=64,heads=4,ffn=128,vocab=500,ctx=32")),
          plan{.config = engine.config(), .config_toml = "seed = 7\n", .async_save = true} {
        plan.options.output = run.string();
        make_directories(run);
        write_file_atomic(run / kConfigFile, plan.config_toml);  // as the trainer does
        log.emplace(run, LogPosition{});
        saver.emplace(plan, engine, &*log, [this](const std::string& text) { notes.push_back(text); });
    }

    FakeEngine engine;
    TrainPlan plan;
    std::vector<std::string> notes;
    std::optional<RunLog> log;
    std::optional<Saver> saver;
};

SaveRequest state_of(int64_t step) {
    return {step, {{"step", step}}, {}};
}

TEST_F(SaverTest, in_the_background_the_state_at_the_call_is_saved_and_saves_never_overlap) {
    SavedByHand by_hand(run_);
    for (const int64_t step : {1, 2, 3}) {
        by_hand.engine.fill(float(step));
        by_hand.saver->save_in_background(state_of(step));
        by_hand.engine.fill(0);  // training goes on
        if (step > 1) verify_checkpoint(run_ / concat("checkpoint-0000000", step - 1));
    }
    by_hand.saver->save_in_background(state_of(4));
    by_hand.saver->wait();
    EXPECT_EQ(by_hand.notes.size(), 4u);
    for (const CheckpointRef& checkpoint : list_checkpoints(run_)) {
        FakeEngine saved(by_hand.engine.config()), expected(by_hand.engine.config());
        load_training_state(checkpoint.directory, saved);
        const auto state = nlohmann::json::parse(read_file(checkpoint.directory / "trainer_state.json"));
        EXPECT_EQ(state.at("step"), checkpoint.step);
        expected.fill(checkpoint.step == 4 ? 0 : float(checkpoint.step));
        for (const Arena& arena : FakeEngine::saved()) EXPECT_EQ(saved.arena(arena), expected.arena(arena));
    }
}

// Or the other ranks would take a long save for a hang.
TEST_F(SaverTest, each_part_that_is_written_is_progress) {
    SavedByHand by_hand(run_);
    std::atomic<int> parts = 0;
    by_hand.saver.emplace(
        by_hand.plan, by_hand.engine, &*by_hand.log, [](const std::string&) {}, [&] { parts++; });
    const int tensors = 2 * int(by_hand.engine.config().L);  // at least
    by_hand.saver->save(state_of(1));
    EXPECT_GT(parts, tensors);
    parts = 0;
    by_hand.saver->save_in_background(state_of(2));
    by_hand.saver->wait();
    EXPECT_GT(parts, tensors);
}

TEST_F(SaverTest, a_failure_in_the_background_is_thrown_at_the_next_call_and_leaves_the_old_checkpoint) {
    SavedByHand by_hand(run_);
    by_hand.saver->save(state_of(1));
    by_hand.plan.files.files.push_back({"no/such/directory", ""});
    by_hand.saver->save_in_background(state_of(2));
    std::string message;
    while (message.empty()) message = error_of([&] { by_hand.saver->poll(); });
    EXPECT_NE(message.find("no/such/directory"), std::string::npos) << message;
    by_hand.saver->save_in_background(state_of(3));
    const std::string again = error_of([&] { by_hand.saver->save(state_of(4)); });
    EXPECT_NE(again.find("no/such/directory"), std::string::npos) << again;
    EXPECT_NE(again.find("checkpoint-00000001 is whole: resume with --resume -o " + run_.string()), std::string::npos)
        << again;
    by_hand.saver->save_in_background(state_of(5));
    by_hand.saver.reset();
    EXPECT_NE(by_hand.notes.back().find("no/such/directory"), std::string::npos);
    EXPECT_EQ(list_checkpoints(run_).size(), 1u);
    EXPECT_EQ(newest_checkpoint(run_, nullptr)->step, 1);
}

TEST_F(SaverTest, checkpoints_written_in_the_background_have_the_bits_of_others) {
    for (const bool in_background : {true, false}) {
        TrainRun run = make_run(directory_ / (in_background ? "in_background" : "waiting"));
        run.options.checkpoint_every = 1;
        run.options.async_save = in_background;
        EXPECT_EQ(run.plan().async_save, in_background);
        EXPECT_EQ(run.run(), TrainOutcome::finished);
    }
    const std::vector<CheckpointRef> all = list_checkpoints(directory_ / "in_background");
    ASSERT_EQ(all.size(), 10u);
    for (const CheckpointRef& checkpoint : all) {
        verify_checkpoint(checkpoint.directory);
        for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
            EXPECT_EQ(read_file(checkpoint.directory / file),
                      read_file(directory_ / "waiting" / checkpoint.directory.filename() / file));
        }
    }
    EXPECT_EQ(noted("checkpoint "), 20u);
}

TEST_F(SaverTest, without_memory_for_a_copy_training_waits) {
    const auto plan_with = [&](size_t free_bytes) {
        TrainRun run = make_run(run_);
        return make_plan(run.options, true, 1, [&](const std::string& text) { notes_ << text; },
                         {.name = "test", .free_bytes = free_bytes});
    };
    const TrainPlan plan = plan_with(size_t(1) << 40);
    EXPECT_TRUE(plan.async_save);
    size_t with_copy = 0;
    for (const MemoryItem& item : plan_memory(plan)) with_copy += item.bytes;
    const size_t copy = 3 * sizeof(float) * size_t(count_parameters(plan.config));
    EXPECT_EQ(with_copy, planned_bytes(plan.config, plan.engine_options()) + copy);
    EXPECT_TRUE(plan_with(with_copy).async_save);
    EXPECT_EQ(noted("training will wait"), 0u);
    EXPECT_FALSE(plan_with(with_copy - 1).async_save);
    EXPECT_EQ(noted("training will wait"), 1u);
}

TEST_F(SaverTest, a_run_directory_that_is_moved_stays_the_one_of_the_run) {
    const fs::path moved = directory_ / "moved";
    TrainRun run = make_run(run_);
    run.hooks.on_step = [&](const StepReport& report) {
        if (report.step != 4) return;
        fs::rename(run_, moved);
        EXPECT_NE(error_of([&] { RunLock lock(moved); }).find("another process trains there"), std::string::npos);
    };
    EXPECT_EQ(run.run(), TrainOutcome::finished);
    EXPECT_FALSE(fs::exists(run_));
    EXPECT_EQ(list_checkpoints(moved).size(), 5u);
    EXPECT_EQ(read_loss_curve(moved).train.size(), 10u);
    EXPECT_EQ(linked_checkpoint(moved, kModelLink)->filename(), "checkpoint-00000010");
    EXPECT_EQ(noted(concat(run_.string(), ": is now ", moved.string())), 1u) << notes_.str();
}

TEST_F(SaverTest, logs_that_are_moved_or_removed_are_begun_again_and_the_run_is_resumed_on_them) {
    TrainRun run = make_run(run_);
    run.options.max_steps = 6;
    run.hooks.on_step = [&](const StepReport& report) {
        if (report.step == 2) fs::rename(run_ / "metrics.jsonl", directory_ / "moved");
        if (report.step == 5) fs::remove(run_ / "main.log");  // before the last save
    };
    EXPECT_EQ(run.run(), TrainOutcome::finished);
    EXPECT_EQ(noted("metrics.jsonl: was moved, replaced or removed"), 1u) << notes_.str();
    EXPECT_EQ(noted("main.log: was moved, replaced or removed"), 1u) << notes_.str();
    EXPECT_EQ(read_file(run_ / "main.log"), "");
    TrainRun resumed = make_run(run_);
    resumed.options.resume = true;
    EXPECT_EQ(resumed.run(), TrainOutcome::finished);
    EXPECT_EQ(read_loss_curve(run_).train.size(), 7u);  // of the steps 3 to 9
    fs::rename(directory_ / "moved", run_ / "metrics.jsonl");
    EXPECT_EQ(read_loss_curve(run_).train.size(), 3u);
}

TEST_F(SaverTest, a_directory_of_others_with_the_name_of_a_checkpoint_is_renamed_with_a_note) {
    directory_.write("run/checkpoint-00000004/weights", "theirs");
    TrainRun run = make_run(run_);
    run.options.overwrite = true;  // a run is not begun where there are checkpoints, whoever wrote them
    EXPECT_EQ(run.run(), TrainOutcome::finished);
    const std::string name = run_ / "checkpoint-00000004";
    EXPECT_EQ(noted(concat(name, ": is no checkpoint of Kiln; it was renamed to ", name, ".other\n")), 1u)
        << notes_.str();
    EXPECT_EQ(read_file(name + ".other/weights"), "theirs");
}

TEST_F(SaverTest, a_run_directory_that_is_removed_gets_the_state_again_and_ends_the_training) {
    make_run(directory_ / "whole").run();
    for (const bool taken : {false, true}) {
        TrainRun run = make_run(run_);
        run.options.async_save = false;  // no save is going on while the test removes the directory
        run.hooks.on_step = [&](const StepReport& report) {
            if (report.step != 4) return;
            fs::remove_all(run_);
            if (taken) directory_.write("run/notes", "of another program");
        };
        const std::string message = error_of([&] { run.run(); });
        const fs::path saved = directory_ / (taken ? "run-saved" : "run");
        EXPECT_NE(message.find("run: was removed while the run trained in it"), std::string::npos) << message;
        EXPECT_NE(message.find("--resume -o " + saved.string()), std::string::npos) << message;
        ASSERT_TRUE(newest_checkpoint(saved, nullptr));
        TrainRun resumed = make_run(saved);
        resumed.options.resume = true;
        EXPECT_EQ(resumed.run(), TrainOutcome::finished);
        for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
            EXPECT_EQ(read_file(saved / "checkpoint-00000010" / file),
                      read_file(directory_ / "whole/checkpoint-00000010" / file));
        }
        EXPECT_EQ(fs::exists(run_ / "notes"), taken);
        fs::remove_all(run_);
    }
}

TEST_F(SaverTest, the_settings_of_a_removed_run_are_saved_again) {
    SavedByHand by_hand(run_);
    fs::remove_all(run_);
    EXPECT_NE(error_of([&] { by_hand.saver->save(state_of(1)); }), "");
    EXPECT_EQ(read_file(run_ / "config.toml"), "seed = 7\n");
}

TEST_F(SaverTest, what_a_kill_left_is_removed_by_the_next_start_and_nothing_else) {
    make_run(run_).run();
    for (const char* name : {".saving-checkpoint-00000011", "checkpoint-00000010.replaced"}) {
        fs::create_directory(run_ / name);
    }
    fs::create_directory_symlink("checkpoint-00000010", run_ / ".model.new");
    fs::create_directory_symlink("checkpoint-00000010", run_ / ".best.new");
    const std::string alive = concat("loss.svg.tmp-", ::getppid());  // of a process that runs, such as `kiln plot`
    for (const std::string name : {"loss.svg.tmp-999999999", "config.toml.tmp-999999999", ".write-test.tmp-999999999",
                                   ".write-test", "loss.svg.tmp-x", "mine.tmp-999999999", ".saving-mine"}) {
        directory_.write("run/" + name, "x");
    }
    directory_.write("run/" + alive, "x");
    TrainRun run = make_run(run_);
    EXPECT_NE(error_of([&] { run.run(); }), "");  // it is neither resumed nor replaced, so nothing is touched
    EXPECT_TRUE(fs::exists(run_ / ".write-test"));
    run.options.resume = true;
    run.options.keep = 2;
    run.run();  // which is at its last step
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(run_)) names.insert(entry.path().filename());
    EXPECT_EQ(names,
              (std::set<std::string>{"checkpoint-00000008", "checkpoint-00000010", "model", "main.log", "metrics.jsonl",
                                     "loss.svg", "loss.svg.tmp-x", alive, "mine.tmp-999999999", ".saving-mine"}));
}

TEST_F(SaverTest, a_reader_always_finds_a_checkpoint_while_old_ones_are_removed) {
    SavedByHand by_hand(run_);
    by_hand.plan.options.keep = 1;
    by_hand.saver->save(state_of(1));
    std::atomic<bool> done = false;
    std::thread reader([&] {
        for (int i = 0; i < 100; i++) EXPECT_TRUE(newest_checkpoint(run_, nullptr)) << i;
        done = true;
    });
    for (int64_t step = 2; !done; step++) by_hand.saver->save(state_of(step));
    reader.join();
}

}  // namespace
}  // namespace kiln
