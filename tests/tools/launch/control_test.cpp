// Ranks in several processes: what they compute together, and how they end together.
#include "tools/launch/control.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>

#include "cpu_reference/interface/error.h"
#include "tests/support/process.h"
#include "tokenizer/io/file.h"
#include "tools/cli/standard_streams.h"

namespace kiln {
namespace {

using namespace std::chrono_literals;

struct Ended {
    int code = -1, signal = 0;
    std::string err;
};

// Times that make tests short.
ControlOptions quick() {
    return {.launch_timeout = 10s, .rank_timeout = 0ms, .silence = 5s, .beat = 30ms, .answer = 300ms, .build = "test"};
}

class Control : public testing::Test {
protected:
    using Body = std::function<void(ControlCommunicator&)>;
    struct Rank {
        World world;
        ControlOptions options = quick();
        Body body = [](ControlCommunicator&) {};
    };

    Control() : listening_(listen_at(0, true)) {}
    ~Control() override {
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
    Ended wait(size_t i, std::chrono::milliseconds limit = 9s) {
        const Deadline end = SocketClock::now() + limit;
        int status = 0;
        while (::waitpid(pids_[i], &status, WNOHANG) != pids_[i]) {
            if (SocketClock::now() > end) return {};
            std::this_thread::sleep_for(5ms);
        }
        pids_[i] = -1;
        return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                read_file(error_file(i))};
    }
    void expect_success(const std::vector<Rank>& ranks) {
        start(ranks);
        for (size_t i = 0; i < ranks.size(); i++) {
            const Ended ended = wait(i);
            EXPECT_EQ(ended.code, 0) << "rank " << i << ": " << ended.err;
            EXPECT_EQ(ended.err, "");
        }
    }
    void expect_failure(size_t i, const std::string& text) {
        const Ended ended = wait(i);
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

[[noreturn]] void for_ever() {
    for (;;) ::pause();
}

void check_same(const std::string& what, const void* a, const void* b, size_t bytes) {
    KILN_CHECK(std::memcmp(a, b, bytes) == 0, what, ": not the same bits");
}

// What rank r gives: sums of them depend on their order.
template <class T>
std::vector<T> values(int rank, size_t n) {
    std::vector<T> all(n);
    const T scale[] = {T(1), T(1e3), T(1e6)};
    for (size_t i = 0; i < n; i++) all[i] = scale[rank % 3] / T(i * 7 % 1013 + size_t(rank) + 1);
    return all;
}
template <class T>
std::vector<T> sums(int size, size_t n) {
    std::vector<T> all = values<T>(0, n);
    for (int r = 1; r < size; r++) {
        const std::vector<T> more = values<T>(r, n);
        for (size_t i = 0; i < n; i++) all[i] += more[i];
    }
    return all;
}

void all_calls(ControlCommunicator& c) {
    const int size = c.size(), rank = c.rank();
    for (const size_t n : {size_t(0), size_t(1), size_t(7), size_t(16384), size_t(40001)}) {
        std::vector<float> f = values<float>(rank, n);
        c.all_reduce(f.data(), n);
        check_same("all_reduce", f.data(), sums<float>(size, n).data(), n * sizeof(float));
        std::vector<double> d = values<double>(rank, n);
        c.all_reduce(d.data(), n);
        check_same("all_reduce of doubles", d.data(), sums<double>(size, n).data(), n * sizeof(double));

        // In place and not.
        const size_t all_n = n * size_t(size);
        std::vector<float> in = values<float>(rank, all_n), out(n);
        const std::vector<float> summed = sums<float>(size, all_n);
        c.reduce_scatter(in.data(), out.data(), n);
        check_same("reduce_scatter", out.data(), summed.data() + rank * n, n * sizeof(float));
        c.reduce_scatter(in.data(), in.data() + rank * n, n);
        check_same("reduce_scatter in place", in.data() + rank * n, summed.data() + rank * n, n * sizeof(float));

        std::vector<float> gathered(all_n), own = values<float>(rank, n);
        c.all_gather(own.data(), gathered.data(), n);
        for (int r = 0; r < size; r++) {
            check_same("all_gather", gathered.data() + r * n, values<float>(r, n).data(), n * sizeof(float));
        }
        std::vector<float> place(all_n);
        std::copy(own.begin(), own.end(), place.begin() + std::ptrdiff_t(rank * n));
        c.all_gather(place.data() + rank * n, place.data(), n);
        check_same("all_gather in place", place.data(), gathered.data(), all_n * sizeof(float));

        for (int root = 0; root < size; root++) {
            std::vector<float> sent = values<float>(rank, n);
            c.broadcast(sent.data(), n * sizeof(float), root);
            check_same("broadcast", sent.data(), values<float>(root, n).data(), n * sizeof(float));
        }
        c.barrier();
    }
    c.agree({{"--learning-rate", "0.1"}, {"data", "ff"}});
}

TEST_F(Control, two_ranks_get_the_same_bits_of_every_call) {
    expect_success(ranks(2, all_calls));
}

TEST_F(Control, four_ranks_get_the_same_bits_of_every_call) {
    expect_success(ranks(4, all_calls));
}

TEST_F(Control, ranks_that_come_late_are_waited_for) {
    auto all = ranks(3, [](ControlCommunicator& c) { c.barrier(); });
    const Rank first = all[0];
    all.erase(all.begin());
    start(all);
    std::this_thread::sleep_for(250ms);
    start({first});
    for (size_t i = 0; i < 3; i++) EXPECT_EQ(wait(i).code, 0);
}

TEST_F(Control, calls_that_differ_are_named) {
    auto all = ranks(3, [](ControlCommunicator& c) { c.barrier(); });
    all[2].body = [](ControlCommunicator& c) {
        double x[3] = {};
        c.all_reduce(x, 3);
    };
    start(all);
    expect_failure(0, " called all_reduce of 3 elements of 8 bytes, rank 0 barrier as call 0");
    expect_failure(1, "called all_reduce of 3 elements of 8 bytes, rank 0 barrier");
}

// ---- the start

TEST_F(Control, what_ranks_must_agree_on_is_compared) {
    auto all = ranks(3);
    for (Rank& rank : all) {
        rank.body = [](ControlCommunicator& c) {
            c.agree({{"--batch-size", "4"}, {"--learning-rate", c.rank() == 1 ? "0.1" : "0.2"}});
        };
    }
    start(all);
    const std::string text = name_of(1) + " has --learning-rate 0.1, rank 0 0.2: start all ranks alike";
    for (size_t i = 0; i < 3; i++) {
        const Ended ended = wait(i);
        EXPECT_EQ(ended.code, 1);
        EXPECT_TRUE(ended.err.find(text) != std::string::npos || ended.err.find(" failed ") != std::string::npos)
            << ended.err;
        if (i == 0) {
            EXPECT_NE(ended.err.find(text), std::string::npos) << ended.err;
        }
    }
}

TEST_F(Control, another_build_is_refused_on_every_rank) {
    auto all = ranks(3);
    all[2].options.build = "1.0 abc";
    start(all);
    const std::string text = name_of(2) + " runs another build of Kiln (1.0 abc) than rank 0";
    expect_failure(0, text);
    expect_failure(2, text);
    EXPECT_EQ(wait(1).code, 1);
}

TEST_F(Control, another_number_of_ranks_is_refused) {
    auto all = ranks(2);
    all[1].world.size = 3;
    start(all);
    for (size_t i = 0; i < 2; i++) expect_failure(i, name_of(1) + " was started as one of 3 ranks, rank 0");
}

TEST_F(Control, a_rank_that_is_there_twice_is_named) {
    auto all = ranks(3);
    all[2].world.rank = 1;
    start(all);
    expect_failure(0, "two processes are rank 1: pid ");
    for (size_t i = 1; i < 3; i++) EXPECT_EQ(wait(i).code, 1);
}

TEST_F(Control, ranks_that_do_not_come_are_named_to_those_that_came) {
    auto all = ranks(4);
    for (Rank& rank : all) rank.options.launch_timeout = 400ms;
    all.pop_back();
    all.erase(all.begin() + 1);
    start(all);
    for (size_t i = 0; i < 2; i++) expect_failure(i, "ranks 1, 3 of 4 have not come to rank 0");
}

TEST_F(Control, a_rank_that_ends_while_others_start_is_named) {
    auto all = ranks(3);
    all.pop_back();
    all[1].options.launch_timeout = 100ms;  // it gives up waiting for rank 2
    start(all);
    ::usleep(300'000);
    ::kill(pids_[1], SIGKILL);
    expect_failure(0, name_of(1) + " ended while the other ranks were starting");
}

TEST_F(Control, connections_of_others_do_not_disturb_the_start) {
    const int port = port_of(listening_);
    const auto connect = [&] { return connect_to("127.0.0.1", port, SocketClock::now() + 1s); };
    const auto send = [&](const Socket& to, const std::string& text) {
        send_all(to, text.data(), text.size(), SocketClock::now() + 1s);
    };
    std::vector<Socket> strays;
    for (const std::string& text :
         {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(100000, 'x'), message("{}"), message("not JSON"),
          message(std::string(4000, '[')), std::string(kMagic) + "\xff\xff\xff\xff", std::string("KILN"), std::string(),
          message(R"({"type":"hello","rank":99999})"),
          message(R"({"type":"hello","rank":1,"size":2,"run":"an earlier run","purpose":"calls"})")}) {
        strays.push_back(connect());
        send(strays.back(), text);  // and the connection stays open
    }
    expect_success(ranks(2, all_calls));
}

TEST_F(Control, a_port_in_use_is_named) {
    auto all = ranks(2);
    all[0].world.listen_fd = -1;
    all.pop_back();
    start([&] { ControlCommunicator c(all[0].world, all[0].options); });
    expect_failure(0,
                   concat("cannot listen at port ", port_of(listening_), ": Address already in use; another program"));
}

TEST_F(Control, a_master_that_cannot_be_reached_is_named) {
    auto all = ranks(2);
    listening_ = Socket();
    all[1].options.launch_timeout = 250ms;
    start({all[1]});
    expect_failure(
        0, concat("cannot reach rank 0 at 127.0.0.1:", all[1].world.master_port, " within 0.25 s: Connection refused"));
    all[1].world.master_addr = "no-such-host.invalid";
    start({all[1]});
    expect_failure(1, "cannot reach rank 0 at no-such-host.invalid:");
}

// ---- the shared file

TEST_F(Control, a_shared_file_is_enough_to_find_rank_0) {
    auto all = ranks(3, all_calls);
    for (Rank& rank : all) {
        rank.world.shared_directory = directory_.path();
        rank.world.master_addr = "";
        rank.world.master_port = 0;
        rank.world.listen_fd = -1;
    }
    expect_success(all);
    EXPECT_FALSE(std::filesystem::exists(shared_file(all[0].world)));
}

TEST_F(Control, a_shared_file_of_an_earlier_run_is_not_believed) {
    auto all = ranks(2, [](ControlCommunicator& c) { c.barrier(); });
    for (Rank& rank : all) {
        rank.world.shared_directory = directory_.path();
        rank.world.listen_fd = -1;
    }
    const std::filesystem::path file = shared_file(all[0].world);
    // Nobody listens there; somebody who never answers; a rank 0 with another secret; no address at all.
    const Socket silent = listen_at(0, true);
    const int closed = port_of(listen_at(0, true));
    for (const std::string& left : {concat(R"({"hosts":["127.0.0.1"],"port":)", closed, R"(,"nonce":"x"})"),
                                    concat(R"({"hosts":["127.0.0.1"],"port":)", port_of(silent), R"(,"nonce":"x"})"),
                                    std::string("{"), std::string(R"({"hosts":[],"port":1})")}) {
        directory_.write(file.filename().string(), left);
        pids_.clear();
        start({all[1]});
        std::this_thread::sleep_for(150ms);
        start({all[0]});
        for (size_t i = 0; i < 2; i++) {
            const Ended ended = wait(i);
            EXPECT_EQ(ended.code, 0) << left << "\n" << ended.err;
        }
    }
}

// ---- the watch

TEST_F(Control, a_killed_rank_ends_all_others) {
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

TEST_F(Control, a_rank_that_fails_ends_all_others_with_its_message) {
    start(ranks(3, [](ControlCommunicator& c) {
        c.watch().set_phase("save", 12);
        if (c.rank() == 1) {
            c.watch().end_others(1, concat("failed ", c.watch().place(), ": no space left"));
            throw Error("no space left");
        }
        c.barrier();
    }));
    const std::string name = name_of(1);
    for (const size_t i : {0, 2}) expect_failure(i, name + " failed in save at step 12: no space left");
    expect_failure(1, "no space left");
}

TEST_F(Control, an_exception_is_a_failure_without_being_told) {
    start(ranks(2, [](ControlCommunicator& c) {
        if (c.rank() == 1) throw Error("a bad file");
        c.barrier();
    }));
    const std::string name = name_of(1);
    expect_failure(0, name + " failed ");
    expect_failure(1, "a bad file");
}

TEST_F(Control, a_stop_before_the_first_step_ends_all_with_its_exit_code) {
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

TEST_F(Control, a_stopped_rank_hangs) {
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
            if (i != stopped) expect_failure(i, name + " hangs in update at step 3: nothing was heard of it for 0.5 s");
        }
        ::kill(pids_[stopped], SIGKILL);
        EXPECT_EQ(wait(stopped).signal, SIGKILL);
    }
}

TEST_F(Control, ranks_that_were_all_stopped_for_a_while_continue) {
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
        const Ended ended = wait(i);
        EXPECT_EQ(ended.code, 0) << ended.err;
    }
}

TEST_F(Control, a_rank_without_progress_for_which_others_wait_is_named) {
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

TEST_F(Control, a_rank_that_makes_progress_may_be_waited_for) {
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

TEST_F(Control, a_rank_that_ended_in_order_is_not_waited_for) {
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
