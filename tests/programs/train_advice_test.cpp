// What train_gpt2 tells a newcomer who gives it something near to what it takes, or who wonders what a loss is of.
#include <signal.h>

#include <sstream>

#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/tokenizer.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/names.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

const char* const kModel = "llama:layers=1,dim=16,heads=2,kv_heads=1,ctx=16";

class TrainAdvice : public TrainProgram {
protected:
    Args base() const { return {"-i", data(), "-e", kModel, "-b", "4", "-x", "6", "--threads", "1"}; }

    void expect_failure(const Args& args, int code, const std::vector<std::string>& parts) {
        const Finished result = train_cpu(args);
        EXPECT_EQ(result.code, code) << result.err;
        for (const std::string& part : parts) {
            EXPECT_NE(result.err.find(part), std::string::npos) << "lacks: " << part << "\n" << result.err;
        }
    }
};

TEST_F(TrainAdvice, an_output_that_is_a_checkpoint_is_answered_by_the_name_of_its_run) {
    ASSERT_EQ(train_cpu(base() + Args{"-o", run()}).code, 0);
    const std::string advice = concat("is itself a checkpoint; give its run: -o ", run().string(), "\n");
    for (const char* name : {"checkpoint-00000006", "model", "model/"}) {
        expect_failure({"-o", run() / name, "--resume"}, 2, {advice});
    }
    expect_failure(base() + Args{"-o", run() / "checkpoint-00000006"}, 2, {advice});
}

TEST_F(TrainAdvice, a_directory_with_the_name_of_a_checkpoint_is_no_reason_to_resume) {
    fs::create_directories(run() / "checkpoint-5");
    write_file_atomic(run() / "checkpoint-5/mine", "x");
    expect_failure(base() + Args{"-o", run()}, 2,
                   {"holds checkpoint-5, which is not a checkpoint of Kiln; give another directory", "--overwrite"});
    EXPECT_EQ(train_cpu(base() + Args{"-o", run(), "--overwrite"}).code, 0);
    EXPECT_TRUE(fs::exists(run() / "checkpoint-5/mine"));
}

TEST_F(TrainAdvice, inputs_of_another_kind_and_unknown_presets_are_named) {
    BpeTrainer trainer({.vocab_size = 260, .special_tokens = {"<|endoftext|>"}});
    trainer.add_text("text", "text");
    fs::create_directories(directory_ / "tok");
    trainer.train().save(directory_ / "tok");
    expect_failure({"-i", directory_ / "tok", "-e", kModel}, 1,
                   {"it holds a tokenizer, with which shards are made: `kiln prepare", "--tokenizer"});
    expect_failure({"-i", data(), "-e", "gtp2"}, 2, {"qwen3-0.6b", "d6, d12, d24, ... are GPT-2"});
    expect_failure({"-o", directory_ / "none", "--resume"}, 2, {"none does not exist"});
}

TEST_F(TrainAdvice, a_batch_that_does_not_divide_that_of_the_run_says_whose_it_is) {
    ASSERT_EQ(train_cpu(base() + Args{"-o", run()}).code, 0);
    expect_failure({"-o", run(), "--resume", "-b", "8", "-x", "8"}, 2,
                   {"--total-batch-size (-d) 64, which the run has if none is given, is not a multiple of 8"});
}

TEST_F(TrainAdvice, a_loss_of_a_part_of_the_data_says_so) {
    const Finished part = train_cpu(base() + Args{"-o", run(), "-v", "6", "-m", "2"});
    ASSERT_EQ(part.code, 0) << part.err;
    std::istringstream lines(part.out);
    std::string first;
    std::getline(lines, first);
    EXPECT_TRUE(first.starts_with("val  0/6 | loss ") && first.ends_with(" | 2 of 10 micro-batches")) << first;
    EXPECT_NE(part.err.find(" at step 6 | 2 of 10 micro-batches\n"), std::string::npos) << part.err;
    const Finished all = train_cpu(base() + Args{"-v", "6", "-m", "10"});
    EXPECT_EQ((all.out + all.err).find("micro-batches"), std::string::npos) << all.out << all.err;
}

TEST_F(TrainAdvice, eval_only_takes_the_data_and_the_newest_model_of_the_run_and_all_of_the_data) {
    ASSERT_EQ(train_cpu(base() + Args{"-o", run(), "-v", "6", "-m", "1"}).code, 0);
    const Finished of_run = train_cpu({"-o", run(), "--eval-only"});
    ASSERT_EQ(of_run.code, 0) << of_run.err;
    const Finished named = train_cpu({"-i", data(), "-e", run(), "-b", "4", "--eval-only", "-m", "0"});
    EXPECT_EQ(of_run.out, named.out);
    EXPECT_EQ(of_run.err.find("micro-batches"), std::string::npos) << of_run.err;
    EXPECT_EQ(train_cpu({"-o", run(), "--resume", "--eval-only"}).out, named.out);
    const Finished part = train_cpu({"-o", run(), "--eval-only", "-m", "2"});
    EXPECT_NE(part.err.find("computed from 2 of 10 micro-batches; -m 0 uses all"), std::string::npos) << part.err;
    EXPECT_NE(part.out, named.out);
}

TEST_F(TrainAdvice, after_a_stop_the_command_that_resumes_is_printed_once) {
    const fs::path err = directory_ / "err";
    Running running("train_gpt2", base() + Args{"-x", "1000000", "-v", "0", "-o", run()}, "/dev/null", "/dev/null",
                    err);
    ASSERT_TRUE(appears(run() / "metrics.jsonl"));
    running.send(SIGTERM);
    const int status = running.wait(std::chrono::seconds(20));
    EXPECT_EQ(WEXITSTATUS(status), 3);
    const std::string text = read_file(err);
    const size_t first = text.find("--resume");
    EXPECT_NE(first, text.npos) << text;
    EXPECT_EQ(text.find("--resume", first + 1), text.npos) << text;
    EXPECT_NE(text.find("stopped by SIGTERM at step "), text.npos) << text;
}

}  // namespace
}  // namespace kiln
