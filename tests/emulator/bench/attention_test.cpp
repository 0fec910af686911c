// `make bench-attention` on the emulator: what it prints with a peer, without a peer, and with a peer that fails.
#include <gtest/gtest.h>

#include "tests/support/process.h"

namespace kiln::testing {
namespace {

Finished bench(const std::string& peer, const char* rounds = "1", const std::string& more = "--small") {
    return run_program(build_path() / "dev/bench/bench_attention", {more, "--rounds", rounds, "--peer", peer});
}

// A peer whose three rounds take 1, 3 and 5 ms forward.
constexpr const char* kPeer =
    "echo A peer; n=-1; while read shape; do n=$(((n + 2) % 6)); "
    "echo FLASH_ATTENTION $n 2 CUDNN_ATTENTION - - EFFICIENT_ATTENTION 4* 4; done";

size_t count(const std::string& text, const std::string& part) {
    size_t times = 0;
    for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++times;
    return times;
}

}  // namespace

TEST(BenchAttention, compares_the_peer_at_each_shape_and_pass) {
    const Finished run = bench(kPeer, "3");
    ASSERT_EQ(run.code, 0) << run.err;
    for (const char* text :
         {"Compared with: A peer.", "| 64 | 40 | 2 | 2/1 | forward |", "| 128 | 33 | 1 | 1/1 | backward |", "| 290 |",
          "| 230 |", "| 64 | 70 | 2 | 2/1 |", "| of the copy |"}) {
        EXPECT_NE(run.out.find(text), std::string::npos) << text << "\n" << run.out;
    }
    EXPECT_EQ(count(run.out, " unsupported |"), 4u) << run.out;  // cuDNN at two shapes, both passes
    EXPECT_EQ(count(run.out, "+- 133.3 %"), 2u) << run.out;      // 1 to 5 ms, median 3 ms
    EXPECT_EQ(count(run.out, "* +- 0.0 %"), 2u) << run.out;      // the mark of the forward pass
    EXPECT_EQ(count(run.out, "0.0 +- 0.0 %"), 4u) << run.out;    // the backward passes
    EXPECT_EQ(count(run.out, "| forward |") + count(run.out, "| backward |"), 4u) << run.out;
}

TEST(BenchAttention, measures_only_so_many_shapes) {
    const Finished run = run_program(build_path() / "dev/bench/bench_attention",
                                     {"--small", "--rounds", "1", "--peer", "-", "--shapes", "1"});
    ASSERT_EQ(run.code, 0) << run.err;
    EXPECT_EQ(count(run.out, "| forward |"), 1u) << run.out;
    EXPECT_EQ(count(run.out, "| 64 | 70 | 2 | 2/1 |"), 1u) << run.out;
}

TEST(BenchAttention, runs_without_a_peer_and_prints_why) {
    for (const auto& [peer, why] : {std::pair{"echo 'n/a: no PyTorch'", "Compared with: n/a: no PyTorch."},
                                    std::pair{"true", "Compared with: n/a: 'true' ended without a line."}}) {
        const Finished run = bench(peer);
        ASSERT_EQ(run.code, 0) << run.err;
        EXPECT_EQ(count(run.out, " n/a |"), 12u) << run.out;
        EXPECT_NE(run.out.find(why), std::string::npos) << run.out;
    }
}

TEST(BenchAttention, fails_when_the_peer_fails) {
    const Finished ended = bench("echo A peer; read shape; echo out of memory >&2");
    EXPECT_EQ(ended.code, 1);
    EXPECT_NE(ended.err.find("ended at B 2, T 40"), std::string::npos) << ended.err;
    const Finished nonsense = bench("echo A peer; while read shape; do echo FLASH_ATTENTION 1; done");
    EXPECT_EQ(nonsense.code, 1);
    EXPECT_NE(nonsense.err.find("answered 'FLASH_ATTENTION 1'"), std::string::npos) << nonsense.err;
    const Finished wrong = bench("-", "1", "--nonsense");
    EXPECT_EQ(wrong.code, 2);
    EXPECT_NE(wrong.err.find("--nonsense"), std::string::npos) << wrong.err;
}

}  // namespace kiln::testing
