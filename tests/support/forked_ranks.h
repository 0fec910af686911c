#pragma once
// Ranks that are processes, for tests of what they do together. The test itself must not have used CUDA or threads,
// which do not survive a fork.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/error.h"

namespace kiln {

constexpr int kMostForkedRanks = 8;

// Memory that a process shares with those that it forks.
struct ForkedMemory {
    static constexpr size_t kPostBytes = 64 << 10;
    struct Rank {
        std::atomic<uint64_t> rounds;
        char posts[2][kPostBytes];  // alternate, since slow peers still read the last one
        char error[4096];
    };
    Rank ranks[kMostForkedRanks];

    static ForkedMemory* make() {
        void* const memory =
            mmap(nullptr, sizeof(ForkedMemory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        KILN_CHECK(memory != MAP_FAILED, "mmap failed");
        return static_cast<ForkedMemory*>(memory);
    }
};

class ForkedCommunicator final : public Communicator {
public:
    ForkedCommunicator(int rank, int size, ForkedMemory& memory) : rank_(rank), size_(size), memory_(memory) {}
    int rank() const override { return rank_; }
    int size() const override { return size_; }
    void all_reduce(float* data, size_t n) override { sum(data, n); }
    void all_reduce(double* data, size_t n) override { sum(data, n); }
    void reduce_scatter(const float* in, float* out, size_t n) override {
        std::vector<float> all(in, in + n * size_t(size_));
        sum(all.data(), all.size());
        std::copy_n(all.begin() + ptrdiff_t(n) * rank_, n, out);
    }
    void all_gather(const float* in, float* out, size_t n) override {
        exchange(in, n * sizeof(float), [&](size_t at, size_t bytes) {
            for (int r = 0; r < size_; r++)
                std::memcpy(reinterpret_cast<char*>(out + size_t(r) * n) + at, post(r), bytes);
        });
    }
    void broadcast(void* data, size_t bytes, int root) override {
        exchange(data, bytes, [&](size_t at, size_t n) { std::memcpy(static_cast<char*>(data) + at, post(root), n); });
    }
    void barrier() override {
        exchange("", 1, [](size_t, size_t) {});
    }

private:
    char* post(int rank) const { return memory_.ranks[rank].posts[round_ % 2]; }

    // Every rank sees a part of the data of all; take(offset, bytes) looks at it.
    template <class Take>
    void exchange(const void* data, size_t bytes, Take take) {
        for (size_t at = 0; at < bytes; at += ForkedMemory::kPostBytes, round_++) {
            const size_t n = std::min(bytes - at, ForkedMemory::kPostBytes);
            std::memcpy(post(rank_), static_cast<const char*>(data) + at, n);
            memory_.ranks[rank_].rounds = round_ + 1;
            const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
            for (int r = 0; r < size_; r++) {
                while (memory_.ranks[r].rounds <= round_) {
                    KILN_CHECK(std::chrono::steady_clock::now() < end, "rank ", r, " has not come to the others");
                    std::this_thread::sleep_for(std::chrono::microseconds(50));
                }
            }
            take(at, n);
        }
    }
    template <class T>
    void sum(T* data, size_t n) {
        exchange(data, n * sizeof(T), [&](size_t at, size_t bytes) {
            for (size_t i = 0; i < bytes / sizeof(T); i++) {
                T total = 0;
                for (int r = 0; r < size_; r++) total += reinterpret_cast<const T*>(post(r))[i];
                data[at / sizeof(T) + i] = total;
            }
        });
    }

    const int rank_, size_;
    ForkedMemory& memory_;
    uint64_t round_ = 0;
};

struct RankEnd {
    int code = -1;      // 1: it failed an expectation, or threw
    int signal = 0;     // that ended it
    std::string error;  // what it threw
};

// Runs `body` in `size` processes. Those that have not ended `limit` after rank 0, or a minute after the start, are
// killed.
inline std::vector<RankEnd> run_ranks(int size, const std::function<void(Communicator&)>& body,
                                      std::chrono::milliseconds limit = std::chrono::seconds(60)) {
    ForkedMemory& memory = *ForkedMemory::make();
    std::vector<pid_t> children;
    std::fflush(nullptr);
    for (int rank = 0; rank < size; rank++) {
        children.push_back(fork());
        KILN_CHECK(children.back() >= 0, "fork failed");
        if (children.back() > 0) continue;
        ForkedCommunicator communicator(rank, size, memory);
        auto& error = memory.ranks[rank].error;
        try {
            body(communicator);
        } catch (const std::exception& thrown) {
            std::snprintf(error, sizeof error, "%s", thrown.what());
        }
        std::fflush(nullptr);
        _exit(*error || testing::Test::HasFailure() ? 1 : 0);
    }
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    std::vector<RankEnd> ends(children.size());
    for (size_t rank = 0; rank < children.size(); rank++) {
        int status = 0;
        while (waitpid(children[rank], &status, WNOHANG) == 0) {
            if (std::chrono::steady_clock::now() > end) kill(children[rank], SIGKILL);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        ends[rank] = {.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                      .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                      .error = memory.ranks[rank].error};
        if (rank == 0) end = std::min(end, std::chrono::steady_clock::now() + limit);
    }
    munmap(&memory, sizeof memory);
    return ends;
}

}  // namespace kiln
