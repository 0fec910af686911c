// Trainings in several processes, as the programs run them.
#include <gtest/gtest.h>
#include <signal.h>

#include <functional>

#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/tokenizer.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/launch/socket.h"
#include "tools/train/loss_curve.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

const std::string kModel = "llama:layers=1,dim=16,heads=2,kv_heads=1,ctx=16";

class Launch : public TrainProgram {
protected:
    Launch() {
        setenv("OMP_NUM_THREADS", "1", 1);
        // The test keeps the port until rank 0 takes it.
        port_ = port_of(listen_at(0, true));
    }
    Args base(int batch) const {
        return {"-i", data(), "-e", kModel, "-b",   std::to_string(batch), "-d", "128", "-v",
                "2",  "-m",   "2",  "-l",   "0.002"};
    }
    Args rank(int r, int size) const {
        return {"-pn", std::to_string(size), "-pr", std::to_string(r), "-ps", concat("127.0.0.1:", port_)};
    }
    fs::path log(const char* kind, int r) const { return directory_ / concat(kind, r); }
    std::unique_ptr<Running> start(int r, const Args& args) const {
        return std::make_unique<Running>("train_gpt2", args, "/dev/null", log("out", r), log("err", r));
    }
    static int code(Running& running) {
        const int status = running.wait(20s);
        return WIFEXITED(status) && status != -1 ? WEXITSTATUS(status) : -1;
    }
    // Both ranks, with the same options.
    std::pair<int, int> train_two(const Args& args, const Args& more_of_rank_1 = {}) const {
        const auto other = start(1, args + rank(1, 2) + more_of_rank_1), first = start(0, args + rank(0, 2));
        return {code(*first), code(*other)};
    }
    std::string said(const char* kind, int r) const { return read_file(log(kind, r)); }

    int port_;
};

// The losses of a run, by step.
void expect_same_losses(const fs::path& a, const fs::path& b) {
    const LossCurve one = read_loss_curve(a), two = read_loss_curve(b);
    ASSERT_EQ(one.train.size(), two.train.size());
    ASSERT_EQ(one.val.size(), two.val.size());
    EXPECT_FALSE(one.val.empty());
    for (size_t i = 0; i < one.train.size(); i++) EXPECT_NEAR(one.train[i].loss, two.train[i].loss, 2e-6) << i;
    for (size_t i = 0; i < one.val.size(); i++) EXPECT_NEAR(one.val[i].loss, two.val[i].loss, 2e-6) << i;
}

TEST_F(Launch, losses_do_not_depend_on_the_number_of_processes) {
    const fs::path one = directory_ / "one", two = directory_ / "two";
    const Args more{"--resume", "-x", "6"};
    ASSERT_EQ(train_cpu(base(4) + Args{"-x", "3", "-o", one}).code, 0);
    ASSERT_EQ(train_two(base(2) + Args{"-x", "3", "-o", two}), std::pair(0, 0)) << said("err", 0) << said("err", 1);
    expect_same_losses(one, two);
    EXPECT_NE(said("err", 0).find("on 2 x "), std::string::npos) << said("err", 0);
    EXPECT_EQ(said("out", 1) + said("err", 1), "");  // rank 0 alone speaks
    // Each is resumed by the other number of processes, which belongs to a start and not to the run.
    EXPECT_EQ(read_file(two / "config.toml").find("num-processes = 2"), std::string::npos);
    EXPECT_EQ(train_two(more + Args{"-o", one, "-b", "2"}), std::pair(0, 0)) << said("err", 0) << said("err", 1);
    const Finished resumed = train_cpu(more + Args{"-o", two, "-b", "4"});
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    expect_same_losses(one, two);
}

TEST_F(Launch, options_that_differ_are_named_on_both_ranks) {
    EXPECT_EQ(train_two(base(2) + Args{"-x", "3"}, {"-l", "0.1"}), std::pair(1, 1));
    for (int r = 0; r < 2; r++) {
        EXPECT_NE(said("err", r).find(concat("train_gpt2: rank ", r, " (")), std::string::npos) << said("err", r);
        EXPECT_NE(said("err", r).find("has --learning-rate 0.1, rank 0 0.002"), std::string::npos) << said("err", r);
    }
}

TEST_F(Launch, data_that_differs_is_named) {
    const fs::path other = directory_ / "other";  // a host may have its data elsewhere
    write_markov_shards(other, 4100, 600);
    EXPECT_EQ(train_two(base(2) + Args{"-x", "3"}, {"-i", other}), std::pair(1, 1));
    EXPECT_NE(said("err", 0).find("has the data (lengths and checksums) "), std::string::npos) << said("err", 0);
}

