// Runs grids of CUDA threads on the host: every thread of a block is a fiber, switched at barriers, warp operations and
// waits only. See dev/docs/simt.md.
#include "dev/simt/simt.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <random>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "dev/simt/fiber.h"
#include "dev/simt/simt_internal.h"

namespace simt {

namespace {

constexpr int kMaxThreads = 1024;
constexpr size_t kMaxSharedBytes = 227 << 10;  // of a block, sm_90
constexpr int kNamedBarriers = 16;

unsigned& seed_value() {
    static unsigned value = [] {
        const char* text = std::getenv("SIMT_SEED");
        return text ? unsigned(std::strtoul(text, nullptr, 10)) : 0u;
    }();
    return value;
}

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

struct WarpMeeting {
    uint32_t mask = 0, arrived = 0;
    const char* name = "";
    WarpOp op = nullptr;
    void* args[32];
};

struct WarpgroupMeeting {
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
    const Launch& config;
    const std::function<void()>& body;
    uint64_t blocks, launch_number;
    std::atomic<uint64_t> next{0};
    std::mutex mutex;
    std::optional<std::string> failure;
    std::atomic<bool> failed{false};
};

// Runs blocks, one after another, on one thread of the host.
class Worker {
public:
    void run(Grid& grid);
    Thread* running() { return running_; }
    bool busy() const { return grid_ != nullptr; }
    unsigned char* dynamic_shared() { return dynamic_shared_; }
    size_t dynamic_shared_bytes() const { return grid_->config.shared_bytes; }
    void* shared_array(const void* key, size_t bytes);

    [[noreturn]] void fail(const char* what, Where where);
    void meet_warp(uint32_t mask, void* args, WarpOp op, const char* name, Where where);
    void meet_warpgroup(void* args, WarpgroupOp op, const char* name, Where where);
    unsigned meet_block(const char* name, unsigned vote, Where where);
    void meet_named(int id, int threads, bool arrive, Where where);
    void wait_until(bool (*holds)(const void*), const void* context, const char* name, Where where);
    void sync_warp(unsigned mask, Where where);
    void defer(std::function<void()> work) { deferred_.emplace_back(running_, std::move(work)); }

private:
    void run_block();
    bool run_warp(int warp);
    bool land_one_copy(bool others_go_on);
    void work_for(const Thread* thread, const std::function<void()>& work);
    void start(int rank);
    static void thread_main(void* worker);
    void exit_thread();
    void wait(const char* name, Where where);
    bool finish(WarpMeeting& meeting, int warp);
    void release_barrier();
    void report(const std::string& what, const Thread* thread, std::optional<Where> where);

