// The real train_gpt2: killed at random times, with system calls and allocations that fail.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "cpu_reference/interface/error.h"
#include "tests/reliability/faults.h"
#include "tests/reliability/series.h"
#include "tests/support/train_program.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/links.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using faults::Action;

class ReliableProgram : public TrainProgram {
protected:
    // The library also keeps fsync from waiting for the disk.
    ReliableProgram() { setenv("LD_PRELOAD", (build_path() / "tests/reliability/libfaults.so").c_str(), 1); }
    ~ReliableProgram() override {
        unsetenv("LD_PRELOAD");
        unsetenv("KILN_FAULT");
    }

    Args args(const fs::path& output, int64_t steps, int64_t every) const {
        return {"-i",        data().string(),
                "-e",        "llama:layers=1,dim=16,heads=2,ctx=16,dropout=0.1",
                "-b",        "1",
                "-t",        "8",
                "-k",        "constant",
                "-v",        "0",
                "-o",        output.string(),
                "-x",        std::to_string(steps),
                "-n",        std::to_string(every),
                "-nk",       "2",
                "--threads", "1"};
    }

    // The step of the newest checkpoint; -1: there is none. All that have a name, and the link, are whole.
    static int64_t newest_step(const fs::path& run) {
        const auto newest = newest_checkpoint(run, [](const std::string& why) { ADD_FAILURE() << why; });
        if (const auto linked = linked_checkpoint(run, kModelLink)) verify_checkpoint(*linked);
        return newest ? newest->step : -1;
    }
    static std::string weights_of(const fs::path& run) {
        const fs::path checkpoint = list_checkpoints(run).at(0).directory;
        return read_file(checkpoint / "model.safetensors") + read_file(checkpoint / "optimizer.safetensors");
    }
};

TEST_F(ReliableProgram, killed_at_random_times_it_equals_the_uninterrupted_run) {
    Series series("train_gpt2 killed at random times");
    std::mt19937 random(3);
    int64_t reached = -1;
    const auto began = std::chrono::steady_clock::now();
    ASSERT_EQ(train_cpu(args(directory_ / "trial", 3, 1)).code, 0);
    const std::chrono::duration<double> three_steps = std::chrono::steady_clock::now() - began;
    std::uniform_real_distribution<double> seconds(0, 2 * three_steps.count());
    for (int i = 0; i < short_or_long(20, 1000); i++) {
        {
            Running running("train_gpt2", args(run(), 1000000, 1) + Args{reached < 0 ? "--resume=0" : "--resume"});
            std::this_thread::sleep_for(std::chrono::duration<double>(seconds(random)));
        }  // killed here
        series.add(concat("kill ", i), [&] {
            const int64_t step = newest_step(run());
            if (step < reached) return concat("the newest complete checkpoint is ", step, "; it was ", reached);
            reached = step;
            return std::string();
        });
    }
    ASSERT_GT(reached, 0) << "it was always killed before the first checkpoint";
    const Args last = args(run(), reached + 2, 1) + Args{"--resume"};
    const Finished resumed = train_cpu(last);
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    ASSERT_EQ(train_cpu(args(directory_ / "whole", reached + 2, 0)).code, 0);
    EXPECT_EQ(newest_step(run()), reached + 2);
    EXPECT_TRUE(weights_of(run()) == weights_of(directory_ / "whole"));
    const std::string longer = concat("s:", reached, " max-steps:1000000->", reached + 2, "\n");
    std::string log = read_file(run() / "main.log");
    if (const size_t at = log.find(longer); at != std::string::npos) log.erase(at, longer.size());
    EXPECT_EQ(log, read_file(directory_ / "whole" / "main.log"));
}

TEST_F(ReliableProgram, ends_with_1_and_a_message_when_a_call_or_an_allocation_fails) {
    ASSERT_EQ(train_cpu(args(directory_ / "begun", 2, 1)).code, 0);
    ASSERT_EQ(train_cpu(args(directory_ / "whole", 4, 1)).code, 0);
    const std::string whole = weights_of(directory_ / "whole");
    std::mt19937 random(4);
    const auto fail = [&](const std::string& name, Action action, int error, int64_t calls) {
        Series series("train_gpt2, " + name);
        int failures = 0;
        for (int i = 0; i < short_or_long(6, 200); i++) {
            const int64_t at = int64_t(random() % calls);
            fs::remove_all(run());
            fs::copy(directory_ / "begun", run(), fs::copy_options::recursive | fs::copy_options::copy_symlinks);
            setenv("KILN_FAULT", concat(run().string(), " ", int(action), " ", at, " ", error, " 1").c_str(), 1);
            const Finished ended = train_cpu(args(run(), 4, 1) + Args{"--resume"});
            unsetenv("KILN_FAULT");
            failures += ended.code != 0;
            series.add(concat("call ", at), [&]() -> std::string {
                if (ended.signal != 0) return concat("ended by signal ", ended.signal, ": ", ended.err);
                if (ended.code != 0 && ended.code != 1) return concat("exit code ", ended.code, ": ", ended.err);
                const bool named =
                    ended.err.find(action == Action::starve ? "memory" : run().string()) != std::string::npos;
                if (ended.code == 1 && !named && ended.err.find("alloc") == std::string::npos)
                    return "no message that helps: " + ended.err;
                if (newest_step(run()) < 2) return "the old checkpoint is lost";
                const Finished resumed = train_cpu(args(run(), 4, 1) + Args{"--resume"});
                if (resumed.code != 0) return "it cannot be resumed: " + resumed.err;
                return weights_of(run()) == whole ? "" : "other weights";
            });
        }
        EXPECT_GT(failures, 0);
    };
    fail("full disk", Action::fail, ENOSPC, 100);
    fail("EIO from then on", Action::fail, EIO, 300);
    fail("out of memory", Action::starve, 0, 20000);
}

}  // namespace
}  // namespace kiln
