// What signals do to the real programs, and when.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>

#include <sstream>

#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/tokenizer.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

const bool kLong = std::getenv("KILN_LONG") != nullptr;
const std::string kModel = "llama:layers=1,dim=16,heads=2,kv_heads=1,ctx=16";

// Runs a program with tests/programs/preload/NAME.cpp in it.
Finished run_with(const std::string& name, const Args& environment, const std::string& program, const Args& args) {
    const char* asan = std::getenv("ASAN_OPTIONS");
    const Args loads{"LD_PRELOAD=" + (build_path() / "tests/programs/preload" / (name + ".so")).string(),
                     concat("ASAN_OPTIONS=", asan ? asan : "", ":verify_asan_link_order=0")};
    return run_program("/usr/bin/env", environment + loads + Args{program_path(program)} + args);
}

class Signals : public TrainProgram {
protected:
    // The numbers that a preload writes.
    std::pair<int, int> counts() const {
        std::pair<int, int> both{0, -1};
        std::istringstream(read_file(counts_)) >> both.first >> both.second;
        return both;
    }
    // Runs the program, which sends itself the next signal at a file or a matmul: `at` is "STOP_AT_OPEN=3" (empty:
    // nowhere).
    Finished stop_at(const std::string& at, const std::string& program, const Args& args) {
        constexpr int kSignals[] = {SIGTERM, SIGUSR1, SIGINT, SIGHUP};
        return run_with("stop",
                        {at.empty() ? "A=" : at, concat("STOP_SIGNAL=", kSignals[tries_++ % 4]),
                         "STOP_BELOW=" + directory_.path().string(), "STOP_COUNTS=" + counts_.string()},
                        program, args);
    }
    fs::path tokenizer(const fs::path& directory) const {
        BpeTrainer trainer({.vocab_size = 258, .special_tokens = {"<|endoftext|>"}});
        trainer.add_text("床前明月光", "text");
        trainer.train().save(directory);
        return directory;
    }
    // The wait status of `running`, which has to end soon after the signal.
    static int stopped(Running& running, int signal) {
        running.send(signal);
        return running.wait(10s);
    }
    // A FIFO that is open at both ends, so that nobody waits for its other end.
    fs::path pipe() {
        const fs::path path = directory_ / "pipe";
        EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
        pipe_ = ::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
        return path;
    }
    ~Signals() override { ::close(pipe_); }

    const fs::path counts_ = directory_ / "counts";
    int pipe_ = -1, tries_ = 0;
};

// The signal waits while the program is started, as it does while the program starts itself again.
TEST_F(Signals, one_before_main_stops_a_training_as_one_before_the_first_step) {
    const Finished ended =
        run_program("/usr/bin/env", {"--block-signal=TERM", "/bin/sh", "-c", "kill -TERM $$; exec \"$0\" \"$@\"",
                                     program_path("train_gpt2"), "-i", data(), "-e", kModel, "-o", directory_ / "run"});
    EXPECT_EQ(ended.code, 3) << ended.err;
    EXPECT_NE(ended.err.find("stopped by SIGTERM before the first step"), std::string::npos) << ended.err;
}

// The shape is one for which oneDNN generates code. This crashed each time, before one thread took all signals.
TEST_F(Signals, a_handler_on_a_timer_interrupts_no_matmul_and_changes_no_bit) {
    const fs::path quiet = directory_ / "quiet";
    const std::string steps = kLong ? "3000" : "10";  // a minute
    const Args args{"-i", data(), "-e",        "llama:layers=1,dim=192,heads=6,ctx=64",
                    "-b", "4",    "-t",        "64",
                    "-x", steps,  "-v",        "0",
                    "-n", "0",    "--threads", "2"};
    ASSERT_EQ(train_cpu(args + Args{"-o", quiet}).code, 0);
    const Finished timed =
        run_with("timer", {"SIGNAL_COUNTS=" + counts_.string()}, "train_gpt2", args + Args{"-o", run()});
    ASSERT_EQ(timed.code, 0) << timed.signal << timed.err;
    const auto [handled, in_matmul] = counts();
    EXPECT_GT(handled, 10);
    EXPECT_EQ(in_matmul, 0);
    const std::string last = concat("checkpoint-", std::string(8 - steps.size(), '0'), steps);
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
        EXPECT_TRUE(read_file(run() / last / file) == read_file(quiet / last / file)) << file;
    }
}

