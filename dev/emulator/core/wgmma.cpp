// wgmma: matmuls that are pending until the kernel waits for them. Each warp has 16 of the 64 rows.
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "dev/emulator/core/hopper.h"
#include "dev/emulator/core/internal.h"

namespace simt {

namespace {

constexpr int kK = 16, kRows = 16, kLanes = 32;

// A (16, N) float32 accumulator. While wgmma uses it, the registers of the warp hold NaN.
struct Accumulator {
    std::array<float*, kLanes> d;
    int N, group;
    std::vector<float> value;
    Where where;
};

struct Matmul {
    WgmmaOp op;
    int group, quarter;
    std::array<std::array<uint32_t, 4>, kLanes> a;  // its fragments if A is in registers
    bool done = false;
};

struct Warp {
    std::vector<Accumulator> accumulators;
    std::vector<Matmul> pending;
    int group = 0, completed = 0;
    uint32_t fenced = 0;  // lanes
};
thread_local std::vector<Warp> warps;

Warp& mine() {
    return warps[size_t(thread_rank() / kLanes)];
}

// An element of an operand in shared memory; `at` is its index along M or N. The layouts are those of "PTX ISA",
// section "Shared Memory Matrix Layout". The swizzle acts on the address, as in TMA.
float element(uint64_t descriptor, int at, int k, bool transposed, float (*to_float)(uint16_t)) {
    const auto field = [&](int bit) { return size_t(descriptor >> bit & 0x3fff) << 4; };
    const size_t leading = field(16), stride = field(32);
    const unsigned mode = unsigned(descriptor >> 62);
    const size_t span = mode == 0 ? 16 : size_t(256) >> mode, chunks = span / 16;
    const auto [i, j] = std::pair(size_t(at), size_t(k));
    size_t address = field(0);
    if (transposed) {  // MN-major
        const size_t chunk = i / 8;
        address += i % 8 * 2 + j % 8 * span;
        address += mode == 0 ? chunk * stride + j / 8 * leading
                             : chunk % chunks * 16 + chunk / chunks * leading + j / 8 * stride;
    } else {
        address += i % 8 * span + i / 8 * stride;
        address += mode == 0 ? j / 8 * leading + j % 8 * 2 : j * 2;
    }
    address ^= (address >> 7 & (chunks - 1)) << 4;
    if (address + 2 > dynamic_shared_bytes()) return NAN;  // the wrong result shows it
    uint16_t bits;
    std::memcpy(&bits, async_view(dynamic_shared()) + address, 2);
    return to_float(bits);
}

void compute(Warp& warp, Matmul& matmul) {
    if (std::exchange(matmul.done, true)) return;
    const WgmmaOp& op = matmul.op;
    float a[kRows][kK];
    std::vector<float> b(size_t(kK) * size_t(op.N));
    for (int k = 0; k < kK; ++k) {
        for (int r = 0; r < kRows; ++r) {
            if (op.a) {
                const int lane = r % 8 * 4 + k % 8 / 2, i = r / 8 + k / 8 * 2;
                a[r][k] = op.to_float(uint16_t(matmul.a[size_t(lane)][size_t(i)] >> (16 * (k % 2))));
            } else {
                a[r][k] = element(op.a_descriptor, matmul.quarter * kRows + r, k, op.a_transposed, op.to_float);
            }
        }
        for (int n = 0; n < op.N; ++n) {
            b[size_t(k * op.N + n)] = element(op.b_descriptor, n, k, op.b_transposed, op.to_float);
        }
    }
    auto& value = std::find_if(warp.accumulators.begin(), warp.accumulators.end(), [&](const auto& x) {
                      return x.d[0] == op.d;
                  })->value;
    std::vector<float> sums(size_t(op.N));
    for (int r = 0; r < kRows; ++r) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int k = 0; k < kK; ++k) {
            for (int n = 0; n < op.N; ++n) sums[size_t(n)] += a[r][k] * b[size_t(k * op.N + n)];
        }
        for (int n = 0; n < op.N; ++n) {
            float& to = value[size_t(r * op.N + n)];
            to = (op.add ? to : 0.0f) + sums[size_t(n)];
        }
    }
}

// Calls visit(register of a lane, element of the accumulator) for each element.
template <class Visit>
void for_each_register(Accumulator& x, Visit visit) {
    for (int lane = 0; lane < kLanes; ++lane) {
        for (int i = 0; i < x.N / 2; ++i) {
            const int row = lane / 4 + 8 * (i / 2 % 2), column = i / 4 * 8 + lane % 4 * 2 + i % 2;
            visit(x.d[size_t(lane)][i], x.value[size_t(row * x.N + column)]);
        }
    }
}