    Grid* grid_ = nullptr;
    std::vector<std::unique_ptr<Thread>> threads_;
    HostFiber host_;
    Thread* running_ = nullptr;
    int count_ = 0, live_ = 0, at_barrier_ = 0;
    unsigned votes_[2] = {}, phase_ = 0;
    std::vector<std::vector<WarpMeeting>> meetings_;  // by warp
    uint32_t lanes_alive_[kMaxThreads / 32] = {};
    WarpgroupMeeting warpgroups_[kMaxThreads / 128];
    NamedBarrier named_[kNamedBarriers];
    uint64_t polls_met_ = 0;
    std::vector<std::pair<const Thread*, std::function<void()>>> deferred_;  // who asked for it
    const Thread* works_for_ = nullptr;                                      // while another unit does a thread's work
    unsigned char* dynamic_shared_ = nullptr;
    std::vector<std::pair<const void*, void*>> shared_arrays_;
    std::mt19937_64 rng_;
    // Addresses that stand for moments, for ThreadSanitizer. The first is the grid's start, and its end.
    char launched_ = 0, done_ = 0, barrier_tokens_[2] = {}, warp_tokens_[kMaxThreads / 32] = {},
         named_tokens_[kNamedBarriers] = {};
};

thread_local Worker worker;

std::string text_of(uint3 at) {
    std::ostringstream out;
    out << '(' << at.x << ", " << at.y << ", " << at.z << ')';
    return out.str();
}

std::string text_of(Where where) {
    return std::string(where.file) + ":" + std::to_string(where.line);
}

void Worker::report(const std::string& what, const Thread* thread, std::optional<Where> where) {
    std::ostringstream out;
    out << "simt: " << kernel_name(grid_->config.kernel) << ", block " << text_of(blockIdx);
    if (thread) out << ", thread " << text_of(thread->index);
    out << ": " << what;
    if (where) out << " at " << text_of(*where);
    // The others by the place where they wait.
    std::vector<std::pair<const Thread*, int>> places;
    for (int i = 0; i < count_; ++i) {
        const Thread& other = *threads_[i];
        if (&other == thread || (other.state != State::waiting && other.state != State::polling)) continue;
        const auto same = [&](const auto& place) {
            return place.first->where.line == other.where.line &&
                   std::strcmp(place.first->where.file, other.where.file) == 0 &&
                   std::strcmp(place.first->waits_in, other.waits_in) == 0;
        };
        const auto place = std::find_if(places.begin(), places.end(), same);
        if (place != places.end()) {
            ++place->second;
        } else {
            places.emplace_back(&other, 0);
        }
    }
    for (const auto& [other, more] : places) {
        out << "\n  thread " << text_of(other->index);
        if (more > 0) out << " and " << more << " more wait in ";
        if (more == 0) out << " waits in ";
        out << other->waits_in << " at " << text_of(other->where);
    }
    const std::lock_guard lock(grid_->mutex);
    if (!grid_->failure) grid_->failure = out.str();
    grid_->failed = true;
}

// A unit of the chip that is no thread found a fault.
struct Abandoned {};

void Worker::fail(const char* what, Where where) {
    report(what, running_ ? running_ : works_for_, where);
    if (!running_) throw Abandoned{};
    happens_before(&done_);
    running_->fiber.leave(host_);  // for good: the block is abandoned
    __builtin_unreachable();
}

void Worker::wait(const char* name, Where where) {
    Thread& thread = *running_;
    thread.state = State::waiting;
    thread.waits_in = name;
    thread.where = where;
    happens_before(&done_);  // should another thread's failure abandon this one here
    thread.fiber.pause(host_);
}

bool Worker::finish(WarpMeeting& meeting, int warp) {
    if (!meeting.arrived || meeting.arrived != (meeting.mask & lanes_alive_[warp])) return false;
    const uint32_t arrived = std::exchange(meeting.arrived, 0);
    meeting.op(meeting.args, arrived);
    for (int l = 0; l < 32; ++l) {
        if (arrived >> l & 1) threads_[warp * 32 + l]->state = State::ready;
    }
    return true;
}

void Worker::meet_warp(uint32_t mask, void* args, WarpOp op, const char* name, Where where) {
    const Unseen unseen;
    const int lane = running_->rank & 31, warp = running_->rank >> 5;
    if (!(mask >> lane & 1)) fail("the calling lane is not in the mask of its warp operation", where);
    auto& list = meetings_[warp];
    const auto mine = [&](const WarpMeeting& m) { return m.arrived && m.mask == mask && !(m.arrived >> lane & 1); };
    auto meeting = std::find_if(list.begin(), list.end(), mine);
    if (meeting == list.end()) {
        meeting = std::find_if(list.begin(), list.end(), [](const WarpMeeting& m) { return !m.arrived; });
    }
    if (meeting == list.end()) meeting = list.emplace(list.end());
    if (!meeting->arrived) {
        meeting->mask = mask;
        meeting->name = name;
    } else if (std::strcmp(meeting->name, name) != 0) {
        fail("lanes of one warp meet in different operations", where);
    }
    meeting->arrived |= 1u << lane;
    meeting->args[lane] = args;
    meeting->op = op;
    if (!finish(*meeting, warp)) wait(name, where);
}

void Worker::sync_warp(unsigned mask, Where where) {
    char* token = &warp_tokens_[running_->rank >> 5];
    happens_before(token);
    meet_warp(
        mask, nullptr, [](void* const*, uint32_t) {}, "__syncwarp", where);
    happens_after(token);
}

void Worker::meet_warpgroup(void* args, WarpgroupOp op, const char* name, Where where) {
    const Unseen unseen;
    const int rank = running_->rank, first = rank & ~127;
    WarpgroupMeeting& meeting = warpgroups_[rank >> 7];
    if (meeting.arrived > 0 && std::strcmp(meeting.name, name) != 0) {
        fail("threads of one warpgroup meet in different operations", where);
    }
    meeting.name = name;
    meeting.args[rank & 127] = args;
    if (++meeting.arrived < 128) return wait(name, where);
    meeting.arrived = 0;
    op(meeting.args);
    for (int i = 0; i < 128; ++i) threads_[first + i]->state = State::ready;
}

void Worker::release_barrier() {
    at_barrier_ = 0;
    ++phase_;
    votes_[phase_ & 1] = 0;
    for (int i = 0; i < count_; ++i) {
        Thread& thread = *threads_[i];
        if (thread.state == State::waiting) thread.state = State::ready;
    }
}

unsigned Worker::meet_block(const char* name, unsigned vote, Where where) {
    const Unseen unseen;
    const unsigned phase = phase_ & 1;
    votes_[phase] += vote;
    happens_before(&barrier_tokens_[phase]);
    if (++at_barrier_ < live_) {
        wait(name, where);
    } else {
        for (int i = 0; i < count_; ++i) {
            const Thread& other = *threads_[i];
            if (other.state == State::waiting &&
                (other.where.line != where.line || std::strcmp(other.where.file, where.file) != 0)) {
                fail("threads of one block meet at different barriers", where);
            }
        }
        release_barrier();
    }
    happens_after(&barrier_tokens_[phase]);
    return votes_[phase];
}

void Worker::meet_named(int id, int threads, bool arrive, Where where) {
    const Unseen unseen;
    if (id < 0 || id >= kNamedBarriers || threads <= 0 || threads % 32 != 0) {
        fail("bar.sync: the barrier must be 0 to 15, the threads whole warps", where);
    }
    NamedBarrier& barrier = named_[id];
    if (barrier.arrived > 0 && barrier.threads != threads) {
        fail("bar.sync: threads expect different numbers of threads at one barrier", where);
    }
    barrier.threads = threads;
    happens_before(&named_tokens_[id]);
    if (++barrier.arrived == threads) {
        barrier.arrived = 0;
        for (const int rank : std::exchange(barrier.waiting, {})) threads_[rank]->state = State::ready;
    } else if (!arrive) {
        barrier.waiting.push_back(running_->rank);
        wait("bar.sync", where);
    }
    if (!arrive) happens_after(&named_tokens_[id]);
}

void Worker::wait_until(bool (*holds)(const void*), const void* context, const char* name, Where where) {
    const Unseen unseen;
    Thread& thread = *running_;
    thread.waits_in = name;
    thread.where = where;
    while (!holds(context)) {
        thread.state = State::polling;
        happens_before(&done_);
        thread.fiber.pause(host_);
    }
    ++polls_met_;
}

void* Worker::shared_array(const void* key, size_t bytes) {
    const Unseen unseen;
    for (const auto& [known, memory] : shared_arrays_) {
        if (known == key) return memory;
    }
    void* memory = nullptr;
    if (::posix_memalign(&memory, 128, bytes) != 0) std::abort();
    std::memset(memory, 0xff, bytes);
    shared_arrays_.emplace_back(key, memory);
    return memory;
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
        // The others may have waited for this thread alone.
        if (--live_ > 0 && at_barrier_ == live_) release_barrier();
        for (WarpMeeting& meeting : meetings_[warp]) finish(meeting, warp);
    }
    running_->fiber.leave(host_);
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

// Lets each lane go on to its next meeting. False: none could.
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
        const uint64_t met = polls_met_;
        thread.state = State::ready;
        running_ = &thread;
        threadIdx = thread.index;
        host_.resume(thread.fiber);
        running_ = nullptr;
        if (grid_->failed) return false;
        any |= !polled || polls_met_ != met;
    }
    return any;
}

