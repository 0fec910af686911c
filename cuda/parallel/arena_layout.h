#pragma once
// How the arenas of a model lie on the device, and which parts of them each rank has. Tensors are communicated in
// buckets, which the passes over the model finish one after the other.
#include <algorithm>
#include <cstddef>
#include <vector>

#include "cpu_reference/interface/tensors.h"

namespace kiln {

// Bucket 0: the embeddings; 1 + l: block l; 1 + L: the final norm, and the LM head if it is not tied.
inline int bucket_of(const TensorSpec& spec, const ModelConfig& c) {
    if (spec.layer >= 0) return 1 + spec.layer;
    return spec.group == ParamGroup::embedding ? 0 : 1 + c.L;
}

// A stretch of an arena, and where it lies in the memory of a rank that has one part of the arena only.
struct Stretch {
    size_t begin, elems;
    size_t begin_in_part;
};

// Every bucket is divided into `parts` parts of equal size. The part of a rank has its parts of all buckets.
struct ArenaLayout {
    // `config` is padded. parts = 1 adds no padding between buckets.
    ArenaLayout(const ModelConfig& config, int parts, int part);

    int parts, part;
    std::vector<TensorSpec> tensors;  // their offsets are those on the device
    std::vector<Stretch> buckets;     // begin_in_part is that of any part
    size_t elems;                     // of a whole arena, padding included

    size_t part_elems() const { return elems / parts; }
    // Part `of` of a bucket.
    Stretch part_of(const Stretch& bucket, int of) const {
        const size_t n = bucket.elems / parts;
        return {bucket.begin + of * n, n, bucket.begin_in_part};
    }
    // What this rank updates: its part of each bucket, or the arena as a whole if that is one part.
    std::vector<Stretch> own() const;

    // Calls visit(part, begin_in_part, first, n) for each stretch of [begin, begin + n) that is in one part; `first`
    // counts from `begin`.
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
