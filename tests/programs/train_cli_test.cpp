// The real train_gpt2: options, messages, exit codes and signals.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/cli/version.h"
#include "tools/train/plan.h"
#include "tools/train/run_directory.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

const char* const kModel = "llama:layers=1,dim=16,heads=2,kv_heads=1,ctx=16";

std::vector<std::string> checkpoints(const fs::path& run) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(run)) {
        const std::string name = entry.path().filename();
        if (name.starts_with("checkpoint-")) names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
}

class TrainCli : public TrainProgram {
protected:
    Args base() const { return {"-i", data(), "-e", kModel, "-b", "4", "-x", "6", "--threads", "1"}; }

    // train_gpt2 fails with `code` before it trains, and its message contains all of `parts`.
    void expect_failure(const Args& args, int code, const std::vector<std::string>& parts) {
        const Finished result = train_cpu(args);
        std::string all;
        for (const std::string& arg : args) all += arg + " ";
        EXPECT_EQ(result.code, code) << all << "\n" << result.err;
        EXPECT_EQ(result.out, "") << all;
        for (const std::string& part : parts) {
            EXPECT_NE(result.err.find(part), std::string::npos) << all << "\nlacks: " << part << "\n" << result.err;
        }
        const size_t last = result.err.rfind("train_gpt2: ");
        EXPECT_NE(last, std::string::npos) << result.err;
    }
};

TEST_F(TrainCli, trains_and_writes_a_complete_run_directory) {
    const Finished result = train_cpu(base() + Args{"-o", run(), "-v", "3", "-n", "2", "-nk", "2"});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("step 6/6 | loss "), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("val  3/6 | loss "), std::string::npos) << result.out;
    EXPECT_EQ(checkpoints(run()), (Args{"checkpoint-00000004", "checkpoint-00000006"}));
    for (const char* file :
         {"config.toml", "main.log", "metrics.jsonl", "loss.svg", "checkpoint-00000006/manifest.json",
          "checkpoint-00000006/model.safetensors", "checkpoint-00000006/config.json"}) {
        EXPECT_TRUE(fs::exists(run() / file)) << file;
    }
    const std::string log = read_file(run() / "main.log");
    EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 6 + 3);
    EXPECT_TRUE(log.starts_with("s:0 tel:"));
}

TEST_F(TrainCli, data_of_another_tokenizer_is_refused) {
    const auto prepared = [&](const char* name, const char* text) {
        const fs::path directory = directory_ / name;
        fs::create_directories(directory);
        BpeTrainer trainer({.vocab_size = 262, .special_tokens = {"<|endoftext|>"}});
        trainer.add_text(text, "text");
        const Tokenizer tokenizer = trainer.train();
        tokenizer.save(directory);
        ShardInfo info{.vocab_size = tokenizer.vocab_size(), .num_documents = 1, .count = 1};
        info.tokenizer_sha256 = sha256(read_file(directory / "tokenizer.json"));
        for (const char* shard : {"train_000000.bin", "val_000000.bin"}) {
            write_shard(directory / shard, std::vector<int>(100, 65), info);
        }
        return directory.string();
    };
    const std::string a = prepared("a", "low lower lowest low lower"), b = prepared("b", "new newer newest new newer");
    const Args args{"-i", a, "-e", kModel, "-b", "2", "-x", "1", "--threads", "1"};
    const std::vector<std::string> parts{"was made with another tokenizer than the one in", "--force"};
    expect_failure(args + Args{"-j", b}, 2, parts);
    expect_failure(args + Args{"--tokenizer", b}, 2, parts);
    const Finished forced = train_cpu(args + Args{"-j", b, "--force"});
    EXPECT_EQ(forced.code, 0) << forced.err;
    EXPECT_NE(forced.err.find("warning: " + b), std::string::npos) << forced.err;
    ASSERT_EQ(train_cpu(args + Args{"-o", run()}).code, 0);
    // The shards do not tell here; the checkpoint does.
    for (const char* shard : {"train_000000.bin", "val_000000.bin"}) {
        write_shard(directory_ / "a" / shard, std::vector<int>(100, 65), {.vocab_size = 262, .count = 1});
    }
    expect_failure({"-o", run(), "--resume", "--tokenizer", b}, 2, {"was trained with another tokenizer"});
}

