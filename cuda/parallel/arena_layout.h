#pragma once
// The layout of the arenas of a model in device memory, and which parts of them each rank has. Tensors are communicated
// in buckets. The forward and backward passes finish the buckets one after the other.
#include <algorithm>
#include <cstddef>
#include <vector>

#include "cpu_reference/interface/tensors.h"

namespace kiln {

// Bucket 0 is the embeddings, 1 + l is block l, and 1 + L is the final norm, and the LM head if it is not tied.
inline int bucket_of(const TensorSpec& spec, const ModelConfig& c) {
    if (spec.layer >= 0) return 1 + spec.layer;
    return spec.group == ParamGroup::embedding ? 0 : 1 + c.L;
}

// A contiguous range of an arena, and where it begins in the memory of a rank that has only one part of the arena.
struct Stretch {
    size_t begin, elems;
    size_t begin_in_part;
};

// Every bucket is divided into `parts` parts of equal size, one for each rank. A rank's part of the arena is its parts
// of all buckets, one after the other. With parts = 1 (ZeRO stage 0) each rank has the whole arena.
struct ArenaLayout {
    // `config` must have the padded vocabulary. parts = 1 adds no padding between buckets.
    ArenaLayout(const ModelConfig& config, int parts, int part);

    int parts, part;
    std::vector<TensorSpec> tensors;  // with their offsets on the device
    std::vector<Stretch> buckets;     // begin_in_part is the same in every part
    size_t elems;                     // of a whole arena, padding included

    size_t part_elems() const { return elems / parts; }
    // The part of a bucket that rank `of` has.
    Stretch part_of(const Stretch& bucket, int of) const {
        const size_t n = bucket.elems / parts;
        return {bucket.begin + of * n, n, bucket.begin_in_part};
    }
    // What this rank updates: its part of each bucket, or the whole arena if parts = 1.
    std::vector<Stretch> own() const;

    // Splits [begin, begin + n) at the borders of the parts, and calls visit(part, begin_in_part, first, n) for each
    // range. `first` counts from `begin`.
    template <class Visit>
    void for_each_part(size_t begin, size_t n, Visit visit) const {
        for (const Stretch& bucket : buckets) {
            for (int p = 0; p < parts; p++) {
                const Stretch s = part_of(bucket, p);
                const size_t from = std::max(begin, s.begin), to = std::min(begin + n, s.begin + s.elems);
                if (from < to) visit(p, s.begin_in_part + (from - s.begin), from - begin, to - from);
            }
        }
    }
};

}  // namespace kiln
