#pragma once
// Copies micro-batches to the device while the device computes.
#include <array>
#include <cstddef>

#include "cpu_reference/interface/engine.h"
#include "cuda/device/handles.h"
#include "cuda/engine/decoder.h"

namespace kiln {

struct DeviceBatch {
    const int *tokens, *targets;  // (B, T)
    TokenRows rows;
    size_t set;               // which set of buffers holds it; a set always has the same addresses
    int64_t targets_counted;  // targets that are not -1
};

// Two sets of buffers alternate: while the device computes with one, the next micro-batch is copied into the other.
class BatchSender {
public:
    static constexpr size_t kSets = 2;
    BatchSender(int N, int V);
    // Copies the batch and the order of its tokens. Work that is queued on `stream` afterwards waits for the copy.
    // Throws Error on a token or target outside the vocabulary.
    DeviceBatch send(const Batch& batch, cudaStream_t stream, Profiler* profiler = nullptr);
    // Call it when everything that reads the batch of the last send() is queued on `stream`.
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
