// What becomes of a training whose output is lost, or is not read.
#include <gtest/gtest.h>
#include <signal.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"
#include "tools/checkpoint/checkpoint.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class StandardStreams : public TrainProgram {
protected:
    Args base(const std::string& steps) const {
        return {"-i", data(), "-e", "llama:layers=1,dim=16,heads=2,ctx=16", "-b", "4", "-x", steps, "-o", run()};
    }
    bool has_checkpoint() const { return !list_checkpoints(run()).empty(); }
};

TEST_F(StandardStreams, results_that_are_lost_do_not_end_the_training_and_are_told_at_its_end) {
    const Finished full = run_program(program_path("train_gpt2"), base("2"), "", "/dev/full");
    EXPECT_EQ(full.code, 1);
    EXPECT_NE(full.err.find("standard output: cannot be written: No space left on device"), std::string::npos);
    EXPECT_TRUE(has_checkpoint());

    const std::string program = program_path("train_gpt2");
    const Args again = base("2") + Args{"--overwrite"};
    const Finished closed = run_program("/bin/bash", Args{"-c", "\"$0\" \"$@\" >&-", program} + again);
    EXPECT_EQ(closed.code, 1);
    EXPECT_NE(closed.err.find("standard output: cannot be written: Bad file descriptor"), std::string::npos);
    EXPECT_TRUE(has_checkpoint());

    // A reader that has enough is no failure.
    const Finished gone = run_program("/bin/bash", Args{"-c", "\"$0\" \"$@\" > >(:)", program} + again);
    EXPECT_EQ(gone.code, 0) << gone.err;
    EXPECT_TRUE(has_checkpoint());

    for (const Args& more : {Args{"--help"}, {"--print-config"}, {"-e", "gpt2", "--dry-run"}}) {
        EXPECT_EQ(run_program(program, more, "", "/dev/full").code, 1) << more[0];
    }
}

// On a full disk, or started by a program that closes it.
TEST_F(StandardStreams, a_standard_error_that_cannot_be_written_changes_no_exit_code) {
    for (const char* lost : {"2>/dev/full", "2>&-", "2</dev/null"}) {
        const auto code = [&](const std::string& program, const Args& args, const std::string& more = "") {
            const Args shell{"-c", concat("\"$0\" \"$@\" ", more, lost), program_path(program)};
            return run_program("/bin/bash", shell + args).code;
        };
        EXPECT_EQ(code("train_gpt2", base("2") + Args{"--overwrite"}), 0) << lost;
        EXPECT_TRUE(has_checkpoint());
        EXPECT_EQ(code("kiln", {"inspect", directory_ / "none"}), 1) << lost;
        EXPECT_EQ(code("kiln", {"inspect", "--no-such-option"}), 2) << lost;
        EXPECT_EQ(code("kiln", {"--help"}), 0) << lost;
        EXPECT_EQ(code("kiln", {"--help"}, ">&- "), 1) << lost;
    }
}

// Nobody reads the pipe or terminal `fd` at `path`.
void expect_stopped(const Args& args, int fd, const std::string& path) {
    ASSERT_GE(fd, 0) << path;
    while (::write(fd, "x", 1) == 1) {
    }
    Running running("train_gpt2", args, "/dev/null", path, path);
    EXPECT_EQ(running.wait(500ms), -1);  // it waits, as any program would
    running.send(SIGTERM);
    const int status = running.wait(10s);
    EXPECT_TRUE(WIFEXITED(status)) << path;
    EXPECT_EQ(WEXITSTATUS(status), 3) << path;
    ::close(fd);
}

TEST_F(StandardStreams, a_training_is_stopped_although_the_reader_of_its_pipe_is_stopped) {
    const fs::path path = directory_ / "pipe";
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    expect_stopped(base("1000"), ::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC), path);
}

TEST_F(StandardStreams, a_training_is_stopped_although_its_terminal_is_stopped) {
    const int screen = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    ASSERT_TRUE(screen >= 0 && ::grantpt(screen) == 0 && ::unlockpt(screen) == 0);
    const std::string path = ::ptsname(screen);
    expect_stopped(base("1000"), ::open(path.c_str(), O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), path);
    ::close(screen);
}

}  // namespace
}  // namespace kiln
