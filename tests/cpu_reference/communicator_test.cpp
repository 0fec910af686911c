#include "cpu_reference/interface/communicator.h"

#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "cpu_reference/interface/error.h"

using namespace kiln;

namespace {

// Runs `work` on one thread a rank.
void on_ranks(int size, const std::function<void(Communicator&)>& work) {
    auto ranks = make_thread_communicators(size);
    std::vector<std::thread> threads;
    for (auto& rank : ranks) threads.emplace_back([&work, &rank] { work(*rank); });
    for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST(SingleCommunicator, leaves_and_copies) {
    const auto one = make_single_communicator();
    EXPECT_EQ(one->size(), 1);
    std::vector<float> x = {1, 2, 3}, y(3);
    one->all_reduce(x.data(), 3);
    EXPECT_EQ(x, (std::vector<float>{1, 2, 3}));
    one->reduce_scatter(x.data(), y.data(), 3);
    EXPECT_EQ(x, y);
    EXPECT_THROW(one->broadcast(x.data(), 4, 1), Error);
}

TEST(ThreadCommunicator, all_reduce_sums_in_rank_order_everywhere) {
    for (const int size : {1, 2, 3, 5}) {
        for (const size_t n : {size_t(0), size_t(1), size_t(7), size_t(10001)}) {
            std::vector<std::vector<float>> results(size);
            on_ranks(size, [&](Communicator& c) {
                std::vector<float> x(n);
                for (size_t i = 0; i < n; i++) x[i] = float(i) * 1.1f + float(c.rank()) * 1e4f + 0.3f;
                c.all_reduce(x.data(), n);
                double y = c.rank() + 1;
                c.all_reduce(&y, 1);
                EXPECT_EQ(y, size * (size + 1) / 2);
                results[c.rank()] = x;
            });
            for (size_t i = 0; i < n; i++) {
                float sum = float(i) * 1.1f + 0.3f;  // rank 0 + rank 1 + ...: the order that is promised
                for (int r = 1; r < size; r++) sum += float(i) * 1.1f + float(r) * 1e4f + 0.3f;
                ASSERT_FLOAT_EQ(results[0][i], sum);
            }
            for (const auto& result : results) EXPECT_EQ(result, results[0]);
        }
    }
}

TEST(ThreadCommunicator, scatter_gather_broadcast) {
    const int size = 3;
    const size_t n = 5;
    on_ranks(size, [&](Communicator& c) {
        std::vector<float> in(size * n), out(n), all(size * n);
        for (size_t i = 0; i < in.size(); i++) in[i] = float(i) + 100.0f * float(c.rank());
        c.reduce_scatter(in.data(), out.data(), n);
        for (size_t i = 0; i < n; i++) EXPECT_EQ(out[i], 3 * float(c.rank() * n + i) + 300);
        c.all_gather(out.data(), all.data(), n);
        for (size_t i = 0; i < size * n; i++) EXPECT_EQ(all[i], 3 * float(i) + 300);
        // In place, as a sharded optimizer does.
        c.reduce_scatter(in.data(), in.data() + c.rank() * n, n);
        c.all_gather(in.data() + c.rank() * n, in.data(), n);
        EXPECT_EQ(in, all);
        int64_t value = c.rank() == 2 ? 42 : 0;
        c.broadcast(&value, sizeof value, 2);
        EXPECT_EQ(value, 42);
        c.barrier();
    });
}

TEST(ThreadCommunicator, unequal_sizes_are_an_error_on_every_rank) {
    on_ranks(2, [](Communicator& c) {
        std::vector<float> x(2);
        EXPECT_THROW(c.all_reduce(x.data(), size_t(1 + c.rank())), Error);
    });
}