// Of the same lengths, and with checksums that are the same or that do not exist.
TEST_F(Launch, data_with_other_tokens_is_named) {
    const auto expect_found = [&](const fs::path& of_rank_0, const fs::path& of_rank_1, const std::string& message) {
        EXPECT_EQ(train_two(base(2) + Args{"-x", "3", "-v", "0"}, {"-i", of_rank_1}), std::pair(1, 1)) << of_rank_0;
        EXPECT_NE((said("err", 0) + said("err", 1)).find(message), std::string::npos) << said("err", 1);
    };
    // Each host reads its own copy. One bit of the second is damaged, in a shard that rank 0 would verify.
    const fs::path copy = directory_ / "copy";
    fs::copy(data(), copy);
    std::string bytes = read_file(copy / "train_000.bin");
    bytes[bytes.size() / 2 + 1] ^= 4;
    write_file_atomic(copy / "train_000.bin", bytes);
    expect_found(data(), copy, "train_000.bin: the tokens do not match their checksum");
    // llm.c's shards.
    for (const fs::path& folder : {data(), copy}) {
        for (const auto& entry : fs::directory_iterator(folder)) {
            std::string content = read_file(entry.path());
            std::fill_n(content.begin() + 12, 1024 - 12, '\0');
            if (folder == copy) content.back() = 0, content[content.size() - 2] = 1;
            if (folder == data()) content.back() = 0, content[content.size() - 2] = 2;
            write_file_atomic(entry.path(), content);
        }
    }
    expect_found(data(), copy, "has the data (samples of its tokens) ");
}

TEST_F(Launch, a_damaged_validation_shard_that_was_only_found_there_is_left_out_on_all_ranks) {
    std::string bytes = read_file(data() / "val_000.bin");
    bytes.back() ^= 1;
    write_file_atomic(data() / "val_000.bin", bytes);
    EXPECT_EQ(train_two(base(2) + Args{"-x", "2"}), std::pair(0, 0)) << said("err", 0) << said("err", 1);
    EXPECT_NE(said("err", 0).find("no validation: "), std::string::npos) << said("err", 0);
}

TEST_F(Launch, checkpoints_that_differ_are_named) {
    for (int r = 0; r < 2; r++) {
        const Args run{"-x", "2", "--seed", "1", "-l", "0.001", "-o", directory_ / concat("host", r) / "run"};
        ASSERT_EQ(train_cpu(base(4) + run).code, 0);
        fs::remove(directory_ / concat("host", r) / "run/best");
    }
    // Of another training, with the same options and the same number of steps.
    const fs::path other = directory_ / "host1/run/checkpoint-00000002";
    fs::remove_all(other);
    ASSERT_EQ(train_cpu(base(4) + Args{"-x", "2", "--seed", "1", "-l", "0.002", "-o", directory_ / "x"}).code, 0);
    fs::copy(directory_ / "x/checkpoint-00000002", other);
    const auto start_on = [&](const fs::path& host, int r) {
        const Args args = Args{"-C", host, fs::absolute(program_path("train_gpt2"))} + rank(r, 2) +
                          Args{"-o", "run", "--resume", "-x", "4", "-b", "2"};
        return std::make_unique<Running>("/usr/bin/env", args, "/dev/null", log("out", r), log("err", r));
    };
    const auto second = start_on(directory_ / "host1", 1), first = start_on(directory_ / "host0", 0);
    EXPECT_EQ(code(*first), 1) << said("err", 0);
    EXPECT_EQ(code(*second), 1) << said("err", 1);
    EXPECT_NE(said("err", 0).find("has the checkpoint "), std::string::npos) << said("err", 0);
}

TEST_F(Launch, validation_data_that_differs_or_is_missing_is_named) {
    const fs::path other = directory_ / "other", none = directory_ / "none";
    write_markov_shards(other, 4000, 700);
    write_markov_shards(none, 4000, 600);
    fs::remove(none / "val_000.bin");
    for (const fs::path& of_rank_1 : {other, none}) {
        for (const Args& more : {Args{"-x", "3"}, Args{"--eval-only", "-o", ""}}) {
            if (of_rank_1 == none && more[0] == "--eval-only") continue;  // nothing to evaluate is its own error
            EXPECT_EQ(train_two(base(2) + more, {"-i", of_rank_1}), std::pair(1, 1));
            EXPECT_NE(said("err", 0).find("has the validation data (lengths and checksums) "), std::string::npos)
                << said("err", 0);
        }
    }
}

