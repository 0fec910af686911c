#pragma once
// A fixture that runs ranks as processes, which find each other at a port of this machine.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/io/file.h"
#include "tools/cli/standard_streams.h"
#include "tools/launch/control.h"

namespace kiln {

struct EndedRank {
    int code = -1, signal = 0;
    std::string err;
};

// Times that make tests short.
inline ControlOptions quick() {
    return {.launch_timeout = std::chrono::seconds(10),
            .rank_timeout = std::chrono::milliseconds(0),
            .silence = std::chrono::seconds(5),
            .beat = std::chrono::milliseconds(30),
            .answer = std::chrono::milliseconds(300),
            .build = "test"};
}

class RankProcesses : public testing::Test {
protected:
    using Body = std::function<void(ControlCommunicator&)>;
    struct Rank {
        World world;
        ControlOptions options = quick();
        Body body = [](ControlCommunicator&) {};
    };

    RankProcesses() : listening_(listen_at(0, true)) {}
    ~RankProcesses() override {
        for (const pid_t pid : pids_) {
            if (pid <= 0) continue;
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, 0);
        }
    }

    // All the ranks of a run, which do the same.
    std::vector<Rank> ranks(
        int size, const Body& body = [](ControlCommunicator&) {}) const {
        std::vector<Rank> all;
        for (int r = 0; r < size; r++) {
            World world{.rank = r, .size = size, .local_rank = r, .local_size = size, .launcher = "test"};
            world.master_addr = "127.0.0.1";
            world.master_port = port_of(listening_);
            world.run_id = "this run";
            if (r == 0) world.listen_fd = listening_.fd();
            all.push_back({.world = world, .body = body});
        }
        return all;
    }
    // A process whose standard error is kept, and which ends as programs do.
    void start(const std::function<void()>& body) {
        const std::string err = error_file(pids_.size());
        const pid_t pid = ::fork();
        if (pid > 0) return pids_.push_back(pid);
        const int file = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        ::dup2(file, STDERR_FILENO);
        int code = 0;
        try {
            body();
        } catch (const std::exception& error) {
            write_error_line(error.what());
            code = 1;
        }
        ::_exit(code);
    }
    void start(const std::vector<Rank>& ranks) {
        for (const Rank& rank : ranks) {
            start([&] {
                if (rank.world.listen_fd < 0) listening_ = Socket();  // rank 0's
                ControlCommunicator communicator(rank.world, rank.options);
                rank.body(communicator);
            });
        }
    }
    EndedRank wait(size_t i, std::chrono::milliseconds limit = std::chrono::seconds(9)) {
        const Deadline end = SocketClock::now() + limit;
        int status = 0;
        while (::waitpid(pids_[i], &status, WNOHANG) != pids_[i]) {
            if (SocketClock::now() > end) return {};
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        pids_[i] = -1;
        return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                read_file(error_file(i))};
    }
    void expect_success(const std::vector<Rank>& ranks) {
        start(ranks);
        for (size_t i = 0; i < ranks.size(); i++) {
            const EndedRank ended = wait(i);
            EXPECT_EQ(ended.code, 0) << "rank " << i << ": " << ended.err;
            EXPECT_EQ(ended.err, "");
        }
    }
    void expect_failure(size_t i, const std::string& text) {
        const EndedRank ended = wait(i);
        EXPECT_EQ(ended.code, 1) << "process " << i << " ended by signal " << ended.signal << "\n" << ended.err;
        EXPECT_NE(ended.err.find(text), std::string::npos) << "process " << i << ": wanted " << text << "\n"
                                                           << ended.err;
    }
    std::string error_file(size_t i) const { return directory_ / concat("err", i); }
    // Ranks wait for it: they can tell the test, and the test them, where they are.
    std::filesystem::path mark(const std::string& name) const { return directory_ / name; }
    void set(const std::string& name) const { directory_.write(name, ""); }
    std::string name_of(size_t i) const { return concat("rank ", i, " (", host_name(), ", pid ", pids_[i], ")"); }

    TempDirectory directory_;
    Socket listening_;
    std::vector<pid_t> pids_;
};

}  // namespace kiln
