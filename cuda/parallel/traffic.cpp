#include "cuda/parallel/traffic.h"

#include <algorithm>

namespace kiln {

uint64_t step_bytes_sent(const ArenaLayout& layout, const TrafficOptions& o) {
    // In a reduce_scatter or an all_gather of n elements, a rank sends n (ranks - 1) / ranks of them; in an all_reduce,
    // twice as many.
    const auto sent = [&](uint64_t elems, uint64_t bytes) { return elems * bytes * (o.ranks - 1) / o.ranks; };
    const uint64_t gradients = sent(layout.elems, o.gradient_bytes), params = sent(layout.elems, o.param_bytes);
    switch (o.stage) {
        case 0: return 2 * gradients;
        case 1: return gradients + params;
        case 2: return o.micro_batches * gradients + params;
        default: break;
    }
    // Two blocks are in the windows when a pass begins, so a pass fetches all blocks except two. The update changes the
    // parameters, so it fetches the two blocks in the windows again, and the buckets that have no window.
    const uint64_t blocks = layout.buckets.size() - 2, block = layout.buckets[1].elems;
    const uint64_t kept = std::min<uint64_t>(blocks, 2);
    const uint64_t fetched = o.micro_batches * 2 * (blocks - kept) * block;
    return o.micro_batches * gradients + sent(fetched + layout.elems - (blocks - kept) * block, o.param_bytes);
}

}  // namespace kiln
