// Ranks that mpirun starts: the tests start this program again as these ranks.
#include <gtest/gtest.h>

#include <cstdlib>

#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/error.h"
#include "tests/support/process.h"

namespace kiln {
namespace {

// As one of the ranks; otherwise nobody is there to communicate with.
TEST(DISABLED_MpiRank, every_call) {
    const auto ranks = make_mpi_communicator();
    Communicator& c = *ranks;
    const int size = c.size();
    ASSERT_EQ(size, std::atoi(std::getenv("KILN_TEST_RANKS")));
    for (const size_t n : {size_t(0), size_t(1), size_t(7), size_t(100'003)}) {
        // Sums of these are exact in any order.
        std::vector<float> x(n);
        for (size_t i = 0; i < n; i++) x[i] = float(i + 1000 * c.rank());
        c.all_reduce(x.data(), n);
        for (size_t i = 0; i < n; i++) ASSERT_EQ(x[i], float(size * i + 500 * size * (size - 1)));
        // These are not, but have the same bits on every rank.
        for (size_t i = 0; i < n; i++) x[i] = 1.1f * float(i) + 0.3f * float(c.rank());
        c.all_reduce(x.data(), n);
        std::vector<float> first = x;
        c.broadcast(first.data(), n * sizeof(float), 0);
        ASSERT_EQ(x, first);

        std::vector<float> in(size * n), out(n), all(size * n);
        for (size_t i = 0; i < in.size(); i++) in[i] = float(i) + 100 * float(c.rank());
        c.reduce_scatter(in.data(), out.data(), n);
        for (size_t i = 0; i < n; i++) ASSERT_EQ(out[i], float(size * (c.rank() * n + i) + 50 * size * (size - 1)));
        c.all_gather(out.data(), all.data(), n);
        for (size_t i = 0; i < size * n; i++) ASSERT_EQ(all[i], float(size * i + 50 * size * (size - 1)));
        // In place, as a sharded optimizer does.
        c.reduce_scatter(in.data(), in.data() + c.rank() * n, n);
        c.all_gather(in.data() + c.rank() * n, in.data(), n);
        ASSERT_EQ(in, all);
    }
    double y = c.rank() + 0.5;
    c.all_reduce(&y, 1);
    ASSERT_EQ(y, size * size / 2.0);
    int64_t value = c.rank() == size - 1 ? 42 : 0;
    c.broadcast(&value, sizeof value, size - 1);
    ASSERT_EQ(value, 42);
    ASSERT_THROW(c.broadcast(&value, sizeof value, size), Error);
    c.barrier();
}

// The others wait for this rank.
TEST(DISABLED_MpiRank, one_fails) {
    const auto ranks = make_mpi_communicator();
    if (ranks->rank() == 1) throw Error("rank 1 has a reason");
    ranks->barrier();
}

Finished on_ranks(int size, const std::string& test) {
    // A container has one user, few cores and no tool that starts processes on other machines.
    const std::vector<std::string> setting{"OMPI_ALLOW_RUN_AS_ROOT=1",
                                           "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                                           "OMPI_MCA_plm=isolated",
                                           "OMPI_MCA_rmaps_base_oversubscribe=1",
                                           "OMPI_MCA_btl_vader_single_copy_mechanism=none",
                                           "KILN_TEST_RANKS=" + std::to_string(size)};
    std::vector<std::string> args = setting;
    for (const std::string& arg :
         {std::string("mpirun"), std::string("-np"), std::to_string(size),
          std::filesystem::read_symlink("/proc/self/exe").string(), "--gtest_filter=DISABLED_MpiRank." + test,
          std::string("--gtest_also_run_disabled_tests")}) {
        args.push_back(arg);
    }
    return run_program("/usr/bin/env", args);
}

TEST(Mpi, ranks_compute_what_threads_do) {
    for (const int size : {1, 2, 3, 4}) {
        const Finished ended = on_ranks(size, "every_call");
        EXPECT_EQ(ended.code, 0) << size << " ranks: " << ended.out << ended.err;
    }
}

TEST(Mpi, a_rank_that_fails_ends_all) {
    const Finished ended = on_ranks(3, "one_fails");
    EXPECT_NE(ended.code, 0);
    EXPECT_NE((ended.out + ended.err).find("rank 1 has a reason"), std::string::npos) << ended.out << ended.err;
}

}  // namespace
}  // namespace kiln
