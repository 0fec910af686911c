#pragma once
// What the ranks exchange in a training step, on a stream of its own, while the stream of the passes goes on. Stage 0
// sums whole gradients. In stage 1 a rank has a part of the optimizer state, in stage 2 of the gradients too, and in
// stage 3 of the parameters too (arXiv:1910.02054).
#include <array>
#include <vector>

#include "cuda/parallel/bucket_hooks.h"
#include "cuda/parallel/bucket_memory.h"
#include "cuda/parallel/device_communicator.h"

namespace kiln {

// The memory that is exchanged. It must outlive the exchange.
template <class E, class G>
struct ExchangedMemory {
    const BucketMemory<E>* params;  // with windows in stage 3
    E* own_params;                  // stage 3: this rank's part
    const BucketMemory<G>* grads;   // with windows in stages 2 and 3; null without training
    G* own_grads;                   // stages 2 and 3: this rank's part
};

template <class E, class G>
class Exchange final : public BucketHooks {
public:
    // `passes` is the stream of the passes. narrow: float32 gradients travel as E.
    Exchange(Communicator& ranks, const ArenaLayout& layout, int stage, bool narrow,
             const ExchangedMemory<E, G>& memory, cudaStream_t passes);

    // Of the buffers that it makes.
    static size_t bytes(const ArenaLayout& layout, int stage, bool narrow);

    // Before a forward pass, and before a backward pass. `accumulate`: the gradients of the step are not empty. `last`:
    // this pass completes them.
    void begin_forward() { direction_ = 1; }
    void begin_backward(bool accumulate, bool last);
    void before_params(int bucket) override;
    void after_params(int bucket) override;
    void before_gradients(int bucket) override;
    void after_gradients(int bucket) override;
    // The passes wait until all that was exchanged has arrived.
    void join();

    // *value (on the device) = its sum over the ranks, on the stream of the passes.
    void sum(float* value) { communicator_.all_reduce(value, value, 1, passes_); }
    // The optimizer has changed this rank's part of the bucket.
    void updated(int bucket);
    // The parts have been written from outside: stage 3 fetches every bucket when it is needed.
    void written() { holds_.fill(-1); }

    DeviceCommunicator& communicator() { return communicator_; }

private:
    bool is_window(int bucket) const { return bucket > 0 && bucket < int(layout_.buckets.size()) - 1; }
    // Buckets that share memory have the same slot.
    int slot(int bucket) const { return is_window(bucket) ? 1 + bucket % 2 : bucket == 0 ? 0 : 3; }
    void gather(int bucket);
    void reduce_to_part(const G* bucket, G* part, size_t part_elems);
    // What is exchanged from now on waits for what the passes have queued.
    void follow_passes() {
        computed_.record(passes_);
        CUDA_CHECK(cudaStreamWaitEvent(stream_, computed_, 0));
        joined_ = false;
    }

    DeviceCommunicator communicator_;
    const ArenaLayout& layout_;
    int stage_;
    bool narrow_;
    ExchangedMemory<E, G> memory_;
    cudaStream_t passes_;
    Stream stream_;
    Event computed_{cudaEventDisableTiming}, exchanged_{cudaEventDisableTiming};
    bool joined_ = true;                        // the passes wait for all that is exchanged
    std::vector<Event> gathered_;               // of each bucket
    std::array<Event, 4> reduced_;              // of each slot: the gradients in it may be overwritten
    std::array<int, 4> holds_{-1, -1, -1, -1};  // stage 3: the bucket whose parameters a slot has; -1: none
    int direction_ = 1;                         // the next block is the one after this, or before it
    bool accumulate_ = false, last_ = false;
    DeviceBuffer<E> narrow_grads_;  // a bucket
    DeviceBuffer<G> partial_;       // stages 2 and 3: a part of a bucket that is added to own_grads
};

}  // namespace kiln
