// train_gpt2cu on several emulated GPUs, started by --gpus: losses, checkpoints, resuming on another number of ranks.
#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/emulated_programs.h"
#include "tests/support/train_program.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/train/loss_curve.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class RanksCu : public TrainProgram {
protected:
    RanksCu() { setenv("SIMT_GPUS", "2", 1); }
    ~RanksCu() override { unsetenv("SIMT_GPUS"); }

    // Steps of four sequences.
    Finished train(const fs::path& run, int gpus, int stage, const Args& more = {}) const {
        const Args base{"-i",
                        data(),
                        "-e",
                        "llama:layers=3,dim=16,heads=1,ctx=16,tied=false",
                        "-b",
                        gpus > 1 ? "2" : "4",
                        "-t",
                        "16",
                        "-d",
                        "64",
                        "-v",
                        "4",
                        "-m",
                        "1",
                        "-k",
                        "constant",
                        "-n",
                        "2",
                        "-x",
                        "4",
                        "-z",
                        std::to_string(stage),
                        "--deterministic-matmuls",
                        "-o",
                        run};
        const Args start = gpus > 1 ? Args{"--gpus", std::to_string(gpus)} : Args{};
        return run_program(program_path("train_gpt2cu"), base + start + more);
    }
    // As if it had been stopped after step 2, and resumed.
    Finished train_on(const fs::path& run, const fs::path& from, int gpus, int stage) const {
        fs::copy(from, run, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
        const CheckpointRef first = list_checkpoints(run).front(), last = list_checkpoints(run).back();
        EXPECT_EQ(std::min(first.step, last.step), 2);
        fs::remove_all((first.step > last.step ? first : last).directory);
        return train(run, gpus, stage, {"--resume"});
    }
    static std::vector<double> losses(const fs::path& run) {
        std::vector<double> all;
        for (const LossPoint& point : read_loss_curve(run).train) all.push_back(point.loss);
        return all;
    }
    // Of the last step.
    static std::string state_of(const fs::path& run) {
        const fs::path checkpoint = newest_checkpoint(run, nullptr)->directory;
        std::string state = read_file(checkpoint / "model.safetensors");
        for (const SafetensorsFile& part : open_optimizer(checkpoint)) state += read_file(part.path());
        return state;
    }
};

TEST_F(RanksCu, every_stage_trains_saves_and_is_resumed_on_any_number_of_ranks) {
    const fs::path on_one = directory_ / "one";
    ASSERT_EQ(train(on_one, 1, 0).code, 0);
    const std::vector<double> one = losses(on_one);
    ASSERT_EQ(one.size(), 4u);
    const auto expect_like_one = [&](const fs::path& run) {
        const std::vector<double> now = losses(run);
        ASSERT_EQ(now.size(), one.size());
        // bfloat16 rounds to 2^-9; a loss is a mean over 64 tokens, and steps add to the difference.
        for (size_t i = 0; i < one.size(); i++) EXPECT_NEAR(now[i], one[i], one[i] / 512) << "step " << i;
    };
    for (const int stage : {0, 1, 2, 3}) {
        SCOPED_TRACE(concat("-z ", stage));
        const fs::path whole = directory_ / concat("whole", stage), parts = directory_ / concat("parts", stage);
        const Finished trained = train(whole, 2, stage);
        ASSERT_EQ(trained.code, 0) << trained.out << trained.err;
        const size_t files = open_optimizer(newest_checkpoint(whole, nullptr)->directory).size();
        EXPECT_EQ(files, stage == 0 ? 1u : 2u);  // files of the optimizer state
        expect_like_one(whole);
        // On as many ranks the bits are the same.
        const Finished resumed = train_on(parts, whole, 2, stage);
        ASSERT_EQ(resumed.code, 0) << resumed.err;
        EXPECT_NE(resumed.err.find("resuming at step 2"), std::string::npos) << resumed.err;
        EXPECT_TRUE(state_of(parts) == state_of(whole));
    }
    // From two ranks to one, and from one to two in another stage.
    const fs::path fewer = directory_ / "fewer", more = directory_ / "more";
    const Finished on_fewer = train_on(fewer, directory_ / "whole3", 1, 0);
    ASSERT_EQ(on_fewer.code, 0) << on_fewer.err;
    expect_like_one(fewer);
    const Finished on_more = train_on(more, on_one, 2, 2);
    ASSERT_EQ(on_more.code, 0) << on_more.err;
    expect_like_one(more);
}

}  // namespace
}  // namespace kiln