TEST_F(TrainCli, printed_config_reads_back_as_itself) {
    const Finished first = train_cpu(base() + Args{"-l", "0.00037", "-k", "wsd", "-y", "0", "--print-config"});
    ASSERT_EQ(first.code, 0);
    const fs::path file = directory_.write("c.toml", first.out);
    const Finished second = train_cpu({"--config", file, "--print-config"});
    EXPECT_EQ(second.out, first.out);
    EXPECT_NE(first.out.find("learning-rate = 0.00037"), std::string::npos) << first.out;
    const fs::path older = directory_.write("older.toml", "deterministic-products = true\n");
    const Finished renamed = train_cpu({"--config", older, "--print-config"});
    EXPECT_NE(renamed.out.find("deterministic-matmuls = true\n"), std::string::npos) << renamed.out << renamed.err;
}

TEST_F(TrainCli, dry_run_prints_parameters_flops_and_memory_and_writes_nothing) {
    const Finished result = train_cpu(base() + Args{"-o", run(), "--dry-run"});
    EXPECT_EQ(result.code, 0) << result.err;
    for (const char* part :
         {"parameters ", "FLOPs/token", "steps           6", "gradients", "optimizer state", "total"}) {
        EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
    }
    EXPECT_FALSE(fs::exists(run()));
    EXPECT_EQ(train_cpu({"-e", "gpt2", "--dry-run"}).code, 0);  // no data needed
}

TEST_F(TrainCli, dry_run_predicts_the_peak_of_memory_within_5_percent) {
    const Args args{"-i", data(), "-e", "llama-tiny:vocab=4096", "-b", "8", "-t", "256", "-o", run()};
    const Finished planned = train_cpu(args + Args{"--dry-run"});
    const size_t at = planned.out.find("  total ");
    ASSERT_NE(at, std::string::npos) << planned.out;
    const double announced = std::stod(planned.out.substr(at + 8));
    const Finished real = train_cpu(args + Args{"-x", "2", "-v", "2"});  // with a validation and a checkpoint
    ASSERT_EQ(real.code, 0) << real.err;
    EXPECT_NEAR(double(real.peak_bytes) / announced, 1, 0.05);
}

TEST_F(TrainCli, evaluates_only_and_starts_from_a_model) {
    ASSERT_EQ(train_cpu(base() + Args{"-o", run(), "-v", "6", "-m", "0"}).code, 0);
    const Finished eval = train_cpu({"-i", data(), "-e", run(), "-b", "4", "-m", "0", "--eval-only"});
    ASSERT_EQ(eval.code, 0) << eval.err;
    // The loss is that of the last validation of the run.
    const std::string metrics = read_file(run() / "metrics.jsonl");
    const size_t at = metrics.rfind("\"val_loss\":");
    EXPECT_NEAR(std::stod(eval.out.substr(5)), std::stod(metrics.substr(at + 11)), 1e-6);

    const Finished tuned = train_cpu({"-i", data(), "-e", run(), "-b", "4", "-x", "1", "-v", "1", "-m", "0"});
    ASSERT_EQ(tuned.code, 0) << tuned.err;
    EXPECT_NE(tuned.out.find(concat("val  0/1 | loss ", eval.out.substr(5, 5))), std::string::npos) << tuned.out;
}

