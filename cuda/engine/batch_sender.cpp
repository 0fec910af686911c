#include "cuda/engine/batch_sender.h"

#include <algorithm>

#include "cpu_reference/interface/engine_checks.h"

namespace kiln {
namespace {

// counts (4, two of them used: what follows keeps its alignment), tokens (N), targets (N), order (N), chunks (N),
// groups: in pinned and in device memory alike.
constexpr size_t kCounts = 4;
size_t max_groups(int N) {
    return size_t(TokenOrder::max_partials(N)) + 1;
}
size_t words(int N) {
    return kCounts + 3 * size_t(N) + (size_t(N) + max_groups(N)) * (sizeof(TokenChunk) / sizeof(int));
}
TokenChunk* chunks(int* base, int N) {
    return reinterpret_cast<TokenChunk*>(base + kCounts + 3 * size_t(N));
}

}  // namespace

BatchSender::BatchSender(int N, int V) : N_(N), V_(V) {
    for (Set& set : sets_) {
        set.host = PinnedBuffer<int>(words(N));
        set.device = DeviceBuffer<int>(words(N));
    }
}

size_t BatchSender::device_bytes(int N) {
    return 2 * words(N) * sizeof(int);
}

DeviceBatch BatchSender::send(const Batch& batch, cudaStream_t stream, Profiler* profiler) {
    const int64_t counted = check_batch(batch, N_, V_);
    const TokenOrder order = sort_tokens(batch.tokens, N_, V_);

    Set& set = sets_[next_ % sets_.size()];
    set.copied.synchronize();  // then its pinned memory is free
    int* const host = set.host.get();
    host[0] = int(order.chunks.size());
    host[1] = int(order.groups.size());
    int* const tokens = host + kCounts;
    std::copy_n(batch.tokens, N_, tokens);
    std::copy_n(batch.targets, N_, tokens + N_);
    std::ranges::copy(order.order, tokens + 2 * size_t(N_));
    std::ranges::copy(order.chunks, chunks(host, N_));
    std::ranges::copy(order.groups, chunks(host, N_) + N_);
    CUDA_CHECK(cudaStreamWaitEvent(copies_, set.used, 0));  // then its device memory is free
    CUDA_CHECK(cudaMemcpyAsync(set.device.get(), host, set.device.bytes(), cudaMemcpyHostToDevice, copies_));
    set.copied.record(copies_);
    {
        const GroupRange range(profiler, Group::copies, stream);
        CUDA_CHECK(cudaStreamWaitEvent(stream, set.copied, 0));
    }

    int* const device = set.device.get();
    const int* const on_device = device + kCounts;
    return {.tokens = on_device,
            .targets = on_device + N_,
            .rows = {.order = on_device + 2 * size_t(N_),
                     .chunks = chunks(device, N_),
                     .groups = chunks(device, N_) + N_,
                     .counts = device},
            .set = next_ % sets_.size(),
            .targets_counted = counted};
}

void BatchSender::used(cudaStream_t stream) {
    sets_[next_++ % sets_.size()].used.record(stream);
}

}  // namespace kiln
