// The emulator itself. Each kernel does one thing wrong, and a report or a wrong number must show it.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <mutex>
#include <set>
#include <thread>

#include "cuda/device/launch.h"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/ptx.cuh"
#include "cuda/kernels/reduce.cuh"
#include "dev/emulator/core/internal.h"
#include "tests/cuda/kernel_case.h"
#include "tests/cuda/schedules.h"
#include "tests/emulator/reports.h"

namespace kiln::test {
namespace {

constexpr int kThreads = 64;

std::string at_line(int line) {
    return std::string(__FILE__) + ":" + std::to_string(line);
}

// In how many of `schedules` schedules the kernel's output of `elems` floats equals `expected`.
template <auto Kernel>
int schedules_right(int schedules, LaunchConfig config, size_t elems, const std::function<float(size_t)>& expected) {
    int right = 0;
    for (int seed = 0; seed < schedules; ++seed) {
        simt::set_seed(unsigned(seed));
        const Stream stream;
        const Tensor<float> out(elems);
        config.stream = stream;
        launch<Kernel>(config, out.get());
        stream.synchronize();
        const std::vector<float> actual = out.read();
        bool all = true;
        for (size_t i = 0; i < elems; ++i) all &= actual[i] == expected(i);
        right += all;
    }
    simt::set_seed(0);
    return right;
}

// ---- Barriers and races. With ThreadSanitizer the race itself is reported, and the program fails.

template <auto Kernel>
void expect_race(unsigned threads, size_t elems, const std::function<float(size_t)>& expected) {
    const LaunchConfig config{.grid = 1, .block = threads};
#ifdef SIMT_TSAN
    EXPECT_EXIT(
        {
            schedules_right<Kernel>(1, config, elems, expected);
            std::exit(0);
        },
        testing::ExitedWithCode(66), "data race");
#else
    EXPECT_LT(schedules_right<Kernel>(8, config, elems, expected), 8);
#endif
}

template <bool Barrier>
void reverse_kernel(float* out) {
    KILN_SHARED(float, values, kThreads);
    values[threadIdx.x] = float(threadIdx.x);
    if (Barrier) __syncthreads();
    out[threadIdx.x] = values[kThreads - 1 - threadIdx.x];
}

float reversed(size_t i) {
    return float(kThreads - 1 - i);
}

TEST(Simt, a_barrier_makes_writes_visible_in_every_schedule) {
    EXPECT_EQ(schedules_right<reverse_kernel<true>>(8, {.grid = 1, .block = kThreads}, kThreads, reversed), 8);
}
TEST(Simt, a_missing_barrier_gives_wrong_numbers) {
    expect_race<reverse_kernel<false>>(kThreads, kThreads, reversed);
}

// Each round's value is read by another warp; without the second barrier the next round overwrites it.
template <bool Barrier>
void rounds_kernel(float* out) {
    KILN_SHARED(float, values, kThreads);
    float sum = 0;
    for (int round = 0; round < 4; ++round) {
        values[threadIdx.x] = float(round);
        __syncthreads();
        sum += values[kThreads - 1 - threadIdx.x];
        if (Barrier) __syncthreads();
    }
    out[threadIdx.x] = sum;
}

TEST(Simt, values_overwritten_before_they_were_read_give_wrong_numbers) {
    const auto six = [](size_t) { return 6.0f; };
    EXPECT_EQ(schedules_right<rounds_kernel<true>>(8, {.grid = 1, .block = kThreads}, kThreads, six), 8);
    expect_race<rounds_kernel<false>>(kThreads, kThreads, six);
}

template <bool Barrier>
void lanes_kernel(float* out) {
    KILN_SHARED(float, values, kWarp);
    values[threadIdx.x] = float(threadIdx.x);
    if (Barrier) __syncwarp();
    out[threadIdx.x] = values[threadIdx.x ^ 1];
}

TEST(Simt, lanes_do_not_run_in_step) {
    const auto neighbour = [](size_t i) { return float(i ^ 1); };
    EXPECT_EQ(schedules_right<lanes_kernel<true>>(8, {.grid = 1, .block = kWarp}, kWarp, neighbour), 8);
    expect_race<lanes_kernel<false>>(kWarp, kWarp, neighbour);
}

std::vector<unsigned> order;
std::mutex order_mutex;
void order_kernel() {
    const std::lock_guard lock(order_mutex);
    order.push_back(blockIdx.x);
}

TEST(Simt, blocks_run_in_other_orders_by_the_seed) {
    std::set<std::vector<unsigned>> seen;
    for (unsigned seed = 0; seed < 4; ++seed) {
        simt::set_seed(seed);
        order.clear();
        const Stream stream;
        launch<order_kernel>({.grid = 32, .block = 1, .stream = stream});
        stream.synchronize();
        seen.insert(order);
    }
    simt::set_seed(0);
    EXPECT_GT(seen.size(), 1u);
}

// ---- Barriers that can never complete.

constexpr int kShuffleLine = __LINE__ + 4;
void divergent_shuffle_kernel(float* out) {
    float x = float(threadIdx.x);
    if (threadIdx.x < 16) {
        x = __shfl_xor_sync(~0u, x, 1);
    } else {
        __syncwarp();
    }
    out[threadIdx.x] = x;
}

TEST(Simt, a_divergent_shuffle_is_reported) {
    const Tensor<float> out(kWarp);
    expect_report(
        [&](cudaStream_t s) { launch<divergent_shuffle_kernel>({.grid = 3, .block = kWarp, .stream = s}, out.get()); },
        {"divergent_shuffle_kernel", "block (", "thread (", "lanes of one warp wait in different operations",
         at_line(kShuffleLine), at_line(kShuffleLine + 2)});
}

constexpr int kMaskLine = __LINE__ + 2;
void wrong_mask_kernel(float* out) {
    out[threadIdx.x] = __shfl_sync(0xffff, float(threadIdx.x), 0);
}

TEST(Simt, a_lane_outside_its_mask_is_reported) {
    const Tensor<float> out(kWarp);
    expect_report(
        [&](cudaStream_t s) { launch<wrong_mask_kernel>({.grid = 1, .block = kWarp, .stream = s}, out.get()); },
        {"wrong_mask_kernel, block (0, 0, 0), thread (", "not in the mask", at_line(kMaskLine)});
}

constexpr int kFirstBarrierLine = __LINE__ + 3;
void different_barriers_kernel(int* out) {
    if (threadIdx.x < kWarp) {
        __syncthreads();
        *out = 1;
    } else {
        __syncthreads();
    }
}

TEST(Simt, a_block_at_different_barriers_is_reported) {
    const Tensor<int> out(1);
    expect_report(
        [&](cudaStream_t s) {
            launch<different_barriers_kernel>({.grid = 1, .block = kThreads, .stream = s}, out.get());
        },
        {"different_barriers_kernel, block (0, 0, 0), thread (", "wait at different barriers",
         at_line(kFirstBarrierLine), at_line(kFirstBarrierLine + 3)});
}

constexpr int kNamedLine = __LINE__ + 3;
void deadlock_kernel() {
    if (threadIdx.x < kWarp) {
        simt::named_barrier(1, kThreads, false, simt::Where::here());
    } else {
        __syncthreads();
    }
}

TEST(Simt, a_deadlock_is_reported_with_what_each_thread_waits_for) {
    expect_report([](cudaStream_t s) { launch<deadlock_kernel>({.grid = 1, .block = kThreads, .stream = s}); },
                  {"deadlock_kernel, block (0, 0, 0): deadlock",
                   "thread (0, 0, 0) and 31 more wait in bar.sync at " + at_line(kNamedLine),
                   "thread (32, 0, 0) and 31 more wait in __syncthreads at " + at_line(kNamedLine + 2)});
}

void never_kernel(const int* flag) {
    simt::wait_until([](const void* p) { return *static_cast<const int*>(p) == 1; }, flag, "flag", simt::Where::here());
}

TEST(Simt, waiting_for_what_no_thread_does_is_a_deadlock) {
    const Tensor<int> flag(1);
    expect_report([&](cudaStream_t s) { launch<never_kernel>({.grid = 1, .block = 1, .stream = s}, flag.get()); },
                  {"never_kernel, block (0, 0, 0): deadlock", "thread (0, 0, 0) waits in flag"});
}

void early_exit_kernel(float* out) {
    if (threadIdx.x >= kWarp) return;
    __syncthreads();  // threads that have returned are not counted
    out[threadIdx.x] = warp_sum(1);
}

TEST(Simt, threads_that_returned_are_not_waited_for) {
    EXPECT_EQ(schedules_right<early_exit_kernel>(4, {.grid = 1, .block = kThreads}, kWarp, [](size_t) { return 32.f; }),
              4);
}

// ---- Blocks that wait for each other.

// Blocks compute one after another in the order of their tickets. words: the tickets given out, the blocks that are
// done, and the number that each block updates.
void tickets_kernel(int* words) {
    KILN_SHARED(int, ticket, 1);
    if (threadIdx.x == 0) {
        ticket[0] = atomicAdd(words, 1);
        if (ticket[0] > 0) wait_for_value(words + 1, ticket[0]);
    }
    __syncthreads();
    if (threadIdx.x == kWarp) words[2] = 3 * (words[2] % 1000) + ticket[0];
    __syncthreads();
    if (threadIdx.x == 0) publish(words + 1, ticket[0] + 1);
}

void expect_order_of_tickets() {
    constexpr unsigned kBlocks = 20;
    int expected = 0;
    for (int i = 0; i < int(kBlocks); ++i) expected = 3 * (expected % 1000) + i;
    for_each_schedule([&] {
        const Stream stream;
        const Tensor<int> words(3);
        CUDA_CHECK(cudaMemsetAsync(words.get(), 0, 3 * sizeof(int), stream));
        launch<tickets_kernel>({.grid = kBlocks, .block = kThreads, .stream = stream}, words.get());
        stream.synchronize();
        EXPECT_EQ(words.raw()[2], expected);
    });
}

// Runs `body` while another launch uses all threads of the host except the caller's.
void with_one_host_thread(const std::function<void()>& body) {
    std::atomic<bool> held = false, enough = false;
    const std::function<void()> hold = [&] {
        held = true;
        while (!enough) std::this_thread::yield();
    };
    const std::jthread holder([&] { simt::run_grid({nullptr, 2, 1, 0, nullptr}, hold); });
    while (!held) std::this_thread::yield();
    body();
    enough = true;
}

TEST(Simt, blocks_run_in_the_order_of_their_tickets) {
    expect_order_of_tickets();
    with_one_host_thread(expect_order_of_tickets);
}

void missing_value_kernel(int* words) {
    wait_for_value(words, 1);
}

TEST(Simt, waiting_for_a_value_that_no_block_stores_is_a_deadlock) {
    const Tensor<int> words(1);
    const auto expect_deadlock = [&] {
        const auto since = std::chrono::steady_clock::now();
        expect_report(
            [&](cudaStream_t s) { launch<missing_value_kernel>({.grid = 5, .block = 1, .stream = s}, words.get()); },
            {"missing_value_kernel, block (", "deadlock: waits for a value that no block stores at "});
        EXPECT_LT(std::chrono::steady_clock::now() - since, std::chrono::seconds(10));
    };
    expect_deadlock();
    with_one_host_thread(expect_deadlock);
}

// The first block waits for the second, which may run at the same time and fails.
void failing_block_kernel(int* words) {
    if (atomicAdd(words, 1) == 0) wait_for_value(words + 1, 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    simt::fail("block failed", simt::Where::here());
}

TEST(Simt, a_block_that_waits_ends_when_another_fails) {
    for_each_schedule([] {
        const Tensor<int> words(2);
        const std::string report = report_of([&](cudaStream_t s) {
            CUDA_CHECK(cudaMemsetAsync(words.get(), 0, 2 * sizeof(int), s));
            launch<failing_block_kernel>({.grid = 2, .block = 1, .stream = s}, words.get());
        });
        // If blocks run one after another, no block could store the value.
        const bool ended = report.find("block failed") != report.npos, alone = report.find("deadlock: ") != report.npos;
        EXPECT_TRUE(ended != alone) << report;
    });
}

// ---- Memory.

constexpr int kLoadLine = __LINE__ + 2;
void misaligned_kernel(float* out) {
    const Pack<float> pack = load(out + threadIdx.x);  // 4 bytes apart
    out[0] = pack[0];
}

TEST(Simt, a_misaligned_pack_is_reported) {
    const Tensor<float> out(16);
    expect_report([&](cudaStream_t s) { launch<misaligned_kernel>({.grid = 1, .block = 2, .stream = s}, out.get()); },
                  {"misaligned_kernel, block (0, 0, 0), thread (1, 0, 0)", "not aligned", at_line(kLoadLine)});
}

void uninitialised_kernel(float* out) {
    KILN_SHARED(float, fixed, kThreads);
    KILN_DYNAMIC_SHARED(float, dynamic);
    const float seen = fixed[threadIdx.x] + dynamic[threadIdx.x];
    out[blockIdx.x * kThreads + threadIdx.x] = std::isnan(seen) ? 1.0f : 0.0f;
    fixed[threadIdx.x] = dynamic[threadIdx.x] = 5;  // the next block must not see this
}

TEST(Simt, shared_memory_is_nan_at_the_start_of_each_block) {
    const LaunchConfig config{.grid = 5, .block = kThreads, .shared_bytes = kThreads * sizeof(float)};
    EXPECT_EQ(schedules_right<uninitialised_kernel>(4, config, 5 * kThreads, [](size_t) { return 1.0f; }), 4);
}

void absent_lane_kernel(float* out) {
    if (threadIdx.x >= 20) return;
    out[threadIdx.x] = __shfl_down_sync(~0u, float(threadIdx.x), 1);
}

TEST(Simt, the_value_of_an_absent_lane_is_nan) {
    const Stream stream;
    const Tensor<float> out(20);
    launch<absent_lane_kernel>({.grid = 1, .block = kWarp, .stream = stream}, out.get());
    stream.synchronize();
    const std::vector<float> values = out.read();
    EXPECT_EQ(values[18], 19.0f);
    EXPECT_TRUE(std::isnan(values[19]));
}

// ---- Asynchronous copies.

template <bool Wait>
void copy_async_kernel(float* out, const float* in) {
    KILN_SHARED(float, staged, 4 * kThreads);
    float* const mine = staged + 4 * threadIdx.x;
    simt::copy_async(mine, in + 4 * threadIdx.x, 16, simt::Where::here());
    simt::copy_async_commit();
    if (Wait) simt::copy_async_wait(0);
    out[threadIdx.x] = mine[1];
    simt::copy_async_wait(0);
}

TEST(Simt, a_cp_async_copy_is_nan_until_the_wait) {
    for_each_schedule([] {
        const Stream stream;
        const Tensor<float> in(random_values(4 * kThreads, 1)), early(kThreads), late(kThreads);
        launch<copy_async_kernel<false>>({.grid = 1, .block = kThreads, .stream = stream}, early.get(), in.get());
        launch<copy_async_kernel<true>>({.grid = 1, .block = kThreads, .stream = stream}, late.get(), in.get());
        stream.synchronize();
        for (const float value : early.read()) EXPECT_TRUE(std::isnan(value));
        for (int i = 0; i < kThreads; ++i) EXPECT_EQ(late.read()[size_t(i)], in.values()[size_t(4 * i + 1)]);
    });
}

void misaligned_copy_kernel(const float* in) {
    KILN_SHARED(float, staged, 8);
    simt::copy_async(staged, in + 1, 16, simt::Where::here());
}

TEST(Simt, a_misaligned_cp_async_is_reported) {
    const Tensor<float> in(8);
    expect_report(
        [&](cudaStream_t s) { launch<misaligned_copy_kernel>({.grid = 1, .block = 1, .stream = s}, in.get()); },
        {"misaligned_copy_kernel, block (0, 0, 0), thread (0, 0, 0)", "not aligned"});
}

// Like a TMA load: one thread requests it, and another unit writes the data and then sets the flag.
template <bool Wait>
void deferred_kernel(float* out) {
    KILN_SHARED(float, staged, 1);
    KILN_SHARED(int, done, 1);
    if (threadIdx.x == 0) {
        done[0] = 0;
        float* const to = staged;
        int* const flag = done;
        simt::defer([=] {
            *to = 3;
            *flag = 1;
        });
    }
    __syncthreads();
    if (Wait) {
        simt::wait_until([](const void* p) { return *static_cast<const int*>(p) == 1; }, done, "mbarrier",
                         simt::Where::here());
    }
    out[threadIdx.x] = staged[0];
}

TEST(Simt, deferred_work_lands_late) {
    const auto three = [](size_t) { return 3.0f; };
    EXPECT_EQ(schedules_right<deferred_kernel<true>>(8, {.grid = 1, .block = kThreads}, kThreads, three), 8);
    // ThreadSanitizer does not see this race, because the emulator itself does the work. The number shows it.
    EXPECT_LT(schedules_right<deferred_kernel<false>>(8, {.grid = 1, .block = kThreads}, kThreads, three), 2);
}

void deferred_store_kernel(float* out) {
    if (threadIdx.x == 0) simt::defer([=] { out[blockIdx.x] = 1; });
}

TEST(Simt, deferred_work_is_done_when_its_block_ends) {
    EXPECT_EQ(schedules_right<deferred_store_kernel>(4, {.grid = 3, .block = kWarp}, 3, [](size_t) { return 1.0f; }),
              4);
}

// ---- Launches.

void empty_kernel() {}

void launching_kernel() {
    launch<empty_kernel>({.grid = 1, .block = 1});
}

TEST(Simt, a_kernel_launched_by_a_kernel_is_reported) {
    expect_report([](cudaStream_t s) { launch<launching_kernel>({.grid = 1, .block = 1, .stream = s}); },
                  {"launching_kernel, block (0, 0, 0), thread (0, 0, 0): a kernel is launched from inside a kernel"});
}

}  // namespace
}  // namespace kiln::test
