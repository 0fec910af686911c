// What ranks in several processes compute together.
#include <gtest/gtest.h>

#include <cstring>

#include "cpu_reference/interface/error.h"
#include "tests/support/process.h"
#include "tests/support/rank_processes.h"

namespace kiln {
namespace {

using namespace std::chrono_literals;

using Control = RankProcesses;

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

TEST_F(Control, what_ranks_must_agree_on_is_compared) {
    auto all = ranks(3);
    for (Rank& rank : all) {
        rank.body = [](ControlCommunicator& c) {
            c.agree({{"--batch-size", "4"}, {"--learning-rate", c.rank() == 1 ? "0.1" : "0.2"}});
        };
    }
    start(all);
    const std::string text = name_of(1) + " has --learning-rate 0.1, rank 0 0.2: start all ranks alike";
    for (size_t i = 0; i < 3; i++) expect_failure(i, text);
}

}  // namespace
}  // namespace kiln
