// How ranks in several processes find each other, or say why they do not.
#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/process.h"
#include "tests/support/rank_processes.h"

namespace kiln {
namespace {

using namespace std::chrono_literals;

using Handshake = RankProcesses;

void meet(ControlCommunicator& c) {
    c.barrier();
}

TEST_F(Handshake, ranks_that_come_late_are_waited_for) {
    auto all = ranks(3, meet);
    const Rank first = all[0];
    all.erase(all.begin());
    start(all);
    std::this_thread::sleep_for(500ms);  // longer than ControlOptions::answer
    start({first});
    for (size_t i = 0; i < 3; i++) EXPECT_EQ(wait(i).code, 0);
}

TEST_F(Handshake, another_build_is_refused_on_every_rank) {
    auto all = ranks(3);
    all[2].options.build = "1.0 abc";
    start(all);
    const std::string text = name_of(2) + " runs another build of Kiln (1.0 abc) than rank 0";
    expect_failure(0, text);
    expect_failure(2, text);
    EXPECT_EQ(wait(1).code, 1);
}

TEST_F(Handshake, another_number_of_ranks_is_refused) {
    auto all = ranks(2);
    all[1].world.size = 3;
    start(all);
    for (size_t i = 0; i < 2; i++) expect_failure(i, name_of(1) + " was started as one of 3 ranks, rank 0");
}

TEST_F(Handshake, a_rank_that_is_there_twice_is_named) {
    auto all = ranks(3);
    all[2].world.rank = 1;
    start(all);
    expect_failure(0, "two processes are rank 1: pid ");
    for (size_t i = 1; i < 3; i++) EXPECT_EQ(wait(i).code, 1);
}

TEST_F(Handshake, ranks_that_do_not_come_are_named_to_those_that_came) {
    auto all = ranks(4);
    for (Rank& rank : all) rank.options.launch_timeout = 400ms;
    all.pop_back();
    all.erase(all.begin() + 1);
    start(all);
    for (size_t i = 0; i < 2; i++) expect_failure(i, "ranks 1, 3 of 4 have not connected to rank 0");
}

TEST_F(Handshake, a_rank_that_ends_while_others_start_is_named) {
    auto all = ranks(3);
    all.pop_back();
    all[1].options.launch_timeout = 100ms;  // it gives up waiting for rank 2
    start(all);
    ::usleep(300'000);
    ::kill(pids_[1], SIGKILL);
    expect_failure(0, name_of(1) + " ended while the other ranks were starting");
}

TEST_F(Handshake, connections_of_others_do_not_disturb_the_start) {
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
    expect_success(ranks(2, meet));
}

TEST_F(Handshake, a_rank_that_has_given_up_may_come_again) {
    {
        const Socket early = connect_to("127.0.0.1", port_of(listening_), SocketClock::now() + 1s);
        const std::string hello = message(R"({"type":"hello","purpose":"calls","run":"this run","nonce":"",)"
                                          R"("build":"test","size":2,"rank":1,"host":"a","pid":7})");
        send_all(early, hello.data(), hello.size(), SocketClock::now() + 1s);
    }
    expect_success(ranks(2, meet));
}

TEST_F(Handshake, a_port_in_use_is_named) {
    auto all = ranks(2);
    all[0].world.listen_fd = -1;
    all.pop_back();
    start([&] { ControlCommunicator c(all[0].world, all[0].options); });
    expect_failure(0,
                   concat("cannot listen on port ", port_of(listening_), ": Address already in use; another program"));
}

TEST_F(Handshake, a_master_that_cannot_be_reached_is_named) {
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

TEST_F(Handshake, a_shared_file_is_enough_to_find_rank_0) {
    auto all = ranks(3, meet);
    for (Rank& rank : all) {
        rank.world.shared_directory = directory_.path();
        rank.world.master_addr = "";
        rank.world.master_port = 0;
        rank.world.listen_fd = -1;
    }
    expect_success(all);
    EXPECT_FALSE(std::filesystem::exists(shared_file(all[0].world)));
}

TEST_F(Handshake, a_shared_file_of_an_earlier_run_is_not_believed) {
    auto all = ranks(2, meet);
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
            const EndedRank ended = wait(i);
            EXPECT_EQ(ended.code, 0) << left << "\n" << ended.err;
        }
    }
}

}  // namespace
}  // namespace kiln