// Of the same name, each in its own directory, as on two hosts.
TEST_F(Launch, weights_that_differ_are_named) {
    for (int r = 0; r < 2; r++) {
        const Args seed{"-x", "1", "--seed", std::to_string(r), "-o", directory_ / concat("host", r) / "model"};
        ASSERT_EQ(train_cpu(base(4) + seed).code, 0);
    }
    const auto start_on = [&](const fs::path& host, int r, const Args& more) {
        const Args args = Args{"-C", host, fs::absolute(program_path("train_gpt2"))} + base(2) + rank(r, 2) + more;
        return std::make_unique<Running>("/usr/bin/env", args, "/dev/null", log("out", r), log("err", r));
    };
    for (const Args& more : {Args{"-e", "model", "-x", "2"}, Args{"-e", "model", "--eval-only"}}) {
        const auto second = start_on(directory_ / "host1", 1, more), first = start_on(directory_ / "host0", 0, more);
        EXPECT_EQ(code(*first), 1) << said("err", 0);
        EXPECT_EQ(code(*second), 1) << said("err", 1);
        EXPECT_NE(said("err", 0).find("has the weights of --model (-e) (their hash) "), std::string::npos)
            << said("err", 0);
    }
}

// One sequence for two ranks of two: one rank has nothing to validate.
TEST_F(Launch, a_rank_without_validation_data_is_no_fault) {
    write_shard(data() / "val_000.bin", MarkovChain::tokens(17, 3), {.vocab_size = MarkovChain::kVocabulary});
    const fs::path one = directory_ / "one", two = directory_ / "two";
    ASSERT_EQ(train_cpu(base(4) + Args{"-x", "2", "-o", one}).code, 0);
    ASSERT_EQ(train_two(base(2) + Args{"-x", "2", "-o", two}), std::pair(0, 0)) << said("err", 0) << said("err", 1);
    expect_same_losses(one, two);
}

TEST_F(Launch, a_tokenizer_that_differs_is_named) {
    fs::path tokenizers[2];
    for (int r = 0; r < 2; r++) {
        BpeTrainer trainer({.vocab_size = 257 + r});
        trainer.add_text("the other the other", "text");
        fs::create_directories(tokenizers[r] = directory_ / concat("tokenizer", r));
        trainer.train().save(tokenizers[r]);
    }
    const Args model{"-e", kModel + ",vocab=300", "-x", "1"};
    EXPECT_EQ(train_two(base(2) + model + Args{"--tokenizer", tokenizers[0]}, {"--tokenizer", tokenizers[1]}),
              std::pair(1, 1));
    EXPECT_NE(said("err", 0).find("has the hash of tokenizer.json"), std::string::npos) << said("err", 0);
}

TEST_F(Launch, a_stop_signal_to_any_rank_saves_once_and_ends_all) {
    for (const int signalled : {0, 1}) {
        const fs::path output = directory_ / concat("stopped", signalled);
        const Args args = base(2) + Args{"-x", "100000", "-o", output};
        const auto second = start(1, args + rank(1, 2)), first = start(0, args + rank(0, 2));
        ASSERT_TRUE(appears(output / "metrics.jsonl"));
        std::this_thread::sleep_for(100ms);
        (signalled == 0 ? *first : *second).send(SIGTERM);
        EXPECT_EQ(code(*first), 3) << said("err", 0);
        EXPECT_EQ(code(*second), 3) << said("err", 1);
        EXPECT_EQ(list_checkpoints(output).size(), 1u);
    }
}

TEST_F(Launch, a_killed_rank_ends_the_other_with_a_message) {
    const Args args = base(2) + Args{"-x", "100000", "-o", run()};
    const auto second = start(1, args + rank(1, 2)), first = start(0, args + rank(0, 2));
    ASSERT_TRUE(appears(run() / "metrics.jsonl"));
    std::this_thread::sleep_for(1s);  // two heartbeats
    second->send(SIGKILL);
    EXPECT_EQ(code(*first), 1);
    EXPECT_NE(said("err", 0).find("train_gpt2: rank 0 ("), std::string::npos) << said("err", 0);
    EXPECT_NE(said("err", 0).find("died in "), std::string::npos) << said("err", 0);
}

TEST_F(Launch, a_failing_rank_ends_the_other_with_its_message) {
    const fs::path file = directory_.write("file", "");
    // Rank 0 cannot make the run directory.
    EXPECT_EQ(train_two(base(2) + Args{"-x", "3", "-o", file / "run"}), std::pair(1, 1));
    EXPECT_NE(said("err", 1).find("failed"), std::string::npos) << said("err", 1);
    EXPECT_NE(said("err", 1).find("--output (-o)"), std::string::npos) << said("err", 1);
}

