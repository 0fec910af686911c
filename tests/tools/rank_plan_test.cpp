// What ranks decide together before a training begins.
#include "tools/train/rank_plan.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/markov_data.h"
#include "tests/support/temp_directory.h"

namespace kiln {
namespace {

// Calls act(communicator, rank) on all ranks.
template <class Act>
void on_ranks(int size, Act act) {
    auto ranks = make_thread_communicators(size);
    std::vector<std::thread> threads;
    for (int r = 0; r < size; r++) threads.emplace_back([&, r] { act(*ranks[size_t(r)], r); });
    for (std::thread& thread : threads) thread.join();
}

TEST(RankPlan, all_ranks_plan_for_the_weakest_device) {
    const Device devices[] = {
        {.name = "a", .bfloat16 = true, .tf32 = true, .fuses_gelu = true, .free_bytes = 70},
        {.name = "b", .bfloat16 = false, .tf32 = true, .fuses_gelu = true, .free_bytes = 80},
        {.name = "c", .bfloat16 = true, .tf32 = true, .fuses_gelu = false, .free_bytes = 60},
    };
    on_ranks(3, [&](Communicator& ranks, int r) {
        const Device weakest = weakest_device(devices[r], ranks);
        EXPECT_EQ(weakest.name, devices[r].name);
        EXPECT_FALSE(weakest.bfloat16);
        EXPECT_TRUE(weakest.tf32);
        EXPECT_FALSE(weakest.fuses_gelu);
        EXPECT_EQ(weakest.free_bytes, 60u);
    });
}

TEST(RankPlan, ranks_divide_the_verification_of_files_that_they_share) {
    const TempDirectory directory;
    for (const char* copy : {"one", "two"}) write_markov_shards(directory / copy, 100, 50);
    const char* const read[] = {"one", "two", "one", "one"};  // rank 1 has files of its own
    const int expected[][2] = {{0, 3}, {0, 1}, {1, 3}, {2, 3}};
    on_ranks(4, [&](Communicator& ranks, int r) {
        TrainPlan plan;
        plan.data.train = {directory / read[r] / "train_000.bin"};
        plan.data.val = {directory / read[r] / "val_000.bin"};
        divide_verification(plan, ranks);
        EXPECT_EQ(plan.verify_part, expected[r][0]) << r;
        EXPECT_EQ(plan.verify_parts, expected[r][1]) << r;
    });
}

}  // namespace
}  // namespace kiln
