// mbarriers, TMA copies, and shared memory as the asynchronous proxy sees it.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "dev/emulator/core/hopper.h"
#include "dev/emulator/core/internal.h"
#include "dev/emulator/libraries/tensor_map.h"

namespace simt {

namespace {

struct Mbarrier {
    uint64_t arrivals : 20, pending : 20, phase : 1, fenced : 1;
    int64_t bytes : 22;  // still expected
};
static_assert(sizeof(Mbarrier) == sizeof(uint64_t));

struct Store {
    TensorMap map;
    int at[5];
    const void* src;
    int group;
    Where where;
    std::vector<unsigned char> box;  // after it was read
};

struct PerThread {
    std::vector<Mbarrier*> unfenced;
    std::vector<Store> stores;
    int store_groups = 0;
};

struct Units {
    std::vector<PerThread> threads;
    std::vector<unsigned char> view;  // of dynamic shared memory; empty until it is used
};
thread_local Units units;

PerThread& mine() {
    return units.threads[size_t(thread_rank())];
}

Mbarrier& state_of(uint64_t* barrier, Where where) {
    check_aligned(barrier, 8, where);
    if (*barrier == ~uint64_t(0)) fail("an mbarrier that was not initialised", where);
    return *reinterpret_cast<Mbarrier*>(barrier);
}

void complete_if_done(Mbarrier& b) {
    if (b.pending != 0 || b.bytes != 0) return;
    b.phase ^= 1;
    b.pending = b.arrivals;
}

TensorMap decode(const CUtensorMap* map, int rank, const void* shared, Where where) {
    TensorMap out;
    std::memcpy(&out, map, sizeof out);
    if (out.magic != kTensorMapMagic) fail("TMA: not a tensor map from cuTensorMapEncodeTiled", where);
    if (out.rank != rank) fail("TMA: the instruction and the tensor map have different numbers of dimensions", where);
    check_aligned(shared, 128, where);
    return out;
}

size_t box_bytes(const TensorMap& map) {
    size_t bytes = map.element_bytes;
    for (int i = 0; i < map.rank; ++i) bytes *= map.box[i];
    return bytes;
}

void check_in_shared(const void* p, size_t bytes, Where where) {
    const auto* const begin = dynamic_shared();
    const auto* const at = static_cast<const unsigned char*>(p);
    const size_t size = dynamic_shared_bytes();
    if (at >= begin && at < begin + size && bytes > size_t(begin + size - at)) {
        fail("TMA: the tile reaches beyond the dynamic shared memory", where);
    }
}

// For each element: visit(offset in the tile without swizzle, element in global memory or null outside the tensor).
template <class Visit>
void for_each_element(const TensorMap& map, const int* at, Visit visit) {
    const size_t row_bytes = size_t(map.box[0]) * map.element_bytes;
    const size_t rows = box_bytes(map) / row_bytes;
    for (size_t row = 0; row < rows; ++row) {
        unsigned char* global = map.base;
        bool inside = true;
        size_t rest = row;
        for (int i = 1; i < map.rank; ++i) {
            const int64_t x = int64_t(at[i]) + int64_t(rest % map.box[i]);
            rest /= map.box[i];
            inside &= x >= 0 && x < int64_t(map.dims[i]);
            if (inside) global += x * int64_t(map.strides[i - 1]);
        }
        for (int c = 0; c < map.box[0]; ++c) {
            const int64_t x = int64_t(at[0]) + c;
            const bool in = inside && x >= 0 && x < int64_t(map.dims[0]);
            visit(row * row_bytes + size_t(c) * map.element_bytes, in ? global + x * map.element_bytes : nullptr);
        }
    }
}

// The swizzle permutes bits of the address in shared memory, not of the offset in the tile.
size_t swizzled(const void* tile, size_t offset, unsigned chunk_mask) {
    const auto base = reinterpret_cast<uintptr_t>(tile);
    const uintptr_t address = base + offset;
    return (address ^ ((address >> 7 & chunk_mask) << 4)) - base;
}

void read_box(Store& store) {
    if (!store.box.empty()) return;
    const Unseen unseen;
    store.box.resize(box_bytes(store.map));
    const unsigned char* const view = async_view(store.src);
    const size_t bytes = store.map.element_bytes;
    for_each_element(store.map, store.at, [&](size_t offset, unsigned char*) {
        std::memcpy(&store.box[offset], view + swizzled(store.src, offset, store.map.chunk_mask), bytes);
    });
}

void write_box(const Store& store) {
    const Unseen unseen;
    const size_t bytes = store.map.element_bytes;
    for_each_element(store.map, store.at, [&](size_t offset, unsigned char* global) {
        if (global) std::memcpy(global, &store.box[offset], bytes);
    });
}

}  // namespace

void begin_tma(int threads) {
    units.threads.assign(size_t(threads), {});
    units.view.clear();
}

void end_tma() {
    for (const PerThread& thread : units.threads) {
        for (const Store& store : thread.stores) {
            if (store.box.empty()) fail("the block ends while a TMA store still reads its shared memory", store.where);
            write_box(store);
        }
    }
}

void mbarrier_init(uint64_t* barrier, unsigned arrivals, Where where) {
    check_aligned(barrier, 8, where);
    if (arrivals < 1 || arrivals >= 1u << 20) fail("mbarrier.init: 1 to 2^20 - 1 arrivals", where);
    happens_before(barrier);
    const Unseen unseen;
    auto& b = *reinterpret_cast<Mbarrier*>(barrier);
    b = {.arrivals = arrivals, .pending = arrivals, .phase = 0, .fenced = 0, .bytes = 0};
    mine().unfenced.push_back(&b);
}

void mbarrier_arrive(uint64_t* barrier, unsigned expected_bytes, Where where) {
    happens_before(barrier);
    const Unseen unseen;
    Mbarrier& b = state_of(barrier, where);
    if (b.pending == 0) fail("more threads arrive at an mbarrier than it was initialised for", where);
    if (b.bytes + int64_t(expected_bytes) >= 1 << 20) fail("an mbarrier expects 2^20 bytes or more", where);
    b.bytes += expected_bytes;
    --b.pending;
    complete_if_done(b);
}

void mbarrier_wait(uint64_t* barrier, unsigned parity, Where where) {
    struct Wait {
        const Mbarrier* barrier;
        unsigned parity;
    };
    {
        const Unseen unseen;
        const Wait wait{&state_of(barrier, where), parity};
        wait_until(
            [](const void* context) {
                const auto& [b, wanted] = *static_cast<const Wait*>(context);
                return b->phase != wanted;
            },
            &wait, "mbarrier_wait", where);
    }
    happens_after(barrier);
}

void fence_mbarrier_init(Where) {
    const Unseen unseen;
    for (Mbarrier* const b : std::exchange(mine().unfenced, {})) b->fenced = 1;
}

unsigned char* async_view(const void* p) {
    auto* const at = static_cast<unsigned char*>(const_cast<void*>(p));
    const auto offset = size_t(at - dynamic_shared());
    if (at < dynamic_shared() || offset >= dynamic_shared_bytes()) return at;
    if (units.view.empty()) units.view.assign(dynamic_shared_bytes(), 0xff);
    return &units.view[offset];
}

void fence_proxy_async(Where where) {
    fence_mbarrier_init(where);
    const Unseen unseen;
    if (const size_t bytes = dynamic_shared_bytes()) {
        std::memcpy(async_view(dynamic_shared()), dynamic_shared(), bytes);
    }
}

void tma_load(void* dst, const CUtensorMap* encoded, const int* at, int rank, uint64_t* barrier, Where where) {
    const Unseen unseen;
    const TensorMap map = decode(encoded, rank, dst, where);
    Mbarrier& b = state_of(barrier, where);
    if (!b.fenced) fail("TMA cannot see this mbarrier: fence_mbarrier_init must follow its mbarrier_init", where);
    struct Coordinates {
        int at[5];
    } first{};
    std::copy_n(at, rank, first.at);
    check_in_shared(dst, box_bytes(map), where);
    std::memset(dst, 0xff, box_bytes(map));
    std::memset(async_view(dst), 0xff, box_bytes(map));
    defer([=, &b, phase = b.phase] {
        if (b.phase != phase) {
            fail("a TMA load lands after the phase of its mbarrier was complete: too few bytes are expected", where);
        }
        unsigned char* const view = async_view(dst);
        for_each_element(map, first.at, [&](size_t offset, const unsigned char* global) {
            const size_t to = swizzled(dst, offset, map.chunk_mask);
            auto* const real = static_cast<unsigned char*>(dst) + to;
            if (global) {
                std::memcpy(real, global, map.element_bytes);
            } else {
                std::memset(real, 0, map.element_bytes);
            }
            std::memcpy(view + to, real, map.element_bytes);
        });
        b.bytes -= int64_t(box_bytes(map));
        complete_if_done(b);
    });
}

void tma_store(const CUtensorMap* encoded, const int* at, int rank, const void* src, Where where) {
    const Unseen unseen;
    PerThread& thread = mine();
    Store store{decode(encoded, rank, src, where), {}, src, thread.store_groups, where, {}};
    std::copy_n(at, rank, store.at);
    check_in_shared(src, box_bytes(store.map), where);
    if (seed() % 2 == 1) read_box(store);  // at once or as late as possible: each finds other missing waits
    thread.stores.push_back(std::move(store));
}

void tma_store_commit() {
    const Unseen unseen;
    ++mine().store_groups;
}

void tma_store_wait(int pending, bool read_only) {
    const Unseen unseen;
    PerThread& thread = mine();
    const int end = thread.store_groups - pending;
    for (Store& store : thread.stores) {
        if (store.group < end) read_box(store);
    }
    if (read_only) return;
    std::erase_if(thread.stores, [&](const Store& store) {
        if (store.group < end) write_box(store);
        return store.group < end;
    });
}

}  // namespace simt
