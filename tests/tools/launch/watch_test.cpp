// How ranks in several processes end together.
#include <gtest/gtest.h>

#include <signal.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/process.h"
#include "tests/support/rank_processes.h"
#include "tools/launch/watched_communicator.h"

namespace kiln {
namespace {

using namespace std::chrono_literals;

using Watched = RankProcesses;

[[noreturn]] void for_ever() {
    for (;;) ::pause();
}

TEST_F(Watched, a_killed_rank_ends_all_others) {
    for (const size_t killed : {size_t(0), size_t(2)}) {
        pids_.clear();
        start(ranks(3, [&](ControlCommunicator& c) {
            c.watch().set_phase("forward", 7);
            ::usleep(100'000);
            c.barrier();
            if (c.rank() == int(killed)) {
                set("there");
                for_ever();
            }
            c.barrier();
        }));
        ASSERT_TRUE(appears(mark("there")));
        std::filesystem::remove(mark("there"));
        const std::string name = name_of(killed);
        ::kill(pids_[killed], SIGKILL);
        for (size_t i = 0; i < 3; i++) {
            if (i != killed)
                expect_failure(i, name + " died in forward at step 7: its connection closed without a goodbye");
        }
        EXPECT_EQ(wait(killed).signal, SIGKILL);
    }
}

TEST_F(Watched, a_rank_that_fails_ends_all_others_with_its_message) {
    start(ranks(3, [](ControlCommunicator& c) {
        c.watch().set_phase("save", 12);
        if (c.rank() == 1) {
            c.watch().end_others(1, concat("failed", c.watch().place(), ": no space left"));
            throw Error("no space left");
        }
        c.barrier();
    }));
    const std::string name = name_of(1);
    for (const size_t i : {0, 2}) expect_failure(i, name + " failed in save at step 12: no space left");
    expect_failure(1, "no space left");
}

TEST_F(Watched, an_exception_is_a_failure_without_being_told) {
    start(ranks(2, [](ControlCommunicator& c) {
        if (c.rank() == 1) throw Error("a bad file");
        c.barrier();
    }));
    const std::string name = name_of(1);
    expect_failure(0, name + " failed; its own message says why");
    expect_failure(1, "a bad file");
}

TEST_F(Watched, a_stop_before_the_first_step_ends_all_with_its_exit_code) {
    start(ranks(3, [](ControlCommunicator& c) {
        c.barrier();
        if (c.rank() == 2) {
            c.watch().end_others(3, "stopped by SIGTERM");
            ::_exit(3);
        }
        c.barrier();
    }));
    for (size_t i = 0; i < 3; i++) EXPECT_EQ(wait(i).code, 3) << i;
}

TEST_F(Watched, a_stopped_rank_hangs) {
    for (const size_t stopped : {size_t(0), size_t(1)}) {
        pids_.clear();
        auto all = ranks(3, [&](ControlCommunicator& c) {
            c.watch().set_phase("update", 3);
            ::usleep(100'000);
            c.barrier();
            if (c.rank() == int(stopped)) set("there");
            for_ever();
        });
        for (Rank& rank : all) rank.options.silence = 500ms;
        start(all);
        ASSERT_TRUE(appears(mark("there")));
        std::filesystem::remove(mark("there"));
        const std::string name = name_of(stopped);
        ::kill(pids_[stopped], SIGSTOP);
        for (size_t i = 0; i < 3; i++) {
            if (i != stopped) expect_failure(i, name + " hangs in update at step 3: no heartbeat for 0.5 s");
        }
        ::kill(pids_[stopped], SIGKILL);
        EXPECT_EQ(wait(stopped).signal, SIGKILL);
    }
}

TEST_F(Watched, ranks_that_were_all_stopped_for_a_while_continue) {
    auto all = ranks(2, [&](ControlCommunicator& c) {
        c.barrier();
        if (c.rank() == 0) set("there");
        while (!std::filesystem::exists(mark("go on"))) ::usleep(5000);
        c.barrier();
    });
    for (Rank& rank : all) rank.options.silence = 600ms;
    start(all);
    ASSERT_TRUE(appears(mark("there")));
    for (const pid_t pid : pids_) ::kill(pid, SIGSTOP);
    std::this_thread::sleep_for(1s);
    for (const pid_t pid : pids_) ::kill(pid, SIGCONT);
    std::this_thread::sleep_for(100ms);
    set("go on");
    for (size_t i = 0; i < 2; i++) {
        const EndedRank ended = wait(i);
        EXPECT_EQ(ended.code, 0) << ended.err;
    }
}

TEST_F(Watched, a_rank_without_progress_for_which_others_wait_is_named) {
    for (const size_t slow : {size_t(0), size_t(2)}) {
        pids_.clear();
        auto all = ranks(3, [&](ControlCommunicator& c) {
            c.watch().set_phase("reading data", 5);
            if (c.rank() == int(slow)) for_ever();
            c.barrier();
        });
        for (Rank& rank : all) rank.options.rank_timeout = 400ms;
        start(all);
        const std::string name = name_of(slow);
        for (size_t i = 0; i < 3; i++) {
            if (i != slow || slow == 0)
                expect_failure(i, name + " hangs in reading data at step 5: no progress for 0.4 s");
        }
        if (slow != 0) {
            EXPECT_EQ(wait(slow).code, 1);
        }
    }
}

class LearnedLimit : public RankProcesses {
protected:
    // Rank 1 in phases that take so many milliseconds, and then one more time in the last one, in which it does `act`.
    static Body phases_then(const std::vector<std::pair<const char*, int>>& phases, const std::function<void()>& act) {
        return [=](ControlCommunicator& c) {
            int step = -1;  // the first phase is before the first step
            for (const auto& [phase, ms] : phases) {
                c.watch().set_phase(phase, step++);
                if (c.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(ms));
                c.barrier();
            }
            c.watch().set_phase(phases.back().first, step);
            if (c.rank() == 1) act();
            c.barrier();
        };
    }
    std::vector<Rank> two_ranks(const Body& body) const {
        auto all = ranks(2, body);
        for (Rank& rank : all) rank.options.rank_timeout = 8s, rank.options.least_timeout = 500ms;
        return all;
    }
};

TEST_F(LearnedLimit, what_never_took_long_must_not_take_as_long_as_the_start) {
    start(two_ranks(phases_then({{"the start", 1200}, {"forward", 20}, {"forward", 20}}, for_ever)));
    const std::string name = name_of(1);
    for (size_t i = 0; i < 2; i++) {
        const EndedRank ended = wait(i, 5s);
        EXPECT_EQ(ended.code, 1);
        EXPECT_NE(ended.err.find(name + " hangs in forward at step 2: no progress for "), std::string::npos);
        EXPECT_NE(ended.err.find(" s (before, at most 0"), std::string::npos) << ended.err;
    }
}

TEST_F(LearnedLimit, what_happens_for_the_first_time_may_take_as_long_as_the_whole_limit_and_then_longer_than_before) {
    expect_success(two_ranks(phases_then({{"the start", 0}, {"forward", 20}, {"forward", 20}, {"save", 1000}},
                                         [] { std::this_thread::sleep_for(1500ms); })));
}

TEST_F(LearnedLimit, who_reads_files_makes_progress) {
    const std::string file = directory_.write("file", std::string(100'000, ' '));
    expect_success(two_ranks(phases_then({{"the start", 0}, {"load", 20}}, [&] {
        for (int i = 0; i < 120; i++) {
            std::this_thread::sleep_for(10ms);
            EXPECT_EQ(read_file(file).size(), 100'000u);
        }
    })));
}

// As on a terminal that Ctrl-S has stopped.
TEST_F(LearnedLimit, who_waits_for_a_reader_of_its_output_has_the_whole_limit) {
    expect_success(two_ranks(phases_then({{"the start", 0}, {"update", 20}}, [] {
        int ends[2];
        ASSERT_EQ(::pipe(ends), 0);
        ::dup2(ends[1], STDERR_FILENO);
        std::thread reader([&] {
            std::this_thread::sleep_for(1200ms);
            char text[4096];
            for (size_t left = 100'001; left > 0;) left -= size_t(::read(ends[0], text, sizeof text));
        });
        write_error_line(std::string(100'000, 'x'));  // more than a pipe holds
        reader.join();
    })));
}

TEST_F(LearnedLimit, ranks_that_all_wait_hang_too_though_one_saves_in_the_background) {
    start(two_ranks([](ControlCommunicator& c) {
        for (int step = 0; step < 2; step++) c.watch().set_phase("forward", step), c.barrier();
        const Watch::Waiting waits(c.watch());
        std::thread saves([&] {
            for (;; std::this_thread::sleep_for(10ms)) c.watch().progress();
        });
        for_ever();
    }));
    for (size_t i = 0; i < 2; i++) {
        const EndedRank ended = wait(i, 5s);
        EXPECT_EQ(ended.code, 1);
        EXPECT_NE(
            ended.err.find("all ranks hang in forward at step 1: each has waited for the others for 0.5 s (before"),
            std::string::npos)
            << ended.err;
    }
}

// The other waits in a call of a communicator that knows no watch, as MPI's do.
TEST_F(Watched, a_rank_that_waits_in_another_communicator_is_not_the_one_that_hangs) {
    struct Other final : Communicator {
        int rank() const override { return 0; }
        int size() const override { return 2; }
        void all_reduce(float*, size_t) override { for_ever(); }
        void all_reduce(double*, size_t) override { for_ever(); }
        void reduce_scatter(const float*, float*, size_t) override { for_ever(); }
        void all_gather(const float*, float*, size_t) override { for_ever(); }
        void broadcast(void*, size_t, int) override { for_ever(); }
        void barrier() override { for_ever(); }
    };
    auto all = ranks(2, [](ControlCommunicator& c) {
        c.watch().set_phase("reading data", 5);
        if (c.rank() == 1) for_ever();
        WatchedCommunicator(std::make_unique<Other>(), c.watch()).barrier();
    });
    for (Rank& rank : all) rank.options.rank_timeout = 400ms;
    start(all);
    expect_failure(0, name_of(1) + " hangs in reading data at step 5: no progress for 0.4 s");
}

TEST_F(Watched, a_rank_that_makes_progress_may_be_waited_for) {
    auto all = ranks(2, [](ControlCommunicator& c) {
        for (int i = 0; c.rank() == 1 && i < 8; i++) {
            ::usleep(100'000);
            c.watch().set_phase("save", i);
        }
        c.barrier();
    });
    for (Rank& rank : all) rank.options.rank_timeout = 400ms;
    expect_success(all);
}

TEST_F(Watched, a_rank_that_ended_in_order_is_not_waited_for) {
    start(ranks(2, [](ControlCommunicator& c) {
        c.barrier();
        if (c.rank() == 0) c.barrier();
    }));
    const std::string name = name_of(1);
    EXPECT_EQ(wait(1).code, 0);
    expect_failure(0, name + " has ended, while this rank still needs it");
}

}  // namespace
}  // namespace kiln
