#pragma once
// What the options of an engine decide before it is made: its types, its shape, and whether it can be made at all.
#include "cpu_reference/interface/engine.h"
#include "cpu_reference/interface/error.h"
#include "cuda/device/element_types.h"
#include "cuda/engine/decoder.h"

namespace kiln {

// Throws UsageError for a model or a micro-batch that the kernels cannot compute; its text says what to do.
void check_engine(const ModelConfig& config, const EngineOptions& options);

// What is left of the free memory for later: the code of kernels and of cuBLASLt's algorithms, which is loaded at their
// first launch, graphs, and the rounding of buffers to 2 MiB. The context is not in it: it exists when the free memory
// is asked for. An estimate: nothing measures it yet.
inline constexpr size_t kLoadedLaterBytes = size_t(256) << 20;

DeviceShape device_shape(const ModelConfig& config, const EngineOptions& options);

// Calls with(E(), G(), M()) for the types that the options choose: E of weights and activations, G of gradients, M of
// moments.
template <class With>
auto with_engine_types(const EngineOptions& o, With with) {
    const auto of = [&]<class E>(E e) {
        if (o.narrow_gradients) return o.narrow_moments ? with(e, e, __nv_bfloat16()) : with(e, e, 0.0f);
        return o.narrow_moments ? with(e, 0.0f, __nv_bfloat16()) : with(e, 0.0f, 0.0f);
    };
    KILN_IF_FLOAT32(if (o.precision == Precision::float32) return of(0.0f);)
    KILN_IF_BFLOAT16(if (o.precision == Precision::bfloat16) return of(__nv_bfloat16());)
    KILN_IF_FLOAT16(if (o.precision == Precision::float16) return of(__half());)
    throw Error("this build has been compiled without the element type");
}

}  // namespace kiln
