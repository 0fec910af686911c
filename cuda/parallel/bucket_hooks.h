#pragma once
// What a pass over the model calls at the buckets of cuda/parallel/arena_layout.h, so that ranks can communicate while
// it computes. Everything is only queued.

namespace kiln {

class BucketHooks {
public:
    virtual ~BucketHooks() = default;
    // The work that is queued from now on reads the parameters of the bucket.
    virtual void before_params(int bucket) = 0;
    // It has been queued; this pass does not read them again.
    virtual void after_params(int bucket) = 0;
    // The same of work that writes the gradients of the bucket.
    virtual void before_gradients(int bucket) = 0;
    virtual void after_gradients(int bucket) = 0;
};

}  // namespace kiln
