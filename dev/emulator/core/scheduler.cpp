// Runs grids of CUDA threads on the host. Every thread of a block is a fiber. Fibers are switched only at barriers,
// warp operations and waits. dev/docs/emulator.md explains it.
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>
#include <thread>

#include "dev/emulator/core/kernels.h"
#include "dev/emulator/core/worker.h"

namespace simt {

namespace {

unsigned& seed_value() {
    static unsigned value = number_from_environment("SIMT_SEED", 0);
    return value;
}

// The threads that run blocks together with the caller's thread. They are kept from launch to launch.
class Helpers {
public:
    static Helpers& instance() {
        static Helpers helpers;
        return helpers;
    }

    // Runs the grid on the caller's thread, and on the helpers if no other launch uses them.
    void run(Grid& grid, const std::function<void()>& work) {
        const std::unique_lock owner(owner_, std::try_to_lock);
        if (!owner || workers_ == 1) return work();
#if !defined(SIMT_ASAN) && !defined(SIMT_TSAN)
        while (threads_.size() + 1 < workers_) {
            const size_t index = threads_.size() + 1;
            threads_.emplace_back(
                [this, index, seen = round_](const std::stop_token& stop) { serve(stop, index, seen); });
        }
#endif
        if (threads_.empty()) return work();
        grid.workers += int(workers_) - 1;
        {
            const std::lock_guard lock(mutex_);
            work_ = &work;
            busy_ = threads_.size();
            ++round_;
        }
        start_.notify_all();
        work();
        std::unique_lock lock(mutex_);
        end_.wait(lock, [&] { return busy_ == 0; });
    }

    void set_workers(unsigned workers) {
        const std::lock_guard owner(owner_);
        workers_ = std::max(workers, 1u);
    }

private:
    ~Helpers() {
        for (auto& thread : threads_) thread.request_stop();
        start_.notify_all();
    }

    void serve(const std::stop_token& stop, size_t index, uint64_t round) {
        for (;;) {
            std::unique_lock lock(mutex_);
            start_.wait(lock, [&] { return stop.stop_requested() || round_ != round; });
            if (stop.stop_requested()) return;
            round = round_;
            const auto& work = *work_;
            lock.unlock();
            if (index < workers_) work();
            lock.lock();
            if (--busy_ == 0) end_.notify_one();
        }
    }

