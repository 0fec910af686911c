#include "cuda/parallel/arena_layout.h"

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

// The number of elements of a part is a multiple of this, so that parts begin at whole cache lines in every type.
constexpr size_t kPartElems = 128;

}  // namespace

ArenaLayout::ArenaLayout(const ModelConfig& config, int parts_, int part_)
    : parts(parts_), part(part_), tensors(param_table(config)), elems(0) {
    KILN_CHECK(parts >= 1 && part >= 0 && part < parts, "layout: there is no part ", part, " of ", parts);
    const size_t unit = parts > 1 ? parts * kPartElems : 1;
    for (TensorSpec& spec : tensors) {
        const int bucket = bucket_of(spec, config);
        if (bucket >= int(buckets.size())) {
            elems = (elems + unit - 1) / unit * unit;
            buckets.resize(bucket + 1, {elems, 0, elems / parts});
        }
        spec.offset = elems;
        elems += spec.elems();
        buckets.back().elems = elems - buckets.back().begin;
    }
    elems = (elems + unit - 1) / unit * unit;
    for (size_t i = 0; i < buckets.size(); i++) {
        buckets[i].elems = (i + 1 < buckets.size() ? buckets[i + 1].begin : elems) - buckets[i].begin;
    }
}

std::vector<Stretch> ArenaLayout::own() const {
    if (parts == 1) return {{0, elems, 0}};
    std::vector<Stretch> own;
    for (const Stretch& bucket : buckets) own.push_back(part_of(bucket, part));
    return own;
}

}  // namespace kiln
