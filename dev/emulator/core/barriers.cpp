// Where threads wait for each other: warp and warpgroup operations, barriers, polling.
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

// Only blocks that run store values. Where each worker waits, or has no more blocks, and no value is what its waiter
// wants, nobody ever will.
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
        running_->fiber.leave(host_);  // for good, as the whole launch is
    }
}

void meet_warp(uint32_t mask, void* args, WarpOp op, const char* name, Where where) {
    this_worker().meet_warp(mask, args, op, name, where);
}

void meet_warpgroup(void* args, WarpgroupOp op, const char* name, Where where) {
    this_worker().meet_warpgroup(args, op, name, where);
}

unsigned meet_block(const char* name, unsigned vote, Where where) {
    return this_worker().meet_block(name, vote, where);
}

void wait_for_block(const int* word, int value, Where where) {
    this_worker().wait_for_block(word, value, where);
}

void meet_named(int id, int threads, bool arrive, Where where) {
    this_worker().meet_named(id, threads, arrive, where);
}

void wait_until(bool (*holds)(const void*), const void* context, const char* name, Where where) {
    this_worker().wait_until(holds, context, name, where);
}

}  // namespace simt

void __syncwarp(unsigned mask, simt::Where where) {
    simt::this_worker().sync_warp(mask, where);
}
