// train_gpt2cu on several emulated GPUs, started by --gpus: losses, checkpoints, resuming on another number of ranks.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cpu_reference/interface/error.h"
#include "tests/support/emulated_programs.h"
#include "tests/support/train_program.h"
#include "tools/checkpoint/checkpoint.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class RanksCu : public TrainProgram {
protected:
    RanksCu() { setenv("SIMT_GPUS", "2", 1); }
    ~RanksCu() override { unsetenv("SIMT_GPUS"); }

    // Steps of four sequences.
    Finished train(const fs::path& run, int gpus, int stage, int steps, const Args& more = {}) const {
        const Args base{"-i",
                        data(),
                        "-e",
                        "llama:layers=3,dim=32,heads=2,ctx=16,tied=false",
                        "-b",
                        gpus > 1 ? "2" : "4",
                        "-t",
                        "16",
                        "-d",
                        "64",
                        "-v",
                        "2",
                        "-k",
                        "constant",
                        "-n",
                        "2",
                        "-x",
                        std::to_string(steps),
                        "-z",
                        std::to_string(stage),
                        "--deterministic-matmuls",
                        "-o",
                        run};
        const Args start = gpus > 1 ? Args{"--gpus", std::to_string(gpus)} : Args{};
        return run_program(program_path("train_gpt2cu"), base + start + more);
    }
    std::vector<double> losses(const fs::path& run) const {
        std::vector<double> all;
        std::istringstream lines(read_file(run / "metrics.jsonl"));
        for (std::string line; std::getline(lines, line);) {
            const auto record = nlohmann::json::parse(line);
            if (record.contains("loss")) all.push_back(record.at("loss"));
        }
        return all;
    }
    static std::string state_of(const fs::path& run) {
        const fs::path checkpoint = list_checkpoints(run).at(0).directory;
        return read_file(checkpoint / "model.safetensors") + read_file(checkpoint / "optimizer.safetensors");
    }
};

TEST_F(RanksCu, every_stage_trains_saves_and_is_resumed_on_any_number_of_ranks) {
    ASSERT_EQ(train(directory_ / "one", 1, 0, 6).code, 0);
    const std::vector<double> one = losses(directory_ / "one");
    ASSERT_EQ(one.size(), 6u);
    const auto expect_like_one = [&](const fs::path& run) {
        const std::vector<double> now = losses(run);
        ASSERT_EQ(now.size(), one.size());
        // bfloat16 rounds to 2^-9; a loss is a mean over 64 tokens, and steps add to the difference.
        for (size_t i = 0; i < one.size(); i++) EXPECT_NEAR(now[i], one[i], one[i] / 512) << "step " << i;
    };
    for (const int stage : {0, 1, 2, 3}) {
        SCOPED_TRACE(concat("-z ", stage));
        const fs::path whole = directory_ / concat("whole", stage), parts = directory_ / concat("parts", stage);
        const Finished trained = train(whole, 2, stage, 6);
        ASSERT_EQ(trained.code, 0) << trained.out << trained.err;
        expect_like_one(whole);
        // On as many ranks the bits are the same.
        ASSERT_EQ(train(parts, 2, stage, 4).code, 0);
        const Finished resumed = train(parts, 2, stage, 6, {"--resume"});
        ASSERT_EQ(resumed.code, 0) << resumed.err;
        EXPECT_TRUE(state_of(parts) == state_of(whole));
    }
    // From two ranks to one, and from one to two in another stage.
    const fs::path fewer = directory_ / "fewer", more = directory_ / "more";
    ASSERT_EQ(train(fewer, 2, 3, 4).code, 0);
    ASSERT_EQ(train(fewer, 1, 0, 6, {"--resume"}).code, 0);
    expect_like_one(fewer);
    ASSERT_EQ(train(more, 1, 0, 4).code, 0);
    const Finished resumed = train(more, 2, 2, 6, {"--resume"});
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    expect_like_one(more);
}

}  // namespace
}  // namespace kiln
