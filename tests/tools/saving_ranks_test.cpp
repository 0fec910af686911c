// Ranks that have a part of the state each save together.
#include "tools/train/saving_ranks.h"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>

#include "tests/support/divided_engine.h"
#include "tests/support/temp_directory.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/names.h"
#include "tools/train/saver.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

constexpr int kRanks = 3;

// One rank, in a thread of its own.
struct Rank {
    Rank(const TrainPlan& plan, Communicator& calls, Communicator& saves)
        : engine(plan.config, calls.rank(), kRanks), now(engine, calls), behind(engine, saves) {
        if (calls.rank() == 0) log.emplace(plan.options.output, LogPosition{});
        saver.emplace(
            plan, now.state(), log ? &*log : nullptr, [this](const std::string& text) { notes.push_back(text); },
            [this] {
                if (on_progress) on_progress();
            },
            SaverRanks{&now, &behind});
    }
    DividedEngine engine;
    SavingRanks now, behind;
    std::vector<std::string> notes;
    std::function<void()> on_progress;  // while a part is written
    std::optional<RunLog> log;
    std::optional<Saver> saver;
};

class SavingRanksTest : public testing::Test {
protected:
    SavingRanksTest() {
        plan_.options.output = run_.string();
        make_directories(run_);
        write_file_atomic(run_ / kConfigFile, plan_.config_toml);
    }
    // Calls act(rank, its number) on all ranks, and returns what each threw.
    template <class Act>
    std::vector<std::string> on_all(Act act) {
        auto calls = make_thread_communicators(kRanks), saves = make_thread_communicators(kRanks);
        std::vector<std::string> errors(kRanks);
        std::vector<std::thread> threads;
        for (int r = 0; r < kRanks; r++) {
            threads.emplace_back([&, r] {
                errors[size_t(r)] = error_of([&] {
                    Rank rank(plan_, *calls[size_t(r)], *saves[size_t(r)]);
                    rank.engine.fill(1);
                    act(rank, r);
                    rank.saver->wait();
                });
            });
        }
        for (std::thread& thread : threads) thread.join();
        return errors;
    }
    void expect_whole(int64_t step, float filled_with) const {
        const auto newest = newest_checkpoint(run_, nullptr);
        ASSERT_TRUE(newest);
        EXPECT_EQ(newest->step, step);
        FakeEngine saved(plan_.config), expected(plan_.config);
        load_training_state(newest->directory, saved);
        expected.fill(filled_with);
        for (const Arena& arena : FakeEngine::saved()) EXPECT_EQ(saved.arena(arena), expected.arena(arena));
        for (int r = 0; r < kRanks; r++) {
            EXPECT_TRUE(fs::exists(newest->directory / optimizer_file(r, kRanks)));
        }
        EXPECT_FALSE(fs::exists(newest->directory / "optimizer.safetensors"));
    }
    static void save(Rank& rank, int64_t step, bool in_background) {
        const SaveRequest request{step, {{"step", step}}, {}};
        in_background ? rank.saver->save_in_background(request) : rank.saver->save(request);
    }

    const TempDirectory directory_;
    const fs::path run_ = directory_ / "run";
    TrainPlan plan_{.config = parse_model("llama:layers=2,dim=16,heads=2,ffn=32,vocab=65,ctx=8"),
                    .config_toml = "seed = 7\n",
                    .async_save = true};
};

TEST_F(SavingRanksTest, each_rank_writes_its_part_at_once_or_behind_the_training) {
    for (const bool in_background : {false, true}) {
        const auto errors = on_all([&](Rank& rank, int) {
            for (const int64_t step : {1, 2}) {
                rank.engine.fill(float(step));
                save(rank, step, in_background);
                if (in_background) rank.engine.fill(99);  // training goes on
            }
        });
        EXPECT_EQ(errors, std::vector<std::string>(kRanks));
        expect_whole(2, 2);
        fs::remove_all(run_ / "checkpoint-00000001");
        fs::remove_all(run_ / "checkpoint-00000002");
    }
}

TEST_F(SavingRanksTest, what_fails_on_one_rank_fails_on_all_with_its_reason_and_the_old_checkpoint_stays) {
    for (const bool in_background : {false, true}) {
        for (int failing = 0; failing < kRanks; failing++) {
            const auto errors = on_all([&](Rank& rank, int r) {
                save(rank, 1, in_background);
                rank.saver->wait();
                // A value that no training leaves, in the rank's own part.
                if (r == failing) {
                    for (float& value : rank.engine.arena({"moment2"})) value = -1;
                }
                save(rank, 2, in_background);
            });
            for (const std::string& error : errors) {
                EXPECT_NE(error.find(concat("rank ", failing, ": ")), std::string::npos) << error;
                EXPECT_NE(error.find("holds -1 at element "), std::string::npos) << error;
                EXPECT_NE(error.find("checkpoint-00000001 is whole: resume with"), std::string::npos) << error;
            }
            expect_whole(1, 1);
            fs::remove_all(run_ / "checkpoint-00000001");
        }
    }
}

TEST_F(SavingRanksTest, a_checkpoint_that_is_removed_while_ranks_write_it_is_written_again) {
    for (const bool in_background : {false, true}) {
        for (int removing = 0; removing < kRanks; removing++) {
            std::atomic<bool> removed = false;
            const auto errors = on_all([&](Rank& rank, int r) {
                save(rank, 1, false);
                if (r == removing) {
                    rank.on_progress = [&] {
                        for (const auto& entry : fs::directory_iterator(run_)) {
                            const std::string name = entry.path().filename().string();
                            if (removed || !name.starts_with(kUnfinished)) continue;
                            removed = true;
                            fs::remove_all(entry.path());
                        }
                    };
                }
                save(rank, 2, in_background);
            });
            EXPECT_EQ(errors, std::vector<std::string>(kRanks));
            EXPECT_TRUE(removed);
            expect_whole(2, 1);
            fs::remove_all(run_ / "checkpoint-00000001");
            fs::remove_all(run_ / "checkpoint-00000002");
        }
    }
}

TEST_F(SavingRanksTest, a_run_directory_that_is_removed_gets_the_state_again_and_all_ranks_end) {
    const auto errors = on_all([&](Rank& rank, int r) {
        save(rank, 1, false);
        if (r == 0) fs::remove_all(run_);
        save(rank, 2, true);
    });
    for (const std::string& error : errors) {
        EXPECT_NE(error.find("run: was removed while the run trained in it"), std::string::npos) << error;
    }
    expect_whole(2, 1);
}

// Two hosts may have different directories under one name.
TEST_F(SavingRanksTest, a_directory_that_is_not_that_of_rank_0_is_found) {
    const fs::path other = directory_ / "other";
    make_directories(other);
    write_file_atomic(other / kWriteTest, "of an earlier start");
    for (const fs::path& second : {run_, other, directory_ / "none"}) {
        auto calls = make_thread_communicators(2);
        const auto error_on = [&](int r, const fs::path& directory) {
            return error_of([&] {
                const DividedEngine engine(plan_.config, r, 2);
                SavingRanks(engine, *calls[size_t(r)]).check_shared(directory);
            });
        };
        std::string of_second;
        std::thread thread([&] { of_second = error_on(1, second); });
        const std::string of_first = error_on(0, run_);
        thread.join();
        EXPECT_EQ(of_first.empty(), second == run_) << of_first;
        EXPECT_EQ(of_second.find("is not the directory that rank 0 has") == std::string::npos, second == run_)
            << of_second;
        EXPECT_FALSE(fs::exists(run_ / kWriteTest));
    }
}

}  // namespace
}  // namespace kiln