void Worker::work_for(const Thread* thread, const std::function<void()>& work) {
    works_for_ = thread;
    try {
        work();
    } catch (const Abandoned&) {  // reported
    }
    works_for_ = nullptr;
}

// Late: when nothing else can go on, or when the seed says so.
bool Worker::land_one_copy(bool others_go_on) {
    if (deferred_.empty() || (others_go_on && (seed() == 0 || rng_() % 4 != 0))) return false;
    const size_t which = seed() == 0 ? 0 : rng_() % deferred_.size();
    const auto [thread, work] = std::move(deferred_[which]);
    deferred_.erase(deferred_.begin() + ptrdiff_t(which));
    work_for(thread, work);
    return true;
}

// Each warp in turn runs as far as it can, or until a coin stops it: so warps drift apart as far as the barriers allow,
// and a missing barrier shows as data that is stale or overwritten.
void Worker::run_block() {
    const unsigned warps = unsigned(count_ + 31) / 32;
    live_ = count_;
    at_barrier_ = 0;
    votes_[0] = votes_[1] = 0;
    meetings_.resize(std::max<size_t>(meetings_.size(), warps));
    for (auto& list : meetings_) {
        for (WarpMeeting& meeting : list) meeting.arrived = 0;
    }
    for (WarpgroupMeeting& meeting : warpgroups_) meeting.arrived = 0;
    for (NamedBarrier& barrier : named_) barrier = {};
    deferred_.clear();
    begin_tma(count_);
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
            report("deadlock: no thread of the block can go on", nullptr, std::nullopt);
        }
    }
    while (!deferred_.empty() && !grid_->failed) land_one_copy(false);
    if (!grid_->failed) work_for(nullptr, end_tma);
    for (int i = 0; i < count_; ++i) threads_[i]->fiber.finish(threads_[i]->state == State::exited);
}

