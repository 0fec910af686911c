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

// Runs train_gpt2 with tests/programs/preload/NAME.cpp in it.
Finished train_with(const std::string& name, const Args& environment, const Args& args) {
    const char* asan = std::getenv("ASAN_OPTIONS");
    const Args loads{"LD_PRELOAD=" + (build_path() / "tests/programs/preload" / (name + ".so")).string(),
                     concat("ASAN_OPTIONS=", asan ? asan : "", ":verify_asan_link_order=0")};
    return run_program("/usr/bin/env", environment + loads + Args{program_path("train_gpt2")} + args);
}

class Signals : public TrainProgram {
protected:
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

    int pipe_ = -1;
};

// The shape is one for which oneDNN generates code. This crashed each time, before one thread took all signals.
TEST_F(Signals, a_handler_on_a_timer_interrupts_no_matmul_and_changes_no_bit) {
    const fs::path counts = directory_ / "counts", quiet = directory_ / "quiet";
    const std::string steps = kLong ? "3000" : "10";  // a minute
    const Args args{"-i", data(), "-e",        "llama:layers=1,dim=192,heads=6,ctx=64",
                    "-b", "4",    "-t",        "64",
                    "-x", steps,  "-v",        "0",
                    "-n", "0",    "--threads", "2"};
    ASSERT_EQ(train_cpu(args + Args{"-o", quiet}).code, 0);
    const Finished timed = train_with("timer", {"SIGNAL_COUNTS=" + counts.string()}, args + Args{"-o", run()});
    ASSERT_EQ(timed.code, 0) << timed.signal << timed.err;
    int handled = 0, in_matmul = -1;
    std::istringstream(read_file(counts)) >> handled >> in_matmul;
    EXPECT_GT(handled, 10);
    EXPECT_EQ(in_matmul, 0);
    const std::string last = concat("checkpoint-", std::string(8 - steps.size(), '0'), steps);
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
        EXPECT_TRUE(read_file(run() / last / file) == read_file(quiet / last / file)) << file;
    }
}

// A stop may come at any time: while shards are found, weights loaded, checkpoints verified and written, and while the
// model is trained, evaluated and sampled. The run is always resumed to the same bits.
TEST_F(Signals, a_run_is_stopped_at_any_file_and_any_matmul_and_resumed_to_the_same_bits) {
    BpeTrainer trainer({.vocab_size = 258, .special_tokens = {"<|endoftext|>"}});
    trainer.add_text("床前明月光", "text");
    trainer.train().save(data());
    const Args args{"-i", data(), "-e",      kModel + ",vocab=258,dropout=0.1",
                    "-b", "4",    "-x",      "4",
                    "-v", "2",    "-m",      "1",
                    "-s", "2",    "-g",      "2",
                    "-n", "2",    "--force", "--threads",
                    "1"};
    const fs::path counts = directory_ / "counts", whole = directory_ / "whole";
    const std::string below = "STOP_BELOW=" + directory_.path().string();
    const Finished unbroken = train_with("stop", {below, "STOP_COUNTS=" + counts.string()}, args + Args{"-o", whole});
    ASSERT_EQ(unbroken.code, 0) << unbroken.err;
    int opens = 0, matmuls = 0;
    std::istringstream(read_file(counts)) >> opens >> matmuls;
    ASSERT_GT(opens, 20);
    ASSERT_GT(matmuls, 100);

    const int signals[] = {SIGTERM, SIGUSR1, SIGINT, SIGHUP};
    int tries = 0, stops = 0;
    const auto try_at = [&](const std::string& what, int n) {
        const int signal = signals[tries++ % 4];
        const std::string at = concat(what, "=", n), sent = concat("STOP_SIGNAL=", signal);
        SCOPED_TRACE(at + " " + sent);
        fs::remove_all(run());
        Finished last = train_with("stop", {below, at, sent}, args + Args{"-o", run()});
        for (int i = 0; last.code == 3 && i < 2; i++) {
            stops++;
            EXPECT_NE(last.err.find(concat("stopped by SIG")), last.err.npos) << last.err;
            const Args resume{"-o", run(), "--resume"};
            last = i == 0 ? train_with("stop", {below, at, sent}, resume) : train_cpu(resume);
        }
        ASSERT_EQ(last.code, 0) << last.signal << last.err;
        for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
            EXPECT_TRUE(read_file(run() / "model" / file) == read_file(whole / "model" / file)) << file;
        }
    };
    for (int n = 1; n <= opens; n += kLong ? 1 : opens / 5) try_at("STOP_AT_OPEN", n);
    for (int n = 1; n <= matmuls; n += kLong ? 1 : matmuls / 3) try_at("STOP_AT_MATMUL", n);
    EXPECT_GT(stops, tries / 2);
    RecordProperty("tries", tries);
    RecordProperty("stops", stops);
}

TEST_F(Signals, prepare_is_stopped_while_it_waits_for_a_pipe) {
    BpeTrainer trainer({.vocab_size = 258, .special_tokens = {"<|endoftext|>"}});
    trainer.add_text("床前明月光", "text");
    trainer.train().save(directory_ / "tokenizer");
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

// They have nothing to save.
TEST_F(Signals, other_commands_end_at_once_and_leave_nothing) {
    BpeTrainer trainer({.vocab_size = 258, .special_tokens = {"<|endoftext|>"}});
    trainer.add_text("床前明月光", "text");
    trainer.train().save(directory_ / "tokenizer");
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
