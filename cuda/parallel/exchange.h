#pragma once
// Queues the collectives of a training step on a stream of its own, so that they overlap with the passes. Stage 0 sums
// whole gradients. In stage 1 each rank has only a part of the optimizer state, in stage 2 also of the gradients, and
// in stage 3 also of the parameters (ZeRO, arXiv:1910.02054).
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
    // `passes` is the stream of the passes. narrow: float32 gradients are sent as E.
    Exchange(Communicator& ranks, const ArenaLayout& layout, int stage, bool narrow,
             const ExchangedMemory<E, G>& memory, cudaStream_t passes);

    // The size of the buffers that the constructor allocates.
    static size_t bytes(const ArenaLayout& layout, int stage, bool narrow);

    // Called before a forward pass, and before a backward pass. `accumulate`: an earlier micro-batch of this step has
    // gradients, to which this pass adds. `last`: this is the last micro-batch of the step.
    void begin_forward() { direction_ = 1; }
    void begin_backward(bool accumulate, bool last);
    void before_params(int bucket) override;
    void after_params(int bucket) override;
    void before_gradients(int bucket) override;
    void after_gradients(int bucket) override;
    // The stream of the passes waits for all collectives that were queued before.
    void join();

    // *value (in device memory) = its sum over the ranks. It is queued on the stream of the passes.
    void sum(float* value) { communicator_.all_reduce(value, value, 1, passes_); }
    // Call it when the optimizer has changed this rank's part of the bucket: the other ranks get the new parameters.
    void updated(int bucket);
    // Call it when parameters were written from outside: stage 3 then fetches every bucket again when it is needed.
    void written() { holds_.fill(-1); }

    DeviceCommunicator& communicator() { return communicator_; }

private:
    bool is_window(int bucket) const { return bucket > 0 && bucket < int(layout_.buckets.size()) - 1; }
    // Buckets that share memory have the same slot.
    int slot(int bucket) const { return is_window(bucket) ? 1 + bucket % 2 : bucket == 0 ? 0 : 3; }
    void gather(int bucket);
    void reduce_to_part(const G* bucket, G* part, size_t part_elems);
    // Collectives that are queued from now on wait for the work that the passes have queued.
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
    bool joined_ = true;                        // the passes already wait for all queued collectives
    std::vector<Event> gathered_;               // by bucket: recorded when its parameters have arrived
    std::array<Event, 4> reduced_;              // by slot: recorded when its gradients may be overwritten
    std::array<int, 4> holds_{-1, -1, -1, -1};  // stage 3, by slot: the bucket whose parameters are in it; -1: none
    int direction_ = 1;                         // 1 in a forward pass, -1 in a backward pass
    bool accumulate_ = false, last_ = false;
    DeviceBuffer<E> narrow_grads_;  // the gradients of one bucket, as they are sent
    DeviceBuffer<G> partial_;       // stages 2 and 3: this rank's part of a bucket, before it is added to own_grads
};

}  // namespace kiln