void Worker::run(Grid& grid) {
    const Unseen unseen;
    grid_ = &grid;
    gridDim = grid.config.grid;
    blockDim = grid.config.block;
    count_ = int(blockDim.x * blockDim.y * blockDim.z);
    happens_before(&launched_);
    for (uint64_t i; !grid.failed && (i = grid.next++) < grid.blocks;) {
        const uint64_t at = seed() % 2 == 0 ? i : grid.blocks - 1 - i;
        blockIdx = {unsigned(at % gridDim.x), unsigned(at / gridDim.x % gridDim.y),
                    unsigned(at / (uint64_t(gridDim.x) * gridDim.y))};
        std::seed_seq sequence{uint64_t(seed()), grid.launch_number, at};
        rng_.seed(sequence);
        // Of its own and exactly as large, for each block: a sanitizer sees what lies outside, and stale data is NaN.
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
    }
    grid_ = nullptr;
    happens_after(&done_);
}

// The threads beside the caller's, kept from launch to launch.
class Helpers {
public:
    static Helpers& instance() {
        static Helpers helpers;
        return helpers;
    }

    // Runs `work` on the caller's thread and, if no other launch has them, on the others.
    void run(const std::function<void()>& work) {
        const std::unique_lock owner(owner_, std::try_to_lock);
        if (!owner || threads_.empty()) return work();
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

private:
    Helpers() {
#if !defined(SIMT_ASAN) && !defined(SIMT_TSAN)
        for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) {
            threads_.emplace_back([this](const std::stop_token& stop) { serve(stop); });
        }
#endif
    }
    ~Helpers() {
        for (auto& thread : threads_) thread.request_stop();
        start_.notify_all();
    }

    void serve(const std::stop_token& stop) {
        for (uint64_t round = 0;;) {
            std::unique_lock lock(mutex_);
            start_.wait(lock, [&] { return stop.stop_requested() || round_ != round; });
            if (stop.stop_requested()) return;
            round = round_;
            const auto& work = *work_;
            lock.unlock();
            work();
            lock.lock();
            if (--busy_ == 0) end_.notify_one();
        }
    }

    std::mutex owner_, mutex_;
    std::condition_variable start_, end_;
    const std::function<void()>* work_ = nullptr;
    size_t busy_ = 0;
    uint64_t round_ = 0;
    std::vector<std::jthread> threads_;
};

}  // namespace

void set_seed(unsigned seed) {
    seed_value() = seed;
}

unsigned seed() {
    return seed_value();
}

std::string kernel_name(const char* pretty_function) {
    std::string name = pretty_function;
    const size_t at = name.find("Kernel = ");
    if (at == name.npos) return name;
    name.erase(0, at + 9);
    name.erase(std::min({name.find(';'), name.find(", P = "), name.rfind(']')}));
    return name.starts_with('&') ? name.substr(1) : name;
}

