// The real train_gpt2, which saves every step, is killed with SIGKILL fifty times and resumed each time. It always
// finds a complete checkpoint, and ends with the bits of a run that was not killed.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/support/markov_data.h"
#include "tests/support/process.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/links.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

// The step of the newest checkpoint by name; -1: none. It is not verified, because the run is writing.
int64_t newest_name(const fs::path& run) {
    if (!fs::exists(run)) return -1;
    const auto all = list_checkpoints(run);
    return all.empty() ? -1 : all[0].step;
}

TEST(KillTrain, killed_fifty_times_it_equals_the_unbroken_run) {
    const TempDirectory directory;
    write_markov_shards(directory / "data", 4000, 600);
    const fs::path run = directory / "run", whole = directory / "whole";
    const std::vector<std::string> args{"-i",        (directory / "data").string(),
                                        "-e",        "llama:layers=2,dim=96,heads=4,ctx=16,dropout=0.1",
                                        "-b",        "1",
                                        "-t",        "2",
                                        "-k",        "constant",
                                        "-v",        "0",
                                        "--threads", "1"};
    const auto with = [&](std::vector<std::string> more) {
        more.insert(more.begin(), args.begin(), args.end());
        return more;
    };
    const auto newest_step = [&] {
        const auto newest = newest_checkpoint(run, [](const std::string& why) { ADD_FAILURE() << why; });
        return newest ? newest->step : -1;
    };

    std::mt19937 random(7);
    std::uniform_int_distribution<int> delay_us(0, 30000);  // a few steps with their checkpoints
    const auto saving = [&] {
        const auto is_saving = [](const auto& entry) {
            return entry.path().filename().string().starts_with(".saving-");
        };
        return std::ranges::any_of(fs::directory_iterator(run), is_saving);
    };
    int during_saves = 0;
    int64_t reached = -1;
    constexpr int kKills = 50;
    for (int i = 0; i < kKills; i++) {
        {
            Running running("train_gpt2", with({"-o", run.string(), reached < 0 ? "--resume=0" : "--resume", "-x",
                                                "1000000", "-n", "1", "-nk", "0"}));
            // Half of the kills come at any time after the first checkpoint, the others as soon as a save is seen, so
            // that the speed of the machine does not matter.
            const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
            while (newest_name(run) <= reached && std::chrono::steady_clock::now() < limit) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
            if (i % 2 == 0) {
                std::this_thread::sleep_for(std::chrono::microseconds(delay_us(random)));
            } else {
                while (!saving() && std::chrono::steady_clock::now() < limit) {
                }
            }
        }  // killed here
        during_saves += saving();
        const int64_t step = newest_step();
        ASSERT_GT(step, reached) << "after kill " << i;
        const auto linked = linked_checkpoint(run, kModelLink);
        if (linked) verify_checkpoint(*linked);
        EXPECT_TRUE(linked || i == 0);  // the first kill may come before the first link
        reached = step;
    }
    EXPECT_GT(during_saves, kKills / 4);

    const std::string end = std::to_string(reached + 2);
    ASSERT_EQ(run_program(program_path("train_gpt2"), with({"-o", run.string(), "--resume", "-x", end})).code, 0);
    ASSERT_EQ(run_program(program_path("train_gpt2"), with({"-o", whole.string(), "-x", end, "-n", "0"})).code, 0);
    ASSERT_EQ(newest_step(), reached + 2);
    const fs::path last = list_checkpoints(run)[0].directory.filename();
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
        EXPECT_EQ(read_file(run / last / file), read_file(whole / last / file)) << file;
    }
    RecordProperty("during_saves", during_saves);
}

}  // namespace
}  // namespace kiln
