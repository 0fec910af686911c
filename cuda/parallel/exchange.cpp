#include "cuda/parallel/exchange.h"

#include <type_traits>

#include "cuda/device/element_types.h"
#include "cuda/kernels/kernels.h"

namespace kiln {
namespace {

size_t largest_bucket(const ArenaLayout& layout) {
    return std::ranges::max_element(layout.buckets, {}, &Stretch::elems)->elems;
}

}  // namespace

template <class E, class G>
Exchange<E, G>::Exchange(Communicator& ranks, const ArenaLayout& layout, int stage, bool narrow,
                         const ExchangedMemory<E, G>& memory, cudaStream_t passes)
    : communicator_(ranks),
      layout_(layout),
      stage_(stage),
      narrow_(narrow && !std::is_same_v<E, G>),
      memory_(memory),
      passes_(passes) {
    for (size_t b = 0; b < layout.buckets.size(); b++) gathered_.emplace_back(cudaEventDisableTiming);
    if (narrow_) narrow_grads_ = DeviceBuffer<E>(largest_bucket(layout));
    if (stage >= 2) partial_ = DeviceBuffer<G>(largest_bucket(layout) / layout.parts);
}

template <class E, class G>
size_t Exchange<E, G>::bytes(const ArenaLayout& layout, int stage, bool narrow) {
    const size_t largest = largest_bucket(layout);
    return (narrow && !std::is_same_v<E, G> ? largest * sizeof(E) : 0) +
           (stage >= 2 ? largest / layout.parts * sizeof(G) : 0);
}

template <class E, class G>
void Exchange<E, G>::begin_backward(bool accumulate, bool last) {
    direction_ = -1;
    accumulate_ = accumulate;
    last_ = last;
}

// Collects the parameters of a bucket from the parts of all ranks.
template <class E, class G>
void Exchange<E, G>::gather(int bucket) {
    const Stretch part = layout_.part_of(layout_.buckets[bucket], layout_.part);
    E* const whole = memory_.params->bucket(bucket);
    const E* const own = stage_ == 3 ? memory_.own_params + part.begin_in_part : whole + layout_.part * part.elems;
    communicator_.all_gather(own, whole, part.elems, stream_);
    gathered_[bucket].record(stream_);
    holds_[slot(bucket)] = bucket;
}

template <class E, class G>
void Exchange<E, G>::before_params(int bucket) {
    if (stage_ == 0) return;
    if (stage_ == 3 && holds_[slot(bucket)] != bucket) {
        follow_passes();  // they may still read what the memory holds now
        gather(bucket);
    }
    CUDA_CHECK(cudaStreamWaitEvent(passes_, gathered_[bucket], 0));
}

// The block after the next one has the same window, which is now free. It is fetched while the next block is computed.
template <class E, class G>
void Exchange<E, G>::after_params(int bucket) {
    const int next = bucket + 2 * direction_;
    if (stage_ < 3 || !is_window(bucket) || !is_window(next)) return;
    follow_passes();
    gather(next);
}

template <class E, class G>
void Exchange<E, G>::before_gradients(int bucket) {
    if (stage_ < 2) return;
    CUDA_CHECK(cudaStreamWaitEvent(passes_, reduced_[slot(bucket)], 0));
}

template <class E, class G>
void Exchange<E, G>::reduce_to_part(const G* bucket, G* part, size_t part_elems) {
    if constexpr (!std::is_same_v<E, G>) {
        if (narrow_) {
            E* const narrow = narrow_grads_.get();
            cast(narrow, bucket, part_elems * layout_.parts, stream_);
            communicator_.reduce_scatter(narrow, narrow + layout_.part * part_elems, part_elems, stream_);
            cast(part, narrow + layout_.part * part_elems, part_elems, stream_);
            return;
        }
    }
    communicator_.reduce_scatter(bucket, part, part_elems, stream_);
}

template <class E, class G>
void Exchange<E, G>::after_gradients(int bucket) {
    if (stage_ < 2 && !last_) return;
    follow_passes();
    G* const grads = memory_.grads->bucket(bucket);
    const Stretch part = layout_.part_of(layout_.buckets[bucket], layout_.part);
    if (stage_ == 1) {
        reduce_to_part(grads, grads + layout_.part * part.elems, part.elems);
    } else if (stage_ >= 2) {
        G* const own = memory_.own_grads + part.begin_in_part;
        reduce_to_part(grads, accumulate_ ? partial_.get() : own, part.elems);
        if (accumulate_) add(own, partial_.get(), part.elems, stream_);
        reduced_[slot(bucket)].record(stream_);
    } else {
        const size_t n = layout_.buckets[bucket].elems;
        if constexpr (!std::is_same_v<E, G>) {
            if (narrow_) {
                cast(narrow_grads_.get(), grads, n, stream_);
                communicator_.all_reduce(narrow_grads_.get(), narrow_grads_.get(), n, stream_);
                return cast(grads, narrow_grads_.get(), n, stream_);
            }
        }
        communicator_.all_reduce(grads, grads, n, stream_);
    }
}

template <class E, class G>
void Exchange<E, G>::join() {
    if (joined_) return;  // also because a captured stream must not wait for a stream that is not captured
    exchanged_.record(stream_);
    CUDA_CHECK(cudaStreamWaitEvent(passes_, exchanged_, 0));
    joined_ = true;
}

template <class E, class G>
void Exchange<E, G>::updated(int bucket) {
    if (stage_ == 0) return;
    if (stage_ == 3 && holds_[slot(bucket)] != bucket) return;  // a pass fetches it when it needs it
    follow_passes();
    gather(bucket);
}

#define KILN_EXCHANGE(E, G) template class Exchange<E, G>;
KILN_FOR_GRADIENT_TYPES(KILN_EXCHANGE)

}  // namespace kiln