void run_grid(const Launch& config, const std::function<void()>& thread_body) {
    static std::atomic<uint64_t> launches = 0;
    Grid grid(config, thread_body, launches++);
    const auto work = [&] { worker.run(grid); };
    if (grid.blocks == 1) {
        work();
    } else {
        Helpers::instance().run(work);
    }
    if (grid.failure) throw Failure(*grid.failure);
}

void launch(const Launch& config, std::function<void()> thread_body) {
    if (worker.running()) fail("a kernel is launched from inside a kernel", Where::here());
    const auto refuse = [&](const std::string& what) {
        throw Failure("simt: " + kernel_name(config.kernel) + " cannot be launched: " + what);
    };
    const auto [gx, gy, gz] = std::tuple(config.grid.x, config.grid.y, config.grid.z);
    const auto [bx, by, bz] = std::tuple(config.block.x, config.block.y, config.block.z);
    if (uint64_t(bx) * by * bz < 1 || uint64_t(bx) * by * bz > kMaxThreads || bz > 64) {
        refuse("a block of " + text_of(uint3{bx, by, bz}) + " threads");
    }
    if (gx < 1 || gy < 1 || gz < 1 || gx > 0x7fffffff || gy > 65535 || gz > 65535) {
        refuse("a grid of " + text_of(uint3{gx, gy, gz}) + " blocks");
    }
    const size_t allowed = std::min(shared_bytes_allowed(config.address), kMaxSharedBytes);
    if (config.shared_bytes > allowed) {
        refuse(std::to_string(config.shared_bytes) + " bytes of dynamic shared memory, of " + std::to_string(allowed) +
               " allowed (cudaFuncSetAttribute)");
    }
    enqueue(config.stream, [config, body = std::move(thread_body)] { run_grid(config, body); });
}

void fail(const char* what, Where where) {
    if (!worker.busy()) throw Failure(std::string("simt: ") + what + " at " + text_of(where));
    worker.fail(what, where);
}

int thread_rank() {
    return worker.running()->rank;
}

unsigned char* dynamic_shared() {
    return worker.dynamic_shared();
}

size_t dynamic_shared_bytes() {
    return worker.dynamic_shared_bytes();
}

void* shared_array(const void* key, size_t bytes) {
    return worker.shared_array(key, bytes);
}

void meet_warp(uint32_t mask, void* args, WarpOp op, const char* name, Where where) {
    worker.meet_warp(mask, args, op, name, where);
}

void meet_warpgroup(void* args, WarpgroupOp op, const char* name, Where where) {
    worker.meet_warpgroup(args, op, name, where);
}

unsigned meet_block(const char* name, unsigned vote, Where where) {
    return worker.meet_block(name, vote, where);
}

void meet_named(int id, int threads, bool arrive, Where where) {
    worker.meet_named(id, threads, arrive, where);
}

void wait_until(bool (*holds)(const void*), const void* context, const char* name, Where where) {
    worker.wait_until(holds, context, name, where);
}

void copy_async(void* dst, const void* src, int bytes, Where where) {
    check_aligned(dst, size_t(bytes), where);
    check_aligned(src, size_t(bytes), where);
    std::memset(dst, 0xff, size_t(bytes));
    const Unseen unseen;
    Thread& thread = *worker.running();
    thread.copies.push_back({dst, src, bytes, thread.copy_groups});
}

void copy_async_commit() {
    const Unseen unseen;
    ++worker.running()->copy_groups;
}

void copy_async_wait(int pending_groups) {
    std::vector<Copy> due;
    {
        const Unseen unseen;
        Thread& thread = *worker.running();
        const int end = thread.copy_groups - pending_groups;
        std::erase_if(thread.copies, [&](const Copy& copy) {
            if (copy.group < end) due.push_back(copy);
            return copy.group < end;
        });
    }
    for (const Copy& copy : due) {
        if (copy.src) {
            std::memcpy(copy.dst, copy.src, size_t(copy.bytes));
        } else {
            std::memset(copy.dst, 0, size_t(copy.bytes));
        }
    }
}

void defer(std::function<void()> work) {
    const Unseen unseen;
    worker.defer(std::move(work));
}

void check_aligned(const void* pointer, size_t bytes, Where where) {
    if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) {
        fail("a vector access or asynchronous copy is not aligned to its size", where);
    }
}

}  // namespace simt

void __syncwarp(unsigned mask, simt::Where where) {
    simt::worker.sync_warp(mask, where);
}
