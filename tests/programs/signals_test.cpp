// What signals do to the real programs, and when.
#include <gtest/gtest.h>
#include <signal.h>

#include <sstream>

#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

// Of a whole minute if set, else of seconds.
const bool kLong = std::getenv("KILN_LONG") != nullptr;

class Signals : public TrainProgram {};

// Its shape is one for which oneDNN generates code. Before one thread took all signals, this crashed each time.
TEST_F(Signals, a_handler_on_a_timer_interrupts_no_thread_that_computes_and_changes_no_bit) {
    const fs::path counts = directory_ / "counts", quiet = directory_ / "quiet";
    const std::string steps = kLong ? "3000" : "10";
    const Args args{"-i", data(), "-e",        "llama:layers=1,dim=192,heads=6,ctx=64",
                    "-b", "4",    "-t",        "64",
                    "-x", steps,  "-v",        "0",
                    "-n", "0",    "--threads", "2"};
    ASSERT_EQ(train_cpu(args + Args{"-o", quiet}).code, 0);
    const std::string sanitizer =
        concat(getenv("ASAN_OPTIONS") ? getenv("ASAN_OPTIONS") : "", ":verify_asan_link_order=0");
    const Finished timed =
        run_program("/usr/bin/env", Args{"ASAN_OPTIONS=" + sanitizer, "SIGNAL_COUNTS=" + counts.string(),
                                         "LD_PRELOAD=" + (build_path() / "tests/programs/preload/timer.so").string(),
                                         program_path("train_gpt2")} +
                                        args + Args{"-o", run()});
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

}  // namespace
}  // namespace kiln