// A stop may come at any time: while shards are found, weights loaded, checkpoints verified and written, and while the
// model is trained, evaluated and sampled.
TEST_F(Signals, training_is_stopped_at_any_file_and_any_matmul_and_resumed_to_the_same_bits) {
    tokenizer(data());
    const Args args{"-i", data(), "-e",      kModel + ",vocab=258,dropout=0.1",
                    "-b", "4",    "-x",      "4",
                    "-v", "2",    "-m",      "1",
                    "-s", "2",    "-g",      "2",
                    "-n", "2",    "--force", "--threads",
                    "1"};
    const fs::path whole = directory_ / "whole";
    ASSERT_EQ(stop_at("", "train_gpt2", args + Args{"-o", whole}).code, 0);
    const auto [opens, matmuls] = counts();
    ASSERT_GT(opens, 20);
    ASSERT_GT(matmuls, 100);
    int stops = 0;
    const auto try_at = [&](const std::string& at) {
        SCOPED_TRACE(at);
        fs::remove_all(run());
        Finished last = stop_at(at, "train_gpt2", args + Args{"-o", run()});
        for (int i = 0; last.code == 3 && i < 2; i++) {
            stops++;
            EXPECT_NE(last.err.find("stopped by SIG"), last.err.npos) << last.err;
            last = stop_at(i == 0 ? at : "", "train_gpt2", {"-o", run(), "--resume"});
        }
        ASSERT_EQ(last.code, 0) << last.signal << last.err;
        for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
            EXPECT_TRUE(read_file(run() / "model" / file) == read_file(whole / "model" / file)) << file;
        }
    };
    for (int n = 1; n <= opens; n += kLong ? 1 : opens / 5) try_at(concat("STOP_AT_OPEN=", n));
    for (int n = 1; n <= matmuls; n += kLong ? 1 : matmuls / 3) try_at(concat("STOP_AT_MATMUL=", n));
    EXPECT_GT(stops, 10);
    RecordProperty("stops", stops);
}

TEST_F(Signals, prepare_is_stopped_at_any_file_and_resumed_to_the_same_shards) {
    const Args args{"prepare",
                    "--input",
                    directory_.write("text", "床前明月光\n疑是地上霜\n"),
                    "--tokenizer",
                    tokenizer(directory_ / "tokenizer"),
                    "--documents",
                    "line",
                    "--output",
                    directory_ / "shards"};
    ASSERT_EQ(stop_at("", "kiln", args).code, 0);
    const int opens = counts().first;
    const std::string whole = read_file(directory_ / "shards/train_000000.bin");
    int stops = 0;
    for (int n = 1; n <= opens; n += kLong ? 1 : opens / 4) {
        SCOPED_TRACE(n);
        fs::remove_all(directory_ / "shards");
        Finished last = stop_at(concat("STOP_AT_OPEN=", n), "kiln", args);
        if (last.code == 3) stops++, last = stop_at("", "kiln", args);
        EXPECT_EQ(last.code, 0) << last.signal << last.err;
        EXPECT_EQ(read_file(directory_ / "shards/train_000000.bin"), whole);
    }
    EXPECT_GT(stops, 0);
    RecordProperty("stops", stops);
}

TEST_F(Signals, prepare_is_stopped_while_it_waits_for_a_pipe) {
    tokenizer(directory_ / "tokenizer");
    const fs::path in = pipe();
    Running running("kiln",
                    {"prepare", "--input", "/dev/stdin", "--tokenizer", directory_ / "tokenizer", "--output",
                     directory_ / "shards"},
                    in);
    ASSERT_TRUE(appears(directory_ / "shards/shards.json.unfinished"));
    const int status = stopped(running, SIGINT);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 3);
}

TEST_F(Signals, export_is_stopped_at_any_file_and_leaves_the_whole_model_or_nothing) {
    ASSERT_EQ(train_cpu({"-i", data(), "-e", kModel, "-x", "1", "-v", "0", "-o", run()}).code, 0);
    const fs::path made = directory_ / "made";
    const Args args{"export", "--model", run(), "--to", "hf", "--output", made};
    ASSERT_EQ(stop_at("", "kiln", args).code, 0);
    const int opens = counts().first;
    const std::string whole = read_file(made / "model.safetensors");
    int stops = 0;
    for (int n = 1; n <= opens; n++) {
        SCOPED_TRACE(n);
        fs::remove_all(made);
        const Finished ended = stop_at(concat("STOP_AT_OPEN=", n), "kiln", args);
        EXPECT_FALSE(fs::exists(directory_ / ".saving-made"));
        EXPECT_NE(ended.code == 0, ended.signal != 0) << ended.code;
        EXPECT_EQ(fs::exists(made), ended.code == 0);
        EXPECT_TRUE(ended.code != 0 || read_file(made / "model.safetensors") == whole);
        stops += ended.signal != 0;
    }
    EXPECT_GT(stops, 3);
}

// They have nothing to save.
TEST_F(Signals, other_commands_end_at_once_and_leave_nothing) {
    tokenizer(directory_ / "tokenizer");
    const fs::path in = pipe(), made = directory_ / "made";
    for (const Args& args :
         {Args{"tokenizer", "encode", "--tokenizer", directory_ / "tokenizer"},
          Args{"tokenizer", "decode", "--tokenizer", directory_ / "tokenizer"},
          Args{"tokenizer", "train", "--input", "/dev/stdin", "--vocab-size", "300", "--output", made}}) {
        for (const int signal : {SIGTERM, SIGINT}) {
            Running running("kiln", args, in);
            EXPECT_EQ(running.wait(200ms), -1) << args[1];
            const int status = stopped(running, signal);
            EXPECT_TRUE(WIFSIGNALED(status)) << args[1];
            EXPECT_EQ(WTERMSIG(status), signal) << args[1];
            EXPECT_FALSE(fs::exists(made));
        }
    }
}

}  // namespace
}  // namespace kiln
