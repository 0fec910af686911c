#pragma once
// Device memory of an arena. A pass uses the buckets of the arena one after the other.
#include <algorithm>
#include <vector>

#include "cuda/device/handles.h"
#include "cuda/parallel/arena_layout.h"

namespace kiln {

// Without `windows`, every bucket has memory of its own. With `windows`, only the first and the last bucket do, and the
// blocks share two windows: blocks with an even number use the first window, the others the second one.
template <class T>
class BucketMemory {
public:
    BucketMemory() = default;
    BucketMemory(const ArenaLayout& layout, bool windows) : data_(elems(layout, windows)) {
        const size_t last = layout.buckets.size() - 1;
        T* next = data_.get();
        const auto take = [&](size_t bucket) {
            T* const begin = next;
            next += layout.buckets[bucket].elems;
            return begin;
        };
        for (size_t b = 0; b <= last; b++) {
            const bool shares = windows && b > 2 && b < last;
            base_.push_back(shares ? base_[b - 2] : take(b));
        }
    }
    static size_t elems(const ArenaLayout& layout, bool windows) {
        const size_t last = layout.buckets.size() - 1;
        size_t n = 0;
        for (size_t b = 0; b <= last; b++) n += windows && b > 2 && b < last ? 0 : layout.buckets[b].elems;
        return n;
    }

    T* bucket(size_t index) const { return base_[index]; }
    T* data() const { return data_.get(); }
    size_t elems() const { return data_.size(); }

private:
    DeviceBuffer<T> data_;
    std::vector<T*> base_;
};

// The pointers to all tensors in `memory`.
template <class T>
Params<T> bind_params(const ModelConfig& padded_config, const ArenaLayout& layout, const BucketMemory<T>& memory) {
    Params<T> p{};
    size_t i = 0;
    for_each_param(padded_config, p, [&](T*& field, const TensorSpec& spec) {
        const int b = bucket_of(spec, padded_config);
        field = memory.bucket(b) + (layout.tensors[i++].offset - layout.buckets[b].begin);
    });
    return p;
}

}  // namespace kiln