TEST_F(TrainCli, samples_are_text_and_change_nothing) {
    const std::string text = "the quick brown fox jumps over the lazy dog. 床前明月光，疑是地上霜。\n";
    BpeTrainer trainer({.vocab_size = 270, .special_tokens = {"<|endoftext|>"}});
    trainer.add_text(text, "text");
    const Tokenizer tokenizer = trainer.train();
    fs::create_directories(directory_ / "text");
    tokenizer.save(directory_ / "text");
    std::vector<int> tokens;
    for (int i = 0; i < 40; i++) {
        for (const int id : tokenizer.encode(text)) tokens.push_back(id);
    }
    write_shard(directory_ / "text/train_0.bin", tokens, {.vocab_size = tokenizer.vocab_size()});
    const Args args{"-i", directory_ / "text", "-e", kModel, "-b", "2", "-x", "4", "--threads", "1"};
    const Finished with = train_cpu(args + Args{"-o", directory_ / "a", "-s", "2", "-g", "8", "--prompt", "the"});
    const Finished without = train_cpu(args + Args{"-o", directory_ / "b"});
    ASSERT_EQ(with.code, 0) << with.err;
    ASSERT_EQ(without.code, 0) << without.err;
    EXPECT_NE(with.out.find("--- sample at step 2\nthe"), std::string::npos) << with.out;
    EXPECT_NE(with.out.find("--- sample at step 4\nthe"), std::string::npos) << with.out;
    EXPECT_EQ(find_invalid_utf8(with.out), std::nullopt) << with.out;  // an untrained model writes broken characters
    const std::string weights = "checkpoint-00000004/model.safetensors";
    EXPECT_EQ(read_file(directory_ / "a" / weights), read_file(directory_ / "b" / weights));
    EXPECT_TRUE(fs::exists(directory_ / "a/checkpoint-00000004/tokenizer.json"));
    const std::string file = "FILE:" + directory_.write("prompt", "the\nfox").string();
    const Finished from_file = train_cpu(args + Args{"-s", "4", "-g", "8", "--prompt", file});
    EXPECT_NE(from_file.out.find("--- sample at step 4\nthe\nfox"), std::string::npos)
        << from_file.out << from_file.err;
    expect_failure(args + Args{"-s", "1", "--prompt", "FILE:gone"}, 1, {"gone"});
    expect_failure(args + Args{"-s", "1", "--prompt", text}, 2, {"--prompt: ", "context of 16"});
}

TEST_F(TrainCli, resume_keeps_the_options_of_the_run) {
    ASSERT_EQ(train_cpu(base() + Args{"-o", run(), "-l", "0.002", "-x", "3"}).code, 0);
    ASSERT_EQ(train_cpu({"-o", run(), "--resume", "-x", "6"}).code, 0);
    const std::string log = read_file(run() / "main.log");
    EXPECT_NE(log.find("s:3 max-steps:3->6\n"), std::string::npos) << log;
    EXPECT_EQ(log.find("learning-rate:"), std::string::npos) << log;
    EXPECT_EQ(checkpoints(run()), (Args{"checkpoint-00000003", "checkpoint-00000006"}));
    EXPECT_NE(read_file(run() / "config.toml").find("learning-rate = 0.002"), std::string::npos);
}

