// On the emulated GPU too, a run that is resumed from any step has the bits of the unbroken run.
// tests/tools/resume_test does the same with the CPU's engine.
#include <gtest/gtest.h>

#include "tests/reliability/series.h"
#include "tests/support/emulated_programs.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class ResumeCu : public TrainProgram {};

TEST_F(ResumeCu, one_step_from_each_checkpoint_gives_the_bits_of_the_next) {
    const int steps = short_or_long(4, 200);
    const auto train = [&](const fs::path& output, int end, const Args& more) {
        const Args args{"-i",
                        data(),
                        "-e",
                        "llama:layers=1,dim=16,heads=2,kv_heads=1,ctx=16,dropout=0.1",
                        "--deterministic-matmuls",
                        "-b",
                        "2",
                        "-d",
                        "64",
                        "-k",
                        "constant",
                        "-v",
                        "0",
                        "-n",
                        "1",
                        "-nk",
                        "0",
                        "-o",
                        output.string(),
                        "-x",
                        std::to_string(end)};
        const Finished run = train_cu(args + more);
        ASSERT_EQ(run.code, 0) << run.err;
    };
    const auto name = [](int step) {
        return "checkpoint-" + std::string(step < 10 ? 7 : step < 100 ? 6 : 5, '0') + std::to_string(step);
    };
    const fs::path whole = directory_ / "whole";
    ASSERT_NO_FATAL_FAILURE(train(whole, steps, {}));
    Series series("resume from each step, emulated GPU");
    for (int step = 1; step < steps; step++) {
        fs::remove_all(run());
        fs::create_directories(run());
        fs::copy(whole / name(step), run() / name(step), fs::copy_options::recursive);
        for (const char* log : {"main.log", "metrics.jsonl"}) fs::copy_file(whole / log, run() / log);
        ASSERT_NO_FATAL_FAILURE(train(run(), step + 1, {"--resume"}));
        series.add(concat("step ", step), [&]() -> std::string {
            for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
                if (read_file(run() / name(step + 1) / file) != read_file(whole / name(step + 1) / file)) {
                    return concat(file, " differs");
                }
            }
            return "";
        });
    }
}

}  // namespace
}  // namespace kiln
