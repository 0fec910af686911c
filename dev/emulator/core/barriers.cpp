// How threads wait for each other: the barriers of warps, warpgroups and blocks, and polling.
#include <algorithm>
#include <cstring>
#include <thread>

#include "dev/emulator/core/worker.h"

namespace simt {

void Worker::wait(const char* name, Where where) {
    Thread& thread = *running_;
    thread.state = State::waiting;
    thread.waits_in = name;
    thread.where = where;
    happens_before(&done_);  // if another thread fails, this one never continues
    thread.fiber.pause();
}

bool Worker::complete(WarpBarrier& barrier, int warp) {
    if (!barrier.arrived || barrier.arrived != (barrier.mask & lanes_alive_[warp])) return false;
    const uint32_t arrived = std::exchange(barrier.arrived, 0);
    barrier.op(barrier.args, arrived);
    for (int l = 0; l < 32; ++l) {
        if (arrived >> l & 1) threads_[warp * 32 + l]->state = State::ready;
    }
    return true;
}

void Worker::warp_barrier(uint32_t mask, void* args, WarpOp op, const char* name, Where where) {
    const Unseen unseen;
    const int lane = running_->rank & 31, warp = running_->rank >> 5;
    if (!(mask >> lane & 1)) fail("the calling lane is not in the mask of its warp operation", where);
    auto& list = warp_barriers_[warp];
    const auto mine = [&](const WarpBarrier& m) { return m.arrived && m.mask == mask && !(m.arrived >> lane & 1); };
    auto barrier = std::find_if(list.begin(), list.end(), mine);
    if (barrier == list.end()) {
        barrier = std::find_if(list.begin(), list.end(), [](const WarpBarrier& m) { return !m.arrived; });
    }
    if (barrier == list.end()) barrier = list.emplace(list.end());
    if (!barrier->arrived) {
        barrier->mask = mask;
        barrier->name = name;
    } else if (std::strcmp(barrier->name, name) != 0) {
        fail("lanes of one warp wait in different operations", where);
    }
    barrier->arrived |= 1u << lane;
    barrier->args[lane] = args;
    barrier->op = op;
    if (!complete(*barrier, warp)) wait(name, where);
}

void Worker::sync_warp(unsigned mask, Where where) {
    char* token = &warp_tokens_[running_->rank >> 5];
    happens_before(token);
    warp_barrier(
        mask, nullptr, [](void* const*, uint32_t) {}, "__syncwarp", where);
    happens_after(token);
}

void Worker::warpgroup_barrier(void* args, WarpgroupOp op, const char* name, Where where) {
    const Unseen unseen;
    const int rank = running_->rank, first = rank & ~127;
    WarpgroupBarrier& barrier = warpgroup_barriers_[rank >> 7];
    if (barrier.arrived > 0 && std::strcmp(barrier.name, name) != 0) {
        fail("threads of one warpgroup wait in different operations", where);
    }
    barrier.name = name;
    barrier.args[rank & 127] = args;
    if (++barrier.arrived < 128) return wait(name, where);
    barrier.arrived = 0;
    op(barrier.args);
    for (int i = 0; i < 128; ++i) threads_[first + i]->state = State::ready;
}

void Worker::release_block() {
    at_barrier_ = 0;
    ++phase_;
    votes_[phase_ & 1] = 0;
    for (int i = 0; i < count_; ++i) {
        Thread& thread = *threads_[i];
        if (thread.state == State::waiting) thread.state = State::ready;
    }
}

unsigned Worker::block_barrier(const char* name, unsigned vote, Where where) {
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
                fail("threads of one block wait at different barriers", where);
            }
        }
        release_block();
    }
    happens_after(&barrier_tokens_[phase]);
    return votes_[phase];
}

void Worker::named_barrier(int id, int threads, bool arrive, Where where) {
    const Unseen unseen;
    if (id < 0 || id >= kNamedBarriers || threads <= 0 || threads % 32 != 0) {
        fail("bar.sync: the barrier must be 0 to 15, and the threads must be whole warps", where);
    }
    NamedBarrier& barrier = named_barriers_[id];
    if (barrier.arrived > 0 && barrier.threads != threads) {
        fail("bar.sync: one barrier is used with different numbers of threads", where);
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
        thread.fiber.pause();
    }
    ++polls_done_;
}

// Only running blocks store values. If every worker waits or has no more blocks, and no waiter sees its value, no value
// will ever be stored.
bool Grid::stuck() {
    const std::lock_guard lock(mutex);
    const auto unmet = [](const auto& wait) { return __atomic_load_n(wait.first, __ATOMIC_RELAXED) != wait.second; };
    return int(block_waits.size()) == workers && std::ranges::all_of(block_waits, unmet);
}

void Worker::wait_for_block(const int* word, int value, Where where) {
    if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value) return;
    std::list<std::pair<const int*, int>>::iterator mine;
    {
        const Unseen unseen;
        const std::lock_guard lock(grid_->mutex);
        mine = grid_->block_waits.emplace(grid_->block_waits.end(), word, value);
    }
    const bool stuck = [&] {
        while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value && !grid_->failed) {
            const Unseen unseen;
            if (grid_->stuck()) return true;
            std::this_thread::yield();
        }
        return false;
    }();
    {
        const Unseen unseen;
        const std::lock_guard lock(grid_->mutex);
        grid_->block_waits.erase(mine);
    }
    if (stuck) fail("deadlock: waits for a value that no block stores", where);
    if (grid_->failed) {
        happens_before(&done_);
        running_->fiber.leave();  // the whole launch is abandoned
    }
}

void warp_barrier(uint32_t mask, void* args, WarpOp op, const char* name, Where where) {
    this_worker().warp_barrier(mask, args, op, name, where);
}

void warpgroup_barrier(void* args, WarpgroupOp op, const char* name, Where where) {
    this_worker().warpgroup_barrier(args, op, name, where);
}

unsigned block_barrier(const char* name, unsigned vote, Where where) {
    return this_worker().block_barrier(name, vote, where);
}

void wait_for_block(const int* word, int value, Where where) {
    this_worker().wait_for_block(word, value, where);
}

void named_barrier(int id, int threads, bool arrive, Where where) {
    this_worker().named_barrier(id, threads, arrive, where);
}

void wait_until(bool (*holds)(const void*), const void* context, const char* name, Where where) {
    this_worker().wait_until(holds, context, name, where);
}

}  // namespace simt

void __syncwarp(unsigned mask, simt::Where where) {
    simt::this_worker().sync_warp(mask, where);
}