TEST_F(TrainCli, a_run_that_lost_its_config_takes_the_options_of_its_checkpoint) {
    const Args more{"-l", "0.002", "-x", "3", "-d", "128", "-v", "2", "-o", run(), "--overwrite"};
    ASSERT_EQ(train_cpu(base() + more).code, 0);
    const fs::path kept = directory_ / "kept";
    fs::copy(run(), kept, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    fs::remove(run() / "config.toml");
    ASSERT_EQ(train_cpu({"-o", kept, "--resume", "-x", "6"}).code, 0);
    const Finished resumed = train_cpu({"-o", run(), "--resume", "-x", "6"});
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    const std::string state = run() / "checkpoint-00000003/trainer_state.json";
    EXPECT_NE(resumed.err.find("config.toml: is missing; the options are taken from " + state), std::string::npos)
        << resumed.err;
    for (const char* file :
         {"main.log", "checkpoint-00000006/model.safetensors", "checkpoint-00000006/optimizer.safetensors"}) {
        EXPECT_EQ(read_file(run() / file), read_file(kept / file)) << file;
    }
    std::string config = read_file(run() / "config.toml");
    config.replace(config.find(run()), run().string().size(), kept);
    EXPECT_EQ(config, read_file(kept / "config.toml"));
}

TEST_F(TrainCli, wrong_usage_exits_with_2_and_says_what_to_do) {
    expect_failure({}, 2, {"--input (-i) is required"});
    expect_failure({"--lerning-rate", "1"}, 2, {"unknown option --lerning-rate; did you mean --learning-rate?"});
    expect_failure({"stray"}, 2, {"unexpected argument \"stray\""});
    expect_failure({"-b"}, 2, {"--batch-size (-b) needs a value"});
    expect_failure({"-b", "many"}, 2, {"--batch-size (-b): \"many\" is not a whole number; it must lie in [1, 65536]"});
    expect_failure({"-b", "0"}, 2, {"--batch-size (-b): 0 is out of range"});
    expect_failure({"-k", "cosin"}, 2, {"--schedule (-k): \"cosin\" is not one of", "did you mean cosine?"});
    expect_failure({"-z", "1"}, 2, {"--zero-stage (-z) 1: ", "is not available in train_gpt2"});
    expect_failure({"-h", "1"}, 2, {"--hellaswag (-h) 1: ", "is not available in train_gpt2"});
    expect_failure({"-pn", "2"}, 2, {"--num-processes (-pn) 2: say how the processes find each other"});
    expect_failure({"--config", directory_ / "none.toml"}, 2, {"none.toml"});
    expect_failure({"--config", data()}, 2, {"data: is a directory"});
    setenv("KILN_MAX_STEP", "3", 1);
    expect_failure(base(), 2, {"KILN_MAX_STEP in the environment is not an option", "did you mean KILN_MAX_STEPS?"});
    unsetenv("KILN_MAX_STEP");
    expect_failure({"--config", directory_.write("c.toml", "\nbatch-sise = 3\n")}, 2,
                   {"c.toml:2: batch-sise is not an option of train_gpt2; did you mean batch-size?"});
    expect_failure({"-i", data(), "-e", "lama"}, 2, {"lama", "llama"});
    expect_failure({"-i", data(), "-e", "llama:layres=2"}, 2, {"layres", "layers"});
    expect_failure({"-i", data(), "-e", concat(kModel, ",vocab=10")}, 2, {"vocabulary of 10", "one of 16"});
    expect_failure(base() + Args{"-t", "32"}, 2, {"--sequence-length (-t) 32", "context of 16"});
    expect_failure(base() + Args{"-d", "100"}, 2, {"--total-batch-size (-d) 100", "use 64 or 128"});
    expect_failure(base() + Args{"--resume"}, 2, {"--resume (-y) needs --output (-o)"});
    expect_failure(base() + Args{"-s", "1"}, 2, {"--sample-every (-s) needs a tokenizer"});
    expect_failure(base() + Args{"--on-nonfinite", "rollback"}, 2, {"--on-nonfinite rollback needs --output"});
    expect_failure({"-i", data() / "train_000.bin", "--eval-only"}, 2, {"--eval-only needs validation shards"});
    EXPECT_FALSE(fs::exists(run()));
}

TEST_F(TrainCli, help_and_version_need_nothing_else) {
    EXPECT_EQ(train_cpu({"--version"}).out, concat("train_gpt2 ", kVersion, "\n"));
    EXPECT_EQ(train_cpu({"-h"}).out, train_cpu({"--help"}).out);
    expect_failure({"--max-iters", "3"}, 2, {"did you mean --max-steps?"});
}

TEST_F(TrainCli, harmless_values_of_unavailable_options_are_accepted) {
    const Finished result =
        train_cpu(base() + Args{"-z",  "0", "-pn", "1", "-pr", "0",  "-pg", "8", "-pi", "mpi", "-pf", "/tmp",
                                "-ps", "x", "-h",  "0", "-lg", "-1", "-f",  "0", "-r",  "0",   "-ge", "0",
                                "-w",  "1", "-sl", "6", "-sg", "6",  "-a",  "1", "-y",  "0"});
    EXPECT_EQ(result.code, 0) << result.err;
}

TEST_F(TrainCli, bad_data_exits_with_1_and_names_the_file) {
    const auto with = [&](const fs::path& input) { return Args{"-i", input, "-e", kModel, "-x", "1"}; };
    expect_failure(with(directory_ / "nothing"), 1, {"nothing: not found"});
    fs::create_directories(directory_ / "empty");
    expect_failure(with(directory_ / "empty"), 1, {"empty: no shards"});
    expect_failure(with(directory_ / "data/*.tokens"), 1, {"no file matches"});
    expect_failure(with(directory_.write("zero.bin", "")), 1, {"zero.bin"});
    expect_failure(with(directory_.write("foreign.bin", std::string(5000, 'x'))), 1, {"foreign.bin"});
    const std::string shard = read_file(data() / "train_000.bin");
    expect_failure(with(directory_.write("cut.bin", shard.substr(0, 3000))), 1, {"cut.bin"});
    std::string version = shard;
    version[4] = 9;
    expect_failure(with(directory_.write("version.bin", version)), 1, {"version.bin", "version"});
    write_shard(directory_ / "short.bin", MarkovChain::tokens(10, 1), {.vocab_size = 16});
    expect_failure(with(directory_ / "short.bin"), 1, {"short.bin", "10", "17"});
    // llm.c's shards do not store the size of their vocabulary, so the tokens are checked.
    std::string plain = shard;
    std::fill(plain.begin() + 12, plain.begin() + 1024, '\0');
    expect_failure({"-i", directory_.write("plain.bin", plain), "-e", concat(kModel, ",vocab=8"), "-x", "1"}, 1,
                   {"plain.bin: token ", "vocabulary of 8"});
}

TEST_F(TrainCli, a_bad_output_or_model_directory_is_refused_before_training) {
    const fs::path file = directory_.write("file", "x");
    expect_failure(base() + Args{"-o", file}, 1, {"--output (-o) ", "cannot be created"});
    expect_failure(base() + Args{"-o", file / "run"}, 1, {"--output (-o) ", "cannot be created"});
    expect_failure(base() + Args{"-o", "/proc/kiln"}, 1, {"--output (-o) /proc/kiln: cannot be created"});
    expect_failure({"-i", data(), "-e", directory_ / "empty-model", "-x", "1"}, 1, {"empty-model"});
    // 10^13 parameters are too many for any memory, and their checkpoint is too large for any disk.
    const char* const large = "llama:layers=1000,dim=32768,heads=32,ctx=16";
    expect_failure({"-i", data(), "-e", large, "-o", run()}, 1,
                   {"this run needs ", "TiB of memory", "No option alone"});
    EXPECT_FALSE(fs::exists(run()));
    TrainOptions options;
    options.data = data().string(), options.model = large, options.output = run().string();
    try {
        const RunLock lock = prepare_run_directory(make_plan(options, true, 1, [](const std::string&) {}));
        ADD_FAILURE() << "a checkpoint that fits no disk is not refused";
    } catch (const Error& error) {
        const std::string message = error.what();
        for (const char* part : {"--output (-o) ", "a checkpoint needs", "TiB", "are free there"}) {
            EXPECT_NE(message.find(part), std::string::npos) << message;
        }
    }
}

TEST_F(TrainCli, an_existing_run_is_never_overwritten) {
    ASSERT_EQ(train_cpu(base() + Args{"-o", run()}).code, 0);
    const std::string log = read_file(run() / "main.log");
    expect_failure(base() + Args{"-o", run()}, 2, {"already holds checkpoint-00000006", "--resume"});
    expect_failure(base() + Args{"-o", run(), "--resume", "-e", concat(kModel, ",norm=layernorm")}, 2,
                   {"was trained with the model llama:", "not llama:"});
    expect_failure({"-o", run(), "--resume", "-t", "8"}, 2, {"--sequence-length 16, not 8"});
    expect_failure({"-o", run(), "--resume", "--seed", "8"}, 2, {"--seed 1337, not 8"});
    expect_failure({"-o", run(), "--resume", "-x", "3"}, 2, {"at step 6, which is past the last one, 3"});
    const fs::path typo = run().parent_path() / "rum";
    for (const Args& more : {Args{}, Args{"-i", data()}, base()}) {
        expect_failure(more + Args{"-o", typo, "--resume"}, 2,
                       {concat("rum does not exist; did you mean ", run().string(), "?"), "leave out --resume"});
    }
    expect_failure(base() + Args{"-o", run() / "sub/none", "--resume"}, 2, {"none does not exist; to start"});
    EXPECT_FALSE(fs::exists(typo));
    EXPECT_EQ(read_file(run() / "main.log"), log);
    for (const char* file : {"main.log", "metrics.jsonl", "config.toml", "loss.svg"}) {
        const TempDirectory other;
        other.write(file, "theirs");
        expect_failure(base() + Args{"-o", other.path()}, 2, {concat("holds a file ", file), "--overwrite"});
        EXPECT_EQ(read_file(other / file), "theirs");
    }
    const Finished again = train_cpu({"-o", run(), "--resume"});
    EXPECT_EQ(again.code, 0);
    EXPECT_NE(again.err.find("this is the last step of the run"), std::string::npos) << again.err;
    fs::resize_file(run() / "checkpoint-00000006/model.safetensors", 100);
    expect_failure({"-o", run(), "--resume"}, 1, {"no checkpoint is complete"});
}

TEST_F(TrainCli, overwrite_replaces_a_run_but_no_other_file_and_not_its_own_start) {
    ASSERT_EQ(train_cpu(base() + Args{"-o", run()}).code, 0);
    write_file_atomic(run() / "notes.txt", "mine");
    expect_failure(base() + Args{"-o", run(), "--resume", "--overwrite"}, 2, {"exclude each other"});
    expect_failure({"-i", data(), "-e", run(), "-o", run(), "--overwrite"}, 2, {"in the run that would be removed"});
    EXPECT_EQ(checkpoints(run()), Args{"checkpoint-00000006"});
    const Finished second = train_cpu(base() + Args{"-o", run(), "--overwrite", "-x", "2"});
    ASSERT_EQ(second.code, 0) << second.err;
    EXPECT_EQ(checkpoints(run()), Args{"checkpoint-00000002"});
    EXPECT_EQ(read_file(run() / "notes.txt"), "mine");
    const std::string log = read_file(run() / "main.log");
    EXPECT_EQ(log.find("s:2 trl"), std::string::npos) << log;
    EXPECT_EQ(train_cpu({"-o", run(), "--resume", "-x", "3"}).code, 0);  // a run does not keep the option
}

TEST_F(TrainCli, a_config_of_a_resumed_run_leaves_its_other_values) {
    ASSERT_EQ(train_cpu(base() + Args{"-o", run(), "-x", "2", "-l", "0.01", "-n", "1"}).code, 0);
    const fs::path config = directory_.write("c.toml", "log-every = 1\n");
    const Finished resumed = train_cpu({"-o", run(), "--resume", "--config", config, "-x", "3"});
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(resumed.err.find("--learning-rate"), std::string::npos) << resumed.err;
    EXPECT_NE(read_file(run() / "config.toml").find("log-every = 1\n"), std::string::npos);
}

TEST_F(TrainCli, a_failed_start_leaves_no_directory) {
    // The shard does not say its vocabulary, so that the first batch finds the wrong token.
    std::string plain = read_file(data() / "train_000.bin");
    std::fill(plain.begin() + 12, plain.begin() + 1024, '\0');
    const fs::path output = directory_ / "new/run";
    const Args small{"-e", concat(kModel, ",vocab=8"), "-x", "1", "-o", output};
    expect_failure(Args{"-i", directory_.write("plain.bin", plain)} + small, 1, {"plain.bin: token "});
    write_shard(directory_ / "short.bin", MarkovChain::tokens(10, 1), {.vocab_size = 16});
    expect_failure({"-i", directory_ / "short.bin", "-e", kModel, "-o", output}, 1, {"short.bin"});
    EXPECT_FALSE(fs::exists(directory_ / "new"));
    fs::create_directories(output);
    expect_failure({"-i", directory_ / "short.bin", "-e", kModel, "-o", output}, 1, {"short.bin"});
    EXPECT_TRUE(fs::exists(output));  // it is the user's
}

TEST_F(TrainCli, resuming_on_other_data_of_the_same_length_is_refused) {
    ASSERT_EQ(train_cpu(base() + Args{"-o", run(), "-x", "2"}).code, 0);
    write_shard(directory_ / "other.bin", MarkovChain::tokens(4000, 99), {.vocab_size = 16});
    expect_failure({"-o", run(), "--resume", "-x", "4", "-i", directory_ / "other.bin"}, 2,
                   {"4000 tokens", "holds 4000 other ones: not the same data"});
}

TEST_F(TrainCli, two_processes_cannot_train_in_one_run) {
    Running running("train_gpt2", base() + Args{"-o", run(), "-x", "1000000", "-n", "5"});
    ASSERT_TRUE(appears(run() / "checkpoint-00000005"));
    expect_failure(base() + Args{"-o", run()}, 1, {"another process trains there"});
    expect_failure(base() + Args{"-o", run(), "--resume"}, 1, {"another process trains there"});
}

TEST_F(TrainCli, without_output_the_run_has_a_directory_named_by_time) {
    unsetenv("KILN_OUTPUT");
    const fs::path before = fs::current_path();
    fs::create_directories(directory_ / "here");
    fs::current_path(directory_ / "here");
    const Finished result = train_cpu(base());
    fs::current_path(before);
    ASSERT_EQ(result.code, 0) << result.err;
    std::vector<fs::path> runs(fs::directory_iterator(directory_ / "here/runs"), {});
    ASSERT_EQ(runs.size(), 1u);
    EXPECT_EQ(checkpoints(runs[0]), Args{"checkpoint-00000006"});
    EXPECT_NE(result.err.find(concat("runs/", runs[0].filename().string())), std::string::npos) << result.err;
}

TEST_F(TrainCli, a_log_that_is_a_device_is_refused) {
    fs::create_directories(run());
    fs::create_symlink("/dev/full", run() / "main.log");
    expect_failure(base() + Args{"-o", run(), "-v", "0"}, 1, {"main.log: is not a regular file"});
}

TEST_F(TrainCli, a_signal_ends_it_after_a_micro_batch_with_a_checkpoint) {
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
        // One step has 10^5 micro-batches, so it must check for signals between them to end in time.
        Running running("train_gpt2", {"-i", data(), "-e", kModel, "-b", "4", "-d", "6400000", "-x", "5", "-v", "0",
                                       "-o", run(), "--threads", "1"});
        ASSERT_TRUE(appears(run() / "config.toml"));
        std::this_thread::sleep_for(200ms);
        running.send(signal);
        const int status = running.wait(10s);
        ASSERT_NE(status, -1);
        EXPECT_TRUE(WIFEXITED(status)) << signal;
        EXPECT_EQ(WEXITSTATUS(status), 3);
        EXPECT_EQ(checkpoints(run()), Args{"checkpoint-00000000"});
        fs::remove_all(run());
    }
}