// Takes the registers of one warp as an accumulator. If it is one already, the kernel must not have touched them.
const char* borrow(Warp& warp, const std::array<float*, kLanes>& d, int N, Where where) {
    const float nan = std::bit_cast<float>(~0u);
    const auto known =
        std::find_if(warp.accumulators.begin(), warp.accumulators.end(), [&](const auto& x) { return x.d == d; });
    if (known != warp.accumulators.end()) {
        if (known->N != N) return "wgmma with two widths into one accumulator without a wait";
        bool touched = false;
        for_each_register(*known, [&](float& held, float&) { touched |= std::bit_cast<uint32_t>(held) != ~0u; });
        known->group = warp.group;
        return touched ? "the accumulator of a wgmma was touched before the wait" : nullptr;
    }
    warp.accumulators.push_back({d, N, warp.group, std::vector<float>(size_t(kRows * N)), where});
    auto& fresh = warp.accumulators.back();
    for_each_register(fresh, [&](float& held, float& value) { value = std::exchange(held, nan); });
    return nullptr;
}

struct Issue {
    WgmmaOp op;
    Where where;
    const char* error = nullptr;
};

void issue(void* const* args) {
    const auto of = [&](int i) -> Issue& { return *static_cast<Issue*>(args[i]); };
    const WgmmaOp& first = of(0).op;
    const size_t first_warp = size_t(thread_rank() / 128 * 4);
    for (int quarter = 0; quarter < 4; ++quarter) {
        Warp& warp = warps[first_warp + size_t(quarter)];
        Matmul matmul{of(quarter * kLanes).op, warp.group, quarter, {}};
        std::array<float*, kLanes> d;
        for (int lane = 0; lane < kLanes; ++lane) {
            const WgmmaOp& op = of(quarter * kLanes + lane).op;
            if (op.a_descriptor != first.a_descriptor || op.b_descriptor != first.b_descriptor || op.N != first.N ||
                op.add != first.add) {
                of(0).error = "wgmma: the threads of a warpgroup differ in descriptors or in scale-d";
            }
            d[size_t(lane)] = op.d;
            if (op.a) std::copy_n(op.a, 4, matmul.a[size_t(lane)].begin());
        }
        if (warp.fenced != ~0u) of(0).error = "wgmma without a wgmma_fence after the last wait";
        if (const char* const error = borrow(warp, d, first.N, of(0).where)) of(0).error = error;
        warp.pending.push_back(matmul);
        if (seed() % 2 == 1) compute(warp, warp.pending.back());  // at once or when its group completes
    }
    for (int i = 1; i < 128; ++i) of(i).error = of(0).error;
}

}  // namespace

void begin_wgmma(int threads) {
    warps.assign(size_t(threads + kLanes - 1) / kLanes, {});
}

void end_wgmma() {
    for (const Warp& warp : warps) {
        if (!warp.accumulators.empty()) {
            fail("the block ends without waiting for a wgmma", warp.accumulators[0].where);
        }
    }
}

uint32_t shared_offset(const void* p, Where where) {
    const auto offset = size_t(static_cast<const unsigned char*>(p) - dynamic_shared());
    if (offset >= dynamic_shared_bytes()) fail("wgmma: an operand outside the dynamic shared memory", where);
    check_aligned(p, 16, where);
    return uint32_t(offset);
}

void wgmma_fence(Where) {
    const Unseen unseen;
    mine().fenced |= 1u << lane();
}

void wgmma(const WgmmaOp& op, Where where) {
    Issue mine{op, where};
    warpgroup_barrier(&mine, issue, "wgmma", where);
    if (mine.error) fail(mine.error, where);
}

// The tensor cores complete a group when no thread can continue, or when the seed decides so. Until then the kernel
// must not change the operands.
void wgmma_commit(Where where) {
    warp_barrier(
        ~0u, nullptr,
        [](void* const*, uint32_t) {
            ++mine().group;
            defer([&warp = mine()] {
                for (Matmul& matmul : warp.pending) {
                    if (matmul.group == warp.completed) compute(warp, matmul);
                }
                std::erase_if(warp.pending, [&](const auto& matmul) { return matmul.group == warp.completed; });
                ++warp.completed;
            });
        },
        "wgmma_commit", where);
}

void wgmma_wait(int pending, Where where) {
    struct Wait {
        const Warp& warp;
        int end;
    };
    const Unseen unseen;
    const Wait wait{mine(), mine().group - pending};
    wait_until(
        [](const void* context) {
            const auto& [warp, end] = *static_cast<const Wait*>(context);
            return warp.completed >= end;
        },
        &wait, "wgmma_wait", where);
    int end = wait.end;
    warp_barrier(
        ~0u, &end,
        [](void* const* args, uint32_t) {
            Warp& warp = mine();
            const int end = *static_cast<int*>(args[lane()]);
            const size_t freed = std::erase_if(warp.accumulators, [&](Accumulator& x) {
                if (x.group < end) for_each_register(x, [](float& held, float& value) { held = value; });
                return x.group < end;
            });
            if (freed > 0) warp.fenced = 0;
        },
        "wgmma_wait", where);
}

}  // namespace simt
