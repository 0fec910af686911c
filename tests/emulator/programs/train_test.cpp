// train_gpt2cu on the emulator: it learns, it resumes bit for bit, and each trainer can resume runs of the other.
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/support/emulated_programs.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class TrainCu : public TrainProgram {
protected:
    Args base(const std::string& model = "llama:layers=1,dim=16,heads=2,kv_heads=1,ctx=16") const {
        return {"-i", data(), "-e", model, "-b", "4", "-l", "0.01", "-v", "0", "--threads", "1"};
    }
    // The last loss of a run on the validation shards.
    double final_loss(const Finished& run) {
        EXPECT_EQ(run.code, 0) << run.err;
        return number_after(run.out, "| loss ");
    }
};

TEST_F(TrainCu, learns_as_the_cpu_does_in_every_precision) {
    const Args args = base() + Args{"-x", "20", "-v", "20", "-m", "0", "-o", ""};
    const double reference = final_loss(train_cpu(args));
    EXPECT_LT(reference, 2.4);  // from ln 16 = 2.77
    const double start = std::log(16.0);
    // The error of a weight or an activation is at most half a unit in the last place. After 20 steps of few operations
    // the error of the loss is a few of these units, relative to the loss at the start.
    const std::pair<const char*, double> precisions[] = {
        {"float32", 0x1p-24}, {"float16", 0x1p-11}, {"bfloat16", 0x1p-8}};
    for (const auto& [dtype, half_unit] : precisions) {
        const Finished run = train_cu(args + Args{"--dtype", dtype});
        EXPECT_NEAR(final_loss(run), reference, 1e-5 + 8 * half_unit * start) << dtype;
        EXPECT_NE(run.err.find(concat(" in ", dtype, ",")), std::string::npos) << run.err;
        EXPECT_NE(run.err.find("memory: parameters "), std::string::npos) << run.err;
    }
    EXPECT_NE(train_cu(args).err.find(" in bfloat16,"), std::string::npos);
}

TEST_F(TrainCu, options_that_save_memory_or_time_give_the_same_loss) {
    const Args args =
        base("gpt2:layers=1,dim=16,heads=2,ctx=16") + Args{"-b", "2", "-x", "3", "-v", "3", "-m", "2", "-o", ""};
    const double plain = final_loss(train_cu(args));
    // Without timing, so that all runs take the same algorithms.
    const Args fixed = args + Args{"--deterministic-matmuls"};
    const double fixed_loss = final_loss(train_cu(fixed));
    const Args same_bits[] = {{"--cuda-graphs", "0"}, {"-r", "1"}, {"-r", "2"}, {"-r", "3"}};
    for (const Args& options : same_bits) EXPECT_EQ(final_loss(train_cu(fixed + options)), fixed_loss) << options[1];
    const Args others[] = {{"-ge", "1"},
                           {"-ge", "2"},
                           {"--lm-head-chunks", "3"},
                           {"--grad-dtype", "same"},
                           {"--moment-dtype", "bfloat16"},
                           {"-w", "0"},
                           {"--deterministic-matmuls"}};
    for (const Args& options : others) {
        EXPECT_NEAR(final_loss(train_cu(args + options)), plain, 8 * 0x1p-8 * plain) << options[0];
    }
    const auto weights = [&](const Args& options) {
        EXPECT_EQ(train_cu(args + Args{"--deterministic-matmuls", "-o", run()} + options).code, 0);
        const std::string bits = read_file(run() / "checkpoint-00000003/model.safetensors");
        fs::remove_all(run());
        return bits;
    };
    EXPECT_EQ(weights({}), weights({"--lm-head-chunks", "3"}));
}