TEST_F(TrainCli, a_signal_ends_it_during_a_validation) {
    write_shard(data() / "val_000.bin", MarkovChain::tokens(5000000, 3), {.vocab_size = 16});
    Running running("train_gpt2", base() + Args{"-o", run(), "-v", "1", "-m", "0"});
    ASSERT_TRUE(appears(run() / "main.log"));
    std::this_thread::sleep_for(300ms);
    running.send(SIGTERM);
    const int status = running.wait(10s);
    ASSERT_NE(status, -1);
    EXPECT_EQ(WEXITSTATUS(status), 3);
    EXPECT_EQ(read_file(run() / "main.log"), "");  // the first validation was not finished
}

TEST_F(TrainCli, a_second_interrupt_ends_it_at_once) {
    // A micro-batch takes many seconds.
    Running running("train_gpt2", {"-i", data(), "-e", "llama:layers=8,dim=512,heads=8,ctx=1024", "-t", "1024", "-b",
                                   "4", "-x", "5", "-v", "0", "-o", run(), "--threads", "1"});
    ASSERT_TRUE(appears(run() / "metrics.jsonl"));
    running.send(SIGINT);
    EXPECT_EQ(running.wait(300ms), -1);  // the first signal waits for the end of the micro-batch
    running.send(SIGINT);
    const int status = running.wait(5s);
    ASSERT_NE(status, -1);
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), SIGINT);
}

