// What becomes of a training on several emulated GPUs when one of its ranks dies, hangs or fails.
#include <gtest/gtest.h>

#include <fstream>

#include "cpu_reference/interface/error.h"
#include "tests/reliability/series.h"
#include "tests/support/emulated_programs.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/tokenizer.h"
#include "tools/checkpoint/checkpoint.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = fs::file_time_type::clock;

class RankFaults : public TrainProgram {
protected:
    RankFaults() {
        setenv("SIMT_GPUS", "2", 1);
        setenv("OMP_NUM_THREADS", "1", 1);
        setenv("KILN_FAULT_MARK", fault_mark().c_str(), 1);
        // Samples need a tokenizer.
        BpeTrainer trainer({.vocab_size = 260, .special_tokens = {"<|endoftext|>"}});
        trainer.add_text("the quick brown fox", "text");
        fs::create_directories(data());
        trainer.train().save(data());
        for (const char* shard : {"train_000.bin", "train_001.bin", "val_000.bin"})
            write_shard(data() / shard, MarkovChain::tokens(500, 1), {.vocab_size = 260});
    }
    ~RankFaults() override {
        for (const char* name :
             {"SIMT_GPUS", "KILN_FAULT", "KILN_FAULT_MARK", "SIMT_NCCL_FAILS", "SIMT_NCCL_HANGS", "SIMT_TRACE"})
            unsetenv(name);
    }
    // Two ranks, with every phase in every step.
    Args two_ranks(int stage, const Args& more = {}) const {
        return Args{"--gpus", "2",    "-z", std::to_string(stage),
                    "-i",     data(), "-e", "llama:layers=2,dim=16,heads=1,ctx=16",
                    "-b",     "1",    "-d", "32",
                    "-v",     "1",    "-m", "1",
                    "-s",     "1",    "-g", "2",
                    "-n",     "1",    "-x", "4",
                    "-o",     run()} +
               more;
    }
    struct Ended {
        int code = -1;       // -1: it did not end
        double seconds = 0;  // since the fault or, if nobody has marked it, since the start
        std::string out, err;
    };
    Ended end_of(Running& running, fs::file_time_type began) const {
        const int status = running.wait(300s);  // the training before the fault takes long on a loaded machine
        const auto fault = fs::exists(fault_mark()) ? fs::last_write_time(fault_mark()) : began;
        return {status != -1 && WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                std::chrono::duration<double>(Clock::now() - fault).count(), read_file(directory_ / "out"),
                read_file(directory_ / "err")};
    }
    fs::path fault_mark() const { return directory_ / "fault"; }
    std::unique_ptr<Running> start(const char* program, const Args& args) const {
        return std::make_unique<Running>(program, args, "/dev/null", directory_ / "out", directory_ / "err");
    }
    Ended faulty(const Args& args) const {
        fs::remove(fault_mark());
        const auto began = Clock::now();
        return end_of(*start("faulty_train_gpt2cu", args), began);
    }
    // The processes that work in this test's directory.
    std::vector<pid_t> processes() const {
        std::vector<pid_t> all;
        for (const auto& entry : fs::directory_iterator("/proc")) {
            std::ifstream file(entry.path() / "cmdline", std::ios::binary);
            std::string line;
            std::getline(file, line);  // what fails because the process has just ended is no error, as an iterator's is
            const std::string name = entry.path().filename();
            if (line.find(directory_.path().string()) != std::string::npos &&
                name.find_first_not_of("0123456789") == name.npos)
                all.push_back(std::stoi(name));
        }
        return all;
    }
    // What is wrong with the end of a training whose rank got a fault in a phase.
    std::string problem(const Ended& ended, const std::string& action, const std::string& phase, int rank) const {
        if (ended.code == -1) return "it did not end\n" + ended.err;
        if (ended.seconds > 30) return concat("it ended ", ended.seconds, " s after the fault\n", ended.err);
        if (ended.code == 0 || ended.code == 3) return concat("exit code ", ended.code, "\n", ended.err);
        if (!processes().empty()) return concat("it left ", processes().size(), " processes\n", ended.err);
        const std::string verb = action == "kill"                       ? " died"
                                 : action == "stop" || action == "hang" ? " hangs"
                                                                        : " failed";
        const size_t line = ended.err.find(concat(verb, " in ", phase));
        const size_t name = line == std::string::npos ? line : ended.err.rfind(concat("rank ", rank, " ("), line);
        if (name == std::string::npos || ended.err.find('\n', name) < line) return "no message names it:\n" + ended.err;
        if (action == "memory" && ended.err.find("out of memory") == std::string::npos) return ended.err;
        return "";
    }
    // Weights and optimizer state.
    std::string newest_state() const {
        const fs::path checkpoint = list_checkpoints(run()).front().directory;
        return read_file(checkpoint / "model.safetensors") + read_file(checkpoint / "optimizer.safetensors");
    }
    // What is wrong with the newest checkpoint.
    std::string resumed(int stage) const {
        if (list_checkpoints(run()).empty()) return "there is no checkpoint";
        const auto newest = newest_checkpoint(run(), nullptr);
        if (!newest || newest->directory != list_checkpoints(run()).front().directory) return "the newest is not whole";
        verify_checkpoint(newest->directory);
        unsetenv("KILN_FAULT");
        const Finished result = train_cu(two_ranks(stage, {"--resume"}));
        return result.code == 0 ? "" : concat("it is not resumed: ", result.err);
    }
};