// Each run is killed as soon as it has a checkpoint, and resumed.
TEST_F(TrainCu, killed_and_resumed_it_equals_the_unbroken_run) {
    const Args variants[] = {{"--dtype", "float32"},
                             {"--dtype", "bfloat16"},
                             {"--dtype", "bfloat16", "-w", "0", "--grad-dtype", "same", "--moment-dtype", "bfloat16"},
                             {"--dtype", "float16", "-r", "2"}};
    for (size_t i = 0; i < std::size(variants); i++) {
        const fs::path whole = directory_ / concat("whole-", i), run = directory_ / concat("run-", i);
        const Args args =
            base("gpt2:layers=1,dim=16,heads=2,ctx=16,dropout=0.1") +
            Args{"-b", "2", "-d", "64", "-x", "10", "-n", "2", "-nk", "0", "-v", "5", "--deterministic-matmuls"} +
            variants[i];
        const Finished unbroken = train_cu(args + Args{"-o", whole});
        ASSERT_EQ(unbroken.code, 0) << unbroken.err;
        {
            Running running("train_gpt2cu", args + Args{"-o", run});
            ASSERT_TRUE(appears(run / "checkpoint-00000002"));
        }
        fs::remove_all(run / "checkpoint-00000010");  // if the run was too fast, pretend that it was killed earlier
        const Finished resumed = train_cu({"-o", run, "--resume"});
        ASSERT_EQ(resumed.code, 0) << resumed.err;
        for (const char* file :
             {"main.log", "checkpoint-00000010/model.safetensors", "checkpoint-00000010/optimizer.safetensors"}) {
            EXPECT_EQ(read_file(run / file), read_file(whole / file)) << file << " of variant " << i;
        }
    }
}

// When the scaled gradient of float16 overflows, training continues with any --on-nonfinite. The loss scale is part of
// the checkpoint.
TEST_F(TrainCu, overflow_in_float16_lowers_the_loss_scale) {
    const fs::path run = directory_ / "run";
    const Args args =
        base() + Args{"--dtype", "float16", "-b", "2", "-d", "32", "-l", "0.3", "-u", "0", "-x", "12", "-n", "3"};
    const Finished finished = train_cu(args + Args{"-nk", "0", "--on-nonfinite", "stop", "-o", run});
    ASSERT_EQ(finished.code, 0) << finished.out << finished.err;
    ASSERT_NE(finished.out.find("the gradient overflows; the loss scale is now 32768"), std::string::npos)
        << finished.out;
    EXPECT_NE(read_file(run / "checkpoint-00000003/trainer_state.json").find("\"loss_scale\""), std::string::npos);
}

TEST_F(TrainCu, each_trainer_resumes_runs_of_the_other) {
    const Args args = base() + Args{"-k", "constant"};
    const fs::path run = directory_ / "run", reference = directory_ / "reference";
    ASSERT_EQ(train_cpu(args + Args{"-x", "9", "-o", reference}).code, 0);
    ASSERT_EQ(train_cpu(args + Args{"-x", "3", "-o", run}).code, 0);
    const Finished on_gpu = train_cu({"-o", run, "--resume", "-x", "6", "-r", "1"});
    ASSERT_EQ(on_gpu.code, 0) << on_gpu.err;
    EXPECT_NE(on_gpu.err.find(" in float32,"), std::string::npos) << "the type of the run\n" << on_gpu.err;
    const Finished on_cpu = train_cpu({"-o", run, "--resume", "-x", "9"});
    ASSERT_EQ(on_cpu.code, 0) << on_cpu.err;
    EXPECT_NE(on_cpu.err.find("the run's --recompute (-r) 1: is not available in train_gpt2"), std::string::npos);
    EXPECT_NEAR(number_after(read_file(run / "metrics.jsonl"), "\"train_loss\":"),
                number_after(read_file(reference / "metrics.jsonl"), "\"train_loss\":"), 1e-5);
}

TEST_F(TrainCu, a_16_bit_run_is_resumed_in_float32_on_the_cpu) {
    const fs::path run = directory_ / "run";
    ASSERT_EQ(train_cu(base() + Args{"-x", "3", "-o", run, "-w", "0", "--moment-dtype", "bfloat16"}).code, 0);
    const std::string config = read_file(run / "config.toml");
    for (const char* line : {"dtype = \"bfloat16\"\n", "moment-dtype = \"bfloat16\"\n", "master-weights = false\n"}) {
        EXPECT_NE(config.find(line), std::string::npos) << line << config;
    }
    const Finished on_cpu = train_cpu({"-o", run, "--resume", "-x", "4"});
    ASSERT_EQ(on_cpu.code, 0) << on_cpu.err;
    for (const char* note :
         {"the run's --dtype bfloat16: is not available in train_gpt2, which computes on the CPU; it "
          "continues with float32\n",
          "the run's --moment-dtype bfloat16: "}) {
        EXPECT_NE(on_cpu.err.find(note), std::string::npos) << on_cpu.err;
    }
    EXPECT_NE(read_file(run / "main.log").find("s:3 dtype:\"bfloat16\"->\"float32\"\n"), std::string::npos);
}

}  // namespace
}  // namespace kiln