TEST_F(Launch, ranks_of_other_launchers_are_known_by_their_environment) {
    const std::string port = concat("MASTER_PORT=", port_);
    const std::pair<const char*, std::function<Args(int)>> launchers[] = {
        {"mpirun",
         [&](int r) {
             return Args{
                 concat("OMPI_COMM_WORLD_RANK=", r),       "OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_LOCAL_SIZE=2",
                 concat("OMPI_COMM_WORLD_LOCAL_RANK=", r), "PMIX_NAMESPACE=7",       port};
         }},
        {"srun",
         [&](int r) {
             return Args{concat("SLURM_PROCID=", r),
                         "SLURM_NTASKS=2",
                         "SLURM_STEP_TASKS_PER_NODE=2",
                         "SLURM_NODEID=0",
                         concat("SLURM_LOCALID=", r),
                         "SLURM_STEP_ID=0",
                         "SLURM_JOB_ID=9",
                         "SLURM_JOB_NODELIST=a",
                         port};
         }},
    };
    for (const auto& [name, environment] : launchers) {
        const auto with = [&](int r) {
            return environment(r) + Args{program_path("train_gpt2")} + base(2) + Args{"-x", "1", "-v", "0"};
        };
        Running second("/usr/bin/env", with(1), "/dev/null", log("out", 1), log("err", 1));
        Running first("/usr/bin/env", with(0), "/dev/null", log("out", 0), log("err", 0));
        EXPECT_EQ(code(first), 0) << name << said("err", 0);
        EXPECT_EQ(code(second), 0) << name << said("err", 1);
        EXPECT_NE(said("err", 0).find("on 2 x "), std::string::npos) << name << said("err", 0);
    }
}

// ssh is a script that runs the command here.
TEST_F(Launch, the_script_for_several_nodes_starts_ranks_by_ssh) {
    const fs::path ssh = directory_.write("bin/ssh", "#!/bin/bash\nshift 4\nexec bash -c \"$*\"\n");
    fs::permissions(ssh, fs::perms::owner_all);
    const Args environment{concat("PATH=", ssh.parent_path().string(), ":", std::getenv("PATH")),
                           "HOSTS=localhost 127.0.0.1", "GPUS=1", concat("PORT=", port_),
                           concat("TRAIN=", program_path("train_gpt2").string())};
    const Finished result = run_program("/usr/bin/env", environment + Args{"dev/launch/several_nodes.sh"} + base(2) +
                                                            Args{"-x", "1", "-o", directory_ / "with space"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.err.find("on 2 x "), std::string::npos) << result.err;
    EXPECT_EQ(list_checkpoints(directory_ / "with space").size(), 1u);
}

TEST_F(Launch, wrong_usage_is_named) {
    const auto expect = [&](const Args& args, const std::string& text) {
        const Finished result = train_cpu(base(2) + Args{"-x", "1"} + args);
        EXPECT_EQ(result.code, 2) << result.err;
        EXPECT_NE(result.err.find(text), std::string::npos) << result.err;
    };
    expect({"-pn", "2"}, "--num-processes (-pn) 2: say how the processes find each other");
    expect({"-pn", "2", "-pr", "2"}, "--process-rank (-pr) 2: must be less than");
    expect({"--rank-timeout", "0.01"}, "--rank-timeout 0.01: give at least 1 second");
    expect({"--gpus", "2"}, "--gpus: train_gpt2 computes on the CPU");
    setenv("RANK", "1", 1);
    expect({}, "WORLD_SIZE is missing in the environment");
    unsetenv("RANK");
}

// An older run's file has these options as empty texts, since they were ignored.
TEST_F(Launch, a_run_of_an_earlier_version_is_resumed) {
    ASSERT_EQ(train_cpu(base(2) + Args{"-x", "2", "-o", run()}).code, 0);
    std::string config = read_file(run() / "config.toml");
    for (const char* name : {"devices-per-node = 8", "init-method = \"auto\""}) {
        const size_t at = config.find(name), value = config.find("= ", at) + 2;
        ASSERT_NE(at, std::string::npos) << config;
        config.replace(value, config.find('\n', value) - value, "\"\"");
    }
    directory_.write("run/config.toml", config + "nccl-init-method = \"\"\n");
    const Finished result = train_cpu({"--resume", "-o", run(), "-x", "3"});
    EXPECT_EQ(result.code, 0) << result.err;
}

}  // namespace
}  // namespace kiln