constexpr const char* kPhases[] = {
    "the start", "validation", "sampling", "save", "forward and backward", "reduction of gradients", "update"};

TEST_F(RankFaults, a_fault_of_any_rank_in_any_phase_ends_all_and_the_run_is_resumed) {
    Series series("a fault of a rank");
    int number = 0;
    const auto attempt = [&](const std::string& action, const std::string& phase, int rank, int stage, bool resumes) {
        const bool before = phase == "the start";
        series.add(concat(action, " rank ", rank, " in ", phase, ", -z ", stage), [&]() -> std::string {
            fs::remove_all(run());
            setenv("KILN_FAULT", concat(action, ":", phase, ":", before ? -1 : 2, "@", rank).c_str(), 1);
            // Only what has to be found by it gets a short limit: kernels may take seconds on a loaded machine.
            const bool limited = action == "stop" || action == "hang";
            const Ended ended =
                faulty(two_ranks(stage, {"--rank-timeout", limited ? "8" : "300", "--async-save", "0"}));
            const std::string wrong = problem(ended, action, phase, rank);
            if (!wrong.empty() || before || !resumes) return wrong;
            return resumed(stage);
        });
    };
    if (!is_long()) {
        // Each action, phase and stage, and both ranks.
        const char* const actions[] = {"kill", "fail", "kill", "memory", "stop", "kill", "fail"};
        for (const char* phase : kPhases) {
            attempt(actions[number], phase, number % 2 ^ 1, number % 4, number == 3);
            number++;
        }
        return;
    }
    for (const char* action : {"kill", "stop", "fail", "memory", "hang"}) {
        for (const char* phase : kPhases) {
            for (const int rank : {0, 1}) {
                for (const int stage : {0, 3}) attempt(action, phase, rank, stage, true);
            }
        }
    }
}

// A collective that fails on one rank, while the abort of the communicator never returns.
TEST_F(RankFaults, a_failed_collective_ends_all_though_the_abort_hangs) {
    setenv("SIMT_NCCL_FAILS", "ncclReduceScatter:8@1", 1);
    setenv("SIMT_NCCL_HANGS", "ncclCommAbort", 1);
    const Ended ended = faulty(two_ranks(1));
    EXPECT_EQ(problem(ended, "fail", "forward and backward", 1), "");
    EXPECT_NE(ended.err.find("NCCL: rank 1 of 2: ncclReduceScatter"), std::string::npos) << ended.err;
}

// The other waits for it in NCCL: for parameters that it does not send. Without an option, this ends the run in 30 s.
TEST_F(RankFaults, a_rank_that_hangs_while_the_other_waits_in_nccl_is_named) {
    setenv("KILN_FAULT", "hang:forward and backward:2@1", 1);
    const Ended ended = faulty(two_ranks(3, is_long() ? Args{} : Args{"--rank-timeout", "2"}));
    EXPECT_EQ(problem(ended, "hang", "forward and backward", 1), "");
    EXPECT_NE(ended.err.find("--rank-timeout gives it longer"), std::string::npos) << ended.err;
    if (!is_long()) return;
    fs::remove_all(run());
    unsetenv("KILN_FAULT");
    setenv("SIMT_NCCL_HANGS", "ncclReduceScatter:13@1", 1);
    const Ended both = faulty(two_ranks(1));
    EXPECT_EQ(both.code, 1);
    EXPECT_LT(both.seconds, 45);
    EXPECT_NE(both.err.find("all ranks have waited for each other for 20 s (before"), std::string::npos) << both.err;
}

