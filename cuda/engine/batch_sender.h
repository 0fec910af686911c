#pragma once
// Micro-batches on their way to the device, behind the computation.
#include <array>
#include <cstddef>

#include "cpu_reference/interface/engine.h"
#include "cuda/device/handles.h"
#include "cuda/engine/decoder.h"

namespace kiln {

struct DeviceBatch {
    const int *tokens, *targets;  // (B, T)
    TokenRows rows;
    size_t set;               // which set of buffers holds it: the same set, the same addresses
    int64_t targets_counted;  // that are not -1
};

// Two sets of buffers take turns: while one is computed with, the next micro-batch is copied into the other.
class BatchSender {
public:
    static constexpr size_t kSets = 2;
    BatchSender(int N, int V);
    // Copies the batch and what the kernels need with it; what `stream` is given next waits for it. Throws Error on a
    // token or target outside the vocabulary.
    DeviceBatch send(const Batch& batch, cudaStream_t stream, Profiler* profiler = nullptr);
    // Everything that reads the batch of the last send() has been queued on `stream`.
    void used(cudaStream_t stream);

    static size_t device_bytes(int N);

private:
    struct Set {
        PinnedBuffer<int> host;
        DeviceBuffer<int> device;
        Event copied{cudaEventDisableTiming}, used{cudaEventDisableTiming};
    };
    int N_, V_;
    Stream copies_;
    std::array<Set, kSets> sets_;
    size_t next_ = 0;
};

}  // namespace kiln
