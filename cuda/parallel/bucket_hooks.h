#pragma once
// The functions that a forward or backward pass calls before and after it uses a bucket (cuda/parallel/arena_layout.h),
// so that ranks can communicate while it computes. They only queue work on streams.

namespace kiln {

class BucketHooks {
public:
    virtual ~BucketHooks() = default;
    // The work that the pass queues from now on reads the parameters of the bucket.
    virtual void before_params(int bucket) = 0;
    // All work of this pass that reads these parameters has been queued.
    virtual void after_params(int bucket) = 0;
    // The same two for the work that writes the gradients of the bucket.
    virtual void before_gradients(int bucket) = 0;
    virtual void after_gradients(int bucket) = 0;
};

}  // namespace kiln
