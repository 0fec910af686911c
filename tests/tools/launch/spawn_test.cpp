// --gpus: the process that starts the ranks, with shells as ranks.
#include "tools/launch/spawn.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "cpu_reference/interface/error.h"
#include "tests/support/process.h"
#include "tools/cli/stop_signal.h"

namespace kiln {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

class Spawn : public testing::Test {
protected:
    // In a process of its own, since signals belong to a process. Its exit code is that of the ranks; what ranks 1 and
    // later write is in the files out and err, what rank 0 writes in out0 and err0.
    pid_t start(const std::string& script, int size, std::chrono::milliseconds patience = 10s) {
        const pid_t pid = ::fork();
        if (pid > 0) return pid;
        ::prctl(PR_SET_CHILD_SUBREAPER, 1);
        for (const int ignored : {SIGINT, SIGHUP}) ::signal(ignored, SIG_DFL);  // by a shell, for what it starts with &
        const auto open_file = [&](const char* name) {
            return ::open((directory_ / name).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        };
        ::dup2(open_file("out0"), STDOUT_FILENO);
        ::dup2(open_file("err0"), STDERR_FILENO);
        ::chdir(directory_.path().c_str()) == 0 || (::_exit(99), true);
        take_signals_in_one_thread();
        catch_stop_signals();
        int code = 98;
        std::ofstream out(directory_ / "out"), err(directory_ / "err");
        try {
            code = spawn_ranks({.program = "/bin/sh", .args = {"sh", "-c", script}, .size = size, .patience = patience},
                               out, err);
        } catch (const std::exception& error) {
            err << error.what();
        }
        out.flush(), err.flush();
        ::_exit(code);
    }
    static int wait(pid_t pid) {
        int status = 0;
        EXPECT_EQ(::waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    int run(const std::string& script, int size, std::chrono::milliseconds patience = 10s) {
        return wait(start(script, size, patience));
    }
    std::string text(const char* name) const {
        std::ifstream file(directory_ / name);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    std::vector<std::string> lines(const char* name) const {
        std::istringstream in(text(name));
        std::vector<std::string> all;
        for (std::string line; std::getline(in, line);) all.push_back(line);
        std::sort(all.begin(), all.end());
        return all;
    }
    // Each rank writes its process id to a file of its number.
    std::vector<pid_t> pids(int size) const {
        std::vector<pid_t> all;
        for (int r = 0; r < size; r++) {
            const fs::path path = directory_ / concat("pid", r);
            EXPECT_TRUE(appears(path));
            all.push_back(std::stoi("0" + text(path.filename().c_str())));
        }
        return all;
    }
    static bool gone(pid_t pid) {
        for (int i = 0; i < 400; i++) {
            if (::kill(pid, 0) != 0) return true;
            std::this_thread::sleep_for(10ms);
        }
        return false;
    }
    static constexpr const char* kWritePid = "echo $$ >pid$RANK.new; mv pid$RANK.new pid$RANK; ";

    TempDirectory directory_;
};

TEST_F(Spawn, every_rank_knows_who_it_is) {
    ASSERT_EQ(run("echo $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR; echo problem $RANK >&2", 3), 0)
        << text("err");
    EXPECT_EQ(text("out0"), "0 3 0 3 127.0.0.1\n");
    EXPECT_EQ(text("err0"), "problem 0\n");
    EXPECT_EQ(lines("out"), (std::vector<std::string>{"[rank 1] 1 3 1 3 127.0.0.1", "[rank 2] 2 3 2 3 127.0.0.1"}));
    EXPECT_EQ(lines("err"), (std::vector<std::string>{"[rank 1] problem 1", "[rank 2] problem 2"}));
}

TEST_F(Spawn, processors_are_divided_among_the_ranks) {
    unsetenv("OMP_NUM_THREADS");
    ASSERT_EQ(run("echo $OMP_NUM_THREADS", 2), 0);
    EXPECT_EQ(text("out0"), concat(std::max(1u, std::thread::hardware_concurrency() / 2), "\n"));
    setenv("OMP_NUM_THREADS", "77", 1);
    ASSERT_EQ(run("echo $OMP_NUM_THREADS", 2), 0);
    EXPECT_EQ(text("out0"), "77\n");
    unsetenv("OMP_NUM_THREADS");
}

TEST_F(Spawn, output_without_a_last_newline_and_long_lines_arrive) {
    ASSERT_EQ(run("[ $RANK = 0 ] || { head -c 200000 /dev/zero | tr '\\0' x; echo; printf end; }", 2), 0);
    size_t letters = 0;
    const std::string out = text("out");
    for (const char c : out) letters += c == 'x';
    EXPECT_EQ(letters, 200000u);
    EXPECT_TRUE(out.ends_with("[rank 1] end\n")) << out.substr(out.size() - 50);
}

TEST_F(Spawn, the_code_of_the_first_rank_that_fails_is_returned) {
    EXPECT_EQ(run("[ $RANK = 1 ] && exit 7; exec sleep 100", 3), 7);
    EXPECT_NE(text("err").find("rank 1 (pid "), std::string::npos);
    EXPECT_NE(text("err").find(") ended with exit code 7; ending the other ranks"), std::string::npos) << text("err");
}

TEST_F(Spawn, a_rank_that_a_signal_kills_is_a_failure) {
    EXPECT_EQ(run("[ $RANK = 2 ] && kill -9 $$; exec sleep 100", 3), 1);
    EXPECT_NE(text("err").find(") was killed by signal 9"), std::string::npos) << text("err");
}

TEST_F(Spawn, ranks_that_do_not_end_after_a_failure_are_killed) {
    EXPECT_EQ(run("[ $RANK = 1 ] && sleep 0.2 && exit 4; trap '' TERM; while :; do sleep 0.05; done", 3, 300ms), 4);
}

TEST_F(Spawn, a_stopped_training_is_told_by_code_3) {
    EXPECT_EQ(run("exit $((RANK == 1 ? 3 : 0))", 3), 3);
}

TEST_F(Spawn, a_rank_that_is_stopped_stops_the_others) {
    EXPECT_EQ(run("[ $RANK = 1 ] && exit 3; exec sleep 100", 3), 3) << text("err");
    EXPECT_EQ(run("[ $RANK = 1 ] && exit 3; trap 'exit 3' TERM; while :; do sleep 0.02; done", 3), 3) << text("err");
    EXPECT_EQ(text("err"), "");
}

TEST_F(Spawn, one_signal_reaches_every_rank_once) {
    const std::string script =
        concat("trap 'echo x >>got$RANK' INT; trap 'exit 3' TERM; ", kWritePid, "while :; do sleep 0.02; done");
    const pid_t supervisor = start(script, 2);
    for (const pid_t pid : pids(2)) EXPECT_NE(::getpgid(pid), ::getpgid(supervisor));  // Ctrl-C passes them by
    ::kill(supervisor, SIGINT);
    EXPECT_TRUE(appears(directory_ / "got0") && appears(directory_ / "got1"));
    std::this_thread::sleep_for(200ms);
    EXPECT_EQ(text("got0"), "x\n");
    EXPECT_EQ(text("got1"), "x\n");
    ::kill(supervisor, SIGTERM);
    EXPECT_EQ(wait(supervisor), 3);
}

TEST_F(Spawn, no_rank_outlives_a_killed_supervisor) {
    const pid_t supervisor = start(concat(kWritePid, "trap '' TERM HUP; while :; do sleep 0.05; done"), 3);
    const std::vector<pid_t> ranks = pids(3);
    ::kill(supervisor, SIGKILL);
    EXPECT_EQ(wait(supervisor), -SIGKILL);
    for (const pid_t rank : ranks) EXPECT_TRUE(gone(rank));
}

TEST_F(Spawn, a_program_that_cannot_be_started_is_a_failure) {
    std::ostringstream out, err;
    EXPECT_EQ(spawn_ranks({.program = "/nonexistent", .args = {"x"}, .size = 2}, out, err), 127);
}

}  // namespace
}  // namespace kiln