    unsigned workers_ = std::max(std::thread::hardware_concurrency(), 1u);  // the caller's thread included
    std::mutex owner_, mutex_;
    std::condition_variable start_, end_;
    const std::function<void()>* work_ = nullptr;
    size_t busy_ = 0;
    uint64_t round_ = 0;
    std::vector<std::jthread> threads_;
};

}  // namespace

Worker& this_worker() {
    static thread_local Worker worker;
    return worker;
}

void Worker::thread_main(void* self) {
    auto& worker = *static_cast<Worker*>(self);
    happens_after(&worker.launched_);
    worker.grid_->body();
    happens_before(&worker.done_);
    worker.exit_thread();
}

void Worker::exit_thread() {
    {
        const Unseen unseen;
        Thread& thread = *running_;
        thread.state = State::exited;
        const int warp = thread.rank >> 5;
        lanes_alive_[warp] &= ~(1u << (thread.rank & 31));
        // Maybe the others waited only for this thread.
        if (--live_ > 0 && at_barrier_ == live_) release_block();
        for (WarpBarrier& barrier : warp_barriers_[warp]) complete(barrier, warp);
    }
    running_->fiber.leave();
}

void Worker::start(int rank) {
    Thread& thread = *threads_[rank];
    thread.state = State::ready;
    thread.rank = rank;
    thread.copies.clear();
    thread.copy_groups = 0;
    const unsigned x = blockDim.x, y = blockDim.y, at = unsigned(rank);
    thread.index = {at % x, at / x % y, at / (x * y)};
    thread.fiber.start(&Worker::thread_main, this, rank);
#ifdef SIMT_TSAN
    thread.fiber.name(("CUDA thread " + text_of(thread.index) + " of block " + text_of(blockIdx)).c_str());
#endif
}

// Runs each lane until it waits again. False: no lane could run.
bool Worker::run_warp(int warp) {
    int lanes[32];
    std::iota(lanes, lanes + 32, 0);
    if (seed() != 0) std::shuffle(lanes, lanes + 32, rng_);
    bool any = false;
    for (const int lane : lanes) {
        const int rank = warp * 32 + lane;
        if (rank >= count_) continue;
        Thread& thread = *threads_[rank];
        if (thread.state != State::ready && thread.state != State::polling) continue;
        const bool polled = thread.state == State::polling;
        const uint64_t done = polls_done_;
        thread.state = State::ready;
        running_ = &thread;
        threadIdx = thread.index;
        thread.fiber.resume(host_);
        running_ = nullptr;
        if (grid_->failed) return false;
        any |= !polled || polls_done_ != done;
    }
    return any;
}

// One warp after another runs as far as it can, or until a random number stops it. So warps drift apart as far as the
// barriers allow, and a missing barrier shows as data that is stale or overwritten.
void Worker::run_block() {
    const unsigned warps = unsigned(count_ + 31) / 32;
    live_ = count_;
    at_barrier_ = 0;
    votes_[0] = votes_[1] = 0;
    warp_barriers_.resize(std::max<size_t>(warp_barriers_.size(), warps));
    for (auto& list : warp_barriers_) {
        for (WarpBarrier& barrier : list) barrier.arrived = 0;
    }
    for (WarpgroupBarrier& barrier : warpgroup_barriers_) barrier.arrived = 0;
    for (NamedBarrier& barrier : named_barriers_) barrier = {};
    deferred_.clear();
    begin_tma(count_);
    begin_wgmma(count_);
    while (int(threads_.size()) < count_) threads_.push_back(std::make_unique<Thread>());
    for (int i = 0; i < count_; ++i) start(i);
    for (unsigned w = 0; w < warps; ++w) {
        const int lanes = std::min(32, count_ - int(w) * 32);
        lanes_alive_[w] = lanes == 32 ? ~0u : (1u << lanes) - 1;
    }
    std::vector<int> order(warps);
    std::iota(order.begin(), order.end(), 0);
    while (live_ > 0 && !grid_->failed) {
        if (seed() != 0) std::shuffle(order.begin(), order.end(), rng_);
        bool progress = false;
        for (const int warp : order) {
            while (run_warp(warp)) {
                progress = true;
                if (seed() != 0 && rng_() % 8 == 0) break;
            }
        }
        progress |= land_one_copy(progress);
        if (!progress && live_ > 0 && !grid_->failed) {
            report("deadlock: no thread of the block can continue", nullptr, std::nullopt);
        }
    }
    while (!deferred_.empty() && !grid_->failed) land_one_copy(false);
    if (!grid_->failed) work_for(nullptr, end_wgmma);
    if (!grid_->failed) work_for(nullptr, end_tma);
    for (int i = 0; i < count_; ++i) threads_[i]->fiber.finish(threads_[i]->state == State::exited);
}

void Worker::run(Grid& grid) {
    const Unseen unseen;
    grid_ = &grid;
    gridDim = grid.config.grid;
    blockDim = grid.config.block;
    count_ = int(blockDim.x * blockDim.y * blockDim.z);
    most_static_bytes_ = 0;
    happens_before(&launched_);
    for (uint64_t i; !grid.failed && (i = grid.next++) < grid.blocks;) {
        const uint64_t at = seed() % 2 == 0 ? i : grid.blocks - 1 - i;
        blockIdx = {unsigned(at % gridDim.x), unsigned(at / gridDim.x % gridDim.y),
                    unsigned(at / (uint64_t(gridDim.x) * gridDim.y))};
        std::seed_seq sequence{uint64_t(seed()), grid.launch_number, at};
        rng_.seed(sequence);
        // Each block gets memory of exactly this size: a sanitizer sees accesses outside, and stale data is NaN.
        if (const size_t bytes = grid.config.shared_bytes; bytes > 0) {
            void* memory = nullptr;
            if (::posix_memalign(&memory, 1024, bytes) != 0) std::abort();
            dynamic_shared_ = static_cast<unsigned char*>(memory);
            std::memset(dynamic_shared_, 0xff, bytes);
        }
        run_block();
        std::free(std::exchange(dynamic_shared_, nullptr));
        for (const auto& [key, memory] : shared_arrays_) std::free(memory);
        shared_arrays_.clear();
        static_bytes_ = 0;
    }
    {
        const std::lock_guard lock(grid.mutex);
        --grid.workers;
    }
    grid_ = nullptr;
    happens_after(&done_);
}

unsigned number_from_environment(const char* name, unsigned otherwise) {
    const char* const text = std::getenv(name);
    return text ? unsigned(std::strtoul(text, nullptr, 10)) : otherwise;
}

void trace(const std::function<std::string()>& what) {
    static const char* const path = std::getenv("SIMT_TRACE");
    if (!path) return;
    static std::ofstream file(std::string(path) + "." + std::to_string(getpid()));
    file << what() + "\n" << std::flush;
}

void set_seed(unsigned seed) {
    seed_value() = seed;
}

unsigned seed() {
    return seed_value();
}

void set_workers(unsigned workers) {
    Helpers::instance().set_workers(workers);
}

void run_grid(const Launch& config, const std::function<void()>& thread_body) {
    static std::atomic<uint64_t> launches = 0;
    Grid grid(config, thread_body, launches++);
    const auto work = [&] { this_worker().run(grid); };
    if (grid.blocks == 1) {
        work();
    } else {
        Helpers::instance().run(grid, work);
    }
    if (grid.failure) throw Failure(*grid.failure);
}

static std::atomic<void (*)(const Launch&)> launch_observer = nullptr;

void set_launch_observer(void (*observer)(const Launch&)) {
    launch_observer = observer;
}

static bool launch_only = false;

void set_launch_only(bool only) {
    launch_only = only;
}

void launch(const Launch& config, std::function<void()> thread_body) {
    if (const auto observer = launch_observer.load()) observer(config);
    if (this_worker().running()) fail("a kernel is launched from inside a kernel", Where::here());
    check_launch(config);
    if (launch_only) return;
    // Before CUDA 12.3 the driver cannot load a kernel while a stream is captured.
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    if (!load_kernel(config.kernel)) cudaStreamIsCapturing(config.stream, &capture);
    if (capture != cudaStreamCaptureStatusNone) {
        throw Failure("simt: " + kernel_name(config.kernel) +
                      " is launched for the first time while its stream is captured; launch it once before");
    }
    enqueue(config.stream, [config, body = std::move(thread_body)] {
        check_launch(config);  // again: in a graph it runs later, and the kernel's limit may be another one
        run_grid(config, body);
        trace([&] { return kernel_name(config.kernel); });
    });
}

int thread_rank() {
    return this_worker().running()->rank;
}

}  // namespace simt