TEST_F(TrainCli, stopped_and_resumed_in_two_threads_it_equals_the_unbroken_run) {
    const Args args{
        "-i", data(),      "-e", concat(kModel, ",dropout=0.1"), "-b", "4", "-d", "128", "-x", "40", "-v", "10", "-n",
        "10", "--threads", "2"};
    ASSERT_EQ(train_cpu(args + Args{"-o", directory_ / "whole"}).code, 0);
    Running running("train_gpt2", args + Args{"-o", run()});
    ASSERT_TRUE(appears(run() / "checkpoint-00000010"));
    running.send(SIGTERM);
    ASSERT_NE(running.wait(10s), -1);
    const Finished resumed = train_cpu({"-o", run(), "--resume"});
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    for (const char* file :
         {"main.log", "checkpoint-00000040/model.safetensors", "checkpoint-00000040/optimizer.safetensors"}) {
        EXPECT_EQ(read_file(run() / file), read_file(directory_ / "whole" / file)) << file;
    }
}

TEST_F(TrainCli, a_closed_pipe_does_not_end_training) {
    const std::string command = program_path("train_gpt2").string() + " -i " + data().string() + " -e " + kModel +
                                " -b 4 -x 50 --threads 1 -o " + run().string() + " 2>/dev/null | head -n 1 >/dev/null";
    ASSERT_EQ(run_program("/bin/sh", {"-c", command}).code, 0);
    EXPECT_EQ(checkpoints(run()), Args{"checkpoint-00000050"});
}

}  // namespace
}  // namespace kiln