TEST_F(RankFaults, a_stop_signal_to_any_process_saves_once_and_ends_all_and_the_run_is_resumed_exactly) {
    const Args steps{"-n", "0", "-v", "0", "-s", "0", "-k", "constant", "--deterministic-matmuls", "-x"};
    const auto attempt = [&](int stage, int whom, int signal, bool resumes) {
        SCOPED_TRACE(concat("-z ", stage, ", process ", whom));
        fs::remove_all(run());
        const auto began = Clock::now();
        const auto running = start("train_gpt2cu", two_ranks(stage, steps + Args{"100000"}));
        ASSERT_TRUE(appears(run() / "metrics.jsonl", 60s));
        // The supervisor has the lowest number.
        std::vector<pid_t> all = processes();
        std::ranges::sort(all);
        ASSERT_EQ(all.size(), 3u);
        ::kill(all[size_t(whom + 1)], signal);
        const Ended ended = end_of(*running, began);
        EXPECT_EQ(ended.code, 3) << ended.err;
        EXPECT_EQ(list_checkpoints(run()).size(), 1u) << ended.err;
        EXPECT_TRUE(processes().empty());
        if (!resumes || list_checkpoints(run()).empty()) return;
        const Args more = steps + Args{std::to_string(list_checkpoints(run()).front().step + 2)};
        const Finished resumed = train_cu(two_ranks(stage, more + Args{"--resume"}));
        ASSERT_EQ(resumed.code, 0) << resumed.err;
        const std::string state = newest_state();
        fs::remove_all(run());
        const Finished whole = train_cu(two_ranks(stage, more));
        ASSERT_EQ(whole.code, 0) << whole.err;
        EXPECT_TRUE(newest_state() == state);
    };
    if (!is_long()) {
        attempt(0, 1, SIGTERM, false);
        attempt(3, -1, SIGINT, true);
        return;
    }
    for (const int stage : {0, 3}) {
        for (const int whom : {-1, 0, 1}) {
            for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) attempt(stage, whom, signal, true);
        }
    }
}

TEST_F(RankFaults, a_killed_supervisor_leaves_no_rank) {
    const auto running = start("train_gpt2cu", two_ranks(0, {"-x", "100000", "-n", "0", "-v", "0", "-s", "0"}));
    ASSERT_TRUE(appears(run() / "metrics.jsonl", 60s));
    running->send(SIGKILL);
    running->wait(10s);
    for (int tries = 0; tries < 100 && !processes().empty(); tries++) std::this_thread::sleep_for(20ms);
    EXPECT_TRUE(processes().empty());
}

// The buckets of a model of three blocks: embeddings, blocks, and what follows them.
TEST_F(RankFaults, gradients_are_exchanged_before_the_backward_pass_ends) {
    for (const auto& [stage, call] : {std::pair(0, "ncclAllReduce("), std::pair(1, "ncclReduceScatter(")}) {
        SCOPED_TRACE(call);
        fs::remove_all(run());
        const fs::path trace = directory_ / concat("trace", stage);
        setenv("SIMT_TRACE", trace.c_str(), 1);
        const Finished result = train_cu(two_ranks(
            stage, {"-e", "llama:layers=3,dim=16,heads=1,ctx=16", "-x", "1", "-v", "0", "-s", "0", "-o", ""}));
        ASSERT_EQ(result.code, 0) << result.err;
        int files = 0;
        for (const auto& entry : fs::directory_iterator(directory_.path())) {
            if (!entry.path().filename().string().starts_with(trace.filename().string() + ".")) continue;
            files++;
            std::ifstream file(entry.path());
            // Of the collectives: how many kernels had run before.
            std::vector<int> exchanged;
            int kernels = 0, last_of_backward = -1;
            for (std::string line; std::getline(file, line);) {
                if (line.starts_with(call) && line.find("(count 1,") == std::string::npos) {
                    exchanged.push_back(kernels);
                } else if (!line.starts_with("nccl")) {
                    kernels++;
                    if (line.find("embedding_") != line.npos) last_of_backward = kernels;
                }
            }
            ASSERT_EQ(exchanged.size(), 5u);
            for (size_t i = 0; i + 1 < exchanged.size(); i++) {
                EXPECT_LT(exchanged[i], exchanged[i + 1]) << "no kernel runs between bucket " << i << " and the next";
                EXPECT_LT(exchanged[i], last_of_backward);
            }
            EXPECT_GE(exchanged.back(), last_of_backward);
        }
        EXPECT_EQ(files, 2);
    }
}

}  // namespace
}  // namespace kiln
