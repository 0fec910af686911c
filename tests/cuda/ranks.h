#pragma once
// Ranks with a GPU each, for tests: processes with NCCL, or with its stand-in on the emulator.
#include <cstdlib>

#include "cuda/device/cuda_check.h"
#include "tests/cuda/schedules.h"
#include "tests/support/forked_ranks.h"

namespace kiln::test {

// Chooses the device of a rank. If there are too few, ranks share one, which NCCL refuses unless they seem to be on
// different machines.
inline void choose_device(int rank, int size) {
    int devices = 0;
    CUDA_CHECK(cudaGetDeviceCount(&devices));
    CUDA_CHECK(cudaSetDevice(rank % devices));
    if (devices < size) setenv("NCCL_HOSTID", std::to_string(rank).c_str(), 1);
}

// Runs `body` on `size` ranks, which must all succeed. Skipped on a GPU without NCCL.
inline void expect_ranks(int size, const std::function<void(Communicator&)>& body) {
    const auto ends = run_ranks(size, [&](Communicator& ranks) {
        choose_device(ranks.rank(), size);
        body(ranks);
    });
    for (int rank = 0; rank < size; rank++) {
        const RankEnd& end = ends[size_t(rank)];
        if (!is_emulated() && end.error.find("Several GPUs need NCCL") != end.error.npos) {
            GTEST_SKIP() << "skipped: no NCCL: " << end.error;
        }
        if (!is_emulated() && end.error.find("Duplicate GPU") != end.error.npos) {
            GTEST_SKIP() << "skipped: this NCCL does not allow " << size << " ranks on one GPU";
        }
        EXPECT_EQ(end.code, 0) << "rank " << rank << " of " << size << ", signal " << end.signal << ": " << end.error;
    }
}

}  // namespace kiln::test
