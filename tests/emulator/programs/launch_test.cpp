// --gpus with the GPU program, on the emulator.
#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/emulated_programs.h"
#include "tools/launch/socket.h"

namespace kiln {
namespace {

class GpuLaunch : public TrainProgram {
protected:
    GpuLaunch() { setenv("SIMT_GPUS", "2", 1); }
    ~GpuLaunch() override { unsetenv("SIMT_GPUS"); }
    Args base() const {
        return {"-i", data(), "-e", "llama:layers=1,dim=64,heads=1,ctx=16", "-b", "1", "-m", "2", "-o", ""};
    }
};

TEST_F(GpuLaunch, two_ranks_compute_the_loss_of_one) {
    const Finished one = train_cu(base() + Args{"--eval-only", "-b", "2"});
    const Finished two = train_cu(base() + Args{"--eval-only", "--gpus", "all"});
    ASSERT_EQ(one.code, 0) << one.err;
    ASSERT_EQ(two.code, 0) << two.err;
    EXPECT_NEAR(number_after(one.out, "loss "), number_after(two.out, "loss "), 1e-5);
    EXPECT_NE(two.err.find("on 2 x "), std::string::npos) << two.err;
    EXPECT_EQ(two.out.find("[rank 1]"), std::string::npos) << two.out;
}

TEST_F(GpuLaunch, more_ranks_than_gpus_are_refused) {
    const Finished result = train_cu(base() + Args{"--gpus", "3", "-x", "1"});
    EXPECT_EQ(result.code, 2);
    EXPECT_NE(result.err.find("--gpus 3: this machine has 2 GPUs that can be used"), std::string::npos) << result.err;
}

// Under another launcher the ranks do not know how many GPUs there are. The others are told by the one without.
TEST_F(GpuLaunch, a_rank_without_a_gpu_ends_all) {
    const int port = port_of(listen_at(0, true));
    const auto start = [&](int r, const char* gpus) {
        const Args args = Args{concat("RANK=", r),
                               concat("LOCAL_RANK=", r),
                               "WORLD_SIZE=2",
                               "LOCAL_WORLD_SIZE=2",
                               "MASTER_ADDR=127.0.0.1",
                               concat("MASTER_PORT=", port),
                               concat("CUDA_VISIBLE_DEVICES=", gpus),
                               program_path("train_gpt2cu").string()} +
                          base() + Args{"-x", "1"};
        return std::make_unique<Running>("/usr/bin/env", args, "/dev/null", directory_ / concat("out", r),
                                         directory_ / concat("err", r));
    };
    const auto second = start(1, "0"), first = start(0, "0");
    for (Running* rank : {first.get(), second.get()}) {
        const int status = rank->wait(std::chrono::seconds(30));
        EXPECT_TRUE(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) != 0);
    }
    EXPECT_NE(read_file(directory_ / "err0").find("rank 1 ("), std::string::npos) << read_file(directory_ / "err0");
}

// The types of --dtype auto are those that all GPUs have.
TEST_F(GpuLaunch, ranks_on_different_gpus_compute_in_the_same_type) {
    const Args all = base() + Args{"-x", "2", "-v", "0", "-d", "32"};
    const int port = port_of(listen_at(0, true));
    const auto start = [&](int r, const char* arch) {
        const Args args = Args{concat("RANK=", r),
                               concat("LOCAL_RANK=", r),
                               "WORLD_SIZE=2",
                               "LOCAL_WORLD_SIZE=2",
                               "MASTER_ADDR=127.0.0.1",
                               concat("MASTER_PORT=", port),
                               concat("SIMT_ARCH=", arch),
                               program_path("train_gpt2cu").string()} +
                          all;
        return std::make_unique<Running>("/usr/bin/env", args, "/dev/null", directory_ / concat("out", r),
                                         directory_ / concat("err", r));
    };
    const auto second = start(1, "75"), first = start(0, "90");
    for (Running* rank : {first.get(), second.get()}) {
        const int status = rank->wait(std::chrono::seconds(60));
        EXPECT_TRUE(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0) << read_file(directory_ / "err1");
    }
    EXPECT_NE(read_file(directory_ / "err0").find(" in float32, "), std::string::npos)
        << read_file(directory_ / "err0");
}

TEST_F(GpuLaunch, choices_that_change_nothing_are_said) {
    const Finished one = train_cu(
        base() + Args{"-z", "1", "--reduce-dtype", "same", "--dtype", "float32", "-x", "1", "-d", "16", "-v", "0"});
    EXPECT_EQ(one.code, 0) << one.err;
    EXPECT_NE(one.err.find("--zero-stage (-z) 1: there is one process"), std::string::npos) << one.err;
    EXPECT_NE(one.err.find("--reduce-dtype same: "), std::string::npos) << one.err;
    const Finished four = train_cu(base() + Args{"-z", "4", "-x", "1"});
    EXPECT_EQ(four.code, 2);
    EXPECT_NE(four.err.find("--zero-stage (-z): 4 is out of range"), std::string::npos) << four.err;
}

TEST_F(GpuLaunch, what_all_ranks_would_find_wrong_is_said_once) {
    const Finished result = train_cu(base() + Args{"--gpus", "2", "--batch-size", "none"});
    EXPECT_EQ(result.code, 2);
    EXPECT_EQ(result.err.find("[rank 1]"), std::string::npos) << result.err;
}

TEST_F(GpuLaunch, a_plan_for_two_ranks_starts_none) {
    const Finished result = train_cu(base() + Args{"--gpus", "2", "--dry-run", "-d", "64"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.err.find("rank"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace kiln
