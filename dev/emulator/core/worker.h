#pragma once
// The class that runs blocks. The scheduler, the barriers, memory and reports implement its parts. dev/docs/emulator.md
// explains it.
#include <atomic>
#include <cstring>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "dev/emulator/core/architecture.h"
#include "dev/emulator/core/fiber.h"
#include "dev/emulator/core/internal.h"

namespace simt {

constexpr int kNamedBarriers = 16;

enum class State : uint8_t { ready, waiting, polling, exited };

struct Copy {
    void* dst;
    const void* src;
    int bytes, group;
};

struct Thread {
    Fiber fiber;
    uint3 index{};
    int rank = 0;
    State state = State::ready;
    const char* waits_in = "";
    Where where{};
    std::vector<Copy> copies;
    int copy_groups = 0;
};

struct WarpBarrier {
    uint32_t mask = 0, arrived = 0;
    const char* name = "";
    WarpOp op = nullptr;
    void* args[32];
};

struct WarpgroupBarrier {
    int arrived = 0;
    const char* name = "";
    void* args[128];
};

struct NamedBarrier {
    int threads = 0, arrived = 0;
    std::vector<int> waiting;  // ranks
};

struct Grid {
    Grid(const Launch& config, const std::function<void()>& body, uint64_t launch_number)
        : config(config),
          body(body),
          blocks(uint64_t(config.grid.x) * config.grid.y * config.grid.z),
          launch_number(launch_number) {}
    bool stuck();  // no block can continue

    const Launch& config;
    const std::function<void()>& body;
    uint64_t blocks, launch_number;
    std::atomic<uint64_t> next{0};
    std::mutex mutex;
    // The mutex guards these three.
    int workers = 1;                                    // that run blocks or will run them
    std::list<std::pair<const int*, int>> block_waits;  // words that blocks wait for, and the values
    std::optional<std::string> failure;
    std::atomic<bool> failed{false};
};

// Runs blocks one after another on one host thread.
class Worker {
public:
    void run(Grid& grid);
    Thread* running() { return running_; }
    bool busy() const { return grid_ != nullptr; }
    unsigned char* dynamic_shared() { return dynamic_shared_; }
    size_t dynamic_shared_bytes() const { return grid_->config.shared_bytes; }
    void* shared_array(const void* key, size_t bytes, Where where);

    [[noreturn]] void fail(const char* what, Where where);
    void warp_barrier(uint32_t mask, void* args, WarpOp op, const char* name, Where where);
    void warpgroup_barrier(void* args, WarpgroupOp op, const char* name, Where where);
    unsigned block_barrier(const char* name, unsigned vote, Where where);
    void named_barrier(int id, int threads, bool arrive, Where where);
    void wait_for_block(const int* word, int value, Where where);
    void wait_until(bool (*holds)(const void*), const void* context, const char* name, Where where);
    void sync_warp(unsigned mask, Where where);
    void defer(std::function<void()> work) { deferred_.emplace_back(running_, std::move(work)); }

private:
    void run_block();
    bool run_warp(int warp);
    bool land_one_copy(bool others_run);
    void work_for(const Thread* thread, const std::function<void()>& work);
    void start(int rank);
    static void thread_main(void* worker);
    void exit_thread();
    void wait(const char* name, Where where);
    bool complete(WarpBarrier& barrier, int warp);
    void release_block();
    void report(const std::string& what, const Thread* thread, std::optional<Where> where);

    Grid* grid_ = nullptr;
    std::vector<std::unique_ptr<Thread>> threads_;
    Context host_;
    Thread* running_ = nullptr;
    int count_ = 0, live_ = 0, at_barrier_ = 0;
    unsigned votes_[2] = {}, phase_ = 0;
    std::vector<std::vector<WarpBarrier>> warp_barriers_;  // by warp; one for each mask
    uint32_t lanes_alive_[kMaxThreads / 32] = {};
    WarpgroupBarrier warpgroup_barriers_[kMaxThreads / 128];
    NamedBarrier named_barriers_[kNamedBarriers];
    uint64_t polls_done_ = 0;
    std::vector<std::pair<const Thread*, std::function<void()>>> deferred_;  // with the thread that asked for it
    const Thread* works_for_ = nullptr;                                      // while another unit does a thread's work
    unsigned char* dynamic_shared_ = nullptr;
    std::vector<std::pair<const void*, void*>> shared_arrays_;
    size_t static_bytes_ = 0, most_static_bytes_ = 0;  // of shared_arrays_; the most, padded, of a block of the grid
    std::mt19937_64 rng_;
    // For ThreadSanitizer: the address of each represents a moment. The first two are the grid's start and end.
    char launched_ = 0, done_ = 0, barrier_tokens_[2] = {}, warp_tokens_[kMaxThreads / 32] = {},
         named_tokens_[kNamedBarriers] = {};
};

// A unit of the chip that is not a thread reported an error.
struct Abandoned {};

Worker& this_worker();  // of the host thread that calls

std::string text_of(uint3 at);
std::string text_of(Where where);

}  // namespace simt
