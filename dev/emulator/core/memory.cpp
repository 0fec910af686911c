// The memory of a block, asynchronous copies, and the alignment of accesses.
#include <cstdlib>
#include <cstring>

#include "dev/emulator/core/kernels.h"
#include "dev/emulator/core/worker.h"

namespace simt {

void* Worker::shared_array(const void* key, size_t bytes, Where where) {
    const Unseen unseen;
    for (const auto& [known, memory] : shared_arrays_) {
        if (known == key) return memory;
    }
    void* memory = nullptr;
    if (::posix_memalign(&memory, 128, bytes) != 0) std::abort();
    std::memset(memory, 0xff, bytes);
    shared_arrays_.emplace_back(key, memory);
    // ptxas pads static arrays to the alignment of a dynamic one, 1024 bytes (cuda/device/launch.h).
    static_bytes_ += bytes;
    const size_t padded = dynamic_shared_bytes() > 0 ? (static_bytes_ + 1023) / 1024 * 1024 : static_bytes_;
    if (padded <= most_static_bytes_) return memory;
    most_static_bytes_ = padded;
    if (const std::string why = note_static_shared(grid_->config, padded); !why.empty()) fail(why.c_str(), where);
    return memory;
}

void Worker::work_for(const Thread* thread, const std::function<void()>& work) {
    works_for_ = thread;
    try {
        work();
    } catch (const Abandoned&) {  // reported
    }
    works_for_ = nullptr;
}

// Does one deferred copy when no thread can continue, or when the seed decides so.
bool Worker::land_one_copy(bool others_run) {
    if (deferred_.empty() || (others_run && (seed() == 0 || rng_() % 4 != 0))) return false;
    const size_t which = seed() == 0 ? 0 : rng_() % deferred_.size();
    const auto [thread, work] = std::move(deferred_[which]);
    deferred_.erase(deferred_.begin() + ptrdiff_t(which));
    work_for(thread, work);
    return true;
}

unsigned char* dynamic_shared() {
    return this_worker().dynamic_shared();
}

size_t dynamic_shared_bytes() {
    return this_worker().dynamic_shared_bytes();
}

void* shared_array(const void* key, size_t bytes, Where where) {
    return this_worker().shared_array(key, bytes, where);
}

void copy_async(void* dst, const void* src, int bytes, Where where) {
    check_aligned(dst, size_t(bytes), where);
    check_aligned(src, size_t(bytes), where);
    std::memset(dst, 0xff, size_t(bytes));
    const Unseen unseen;
    Thread& thread = *this_worker().running();
    thread.copies.push_back({dst, src, bytes, thread.copy_groups});
}

void copy_async_commit() {
    const Unseen unseen;
    ++this_worker().running()->copy_groups;
}

void copy_async_wait(int pending_groups) {
    std::vector<Copy> due;
    {
        const Unseen unseen;
        Thread& thread = *this_worker().running();
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
    this_worker().defer(std::move(work));
}

void check_aligned(const void* pointer, size_t bytes, Where where) {
    if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) {
        fail("a vector access or asynchronous copy is not aligned to its size", where);
    }
}

}  // namespace simt
