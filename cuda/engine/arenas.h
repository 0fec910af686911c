#pragma once
// Parameters, gradients and optimizer state on a GPU: one allocation each, laid out for the padded vocabulary; read and
// written as the unpadded arenas of cpu_reference/interface/engine.h.
#include <span>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "cpu_reference/interface/tensors.h"
#include "cuda/device/handles.h"

namespace kiln {

// E of the weights, G of the gradients, M of the optimizer state.
template <class E, class G, class M>
class DeviceArenas {
public:
    // Zeroes.
    DeviceArenas(const ModelConfig& config, const EngineOptions& options, cudaStream_t stream);

    static size_t elems(const ModelConfig& config);  // of each arena, padding included
    size_t elems() const { return params_.size(); }
    const Params<E>& params() const { return param_; }
    const Params<G>& grads() const { return gradient_; }
    const G* gradients() const { return gradients_.get(); }

    // Both convert, and wait for the stream. read multiplies gradients by gradient_scale (0: all results are 0, for any
    // values on the device); write divides by it.
    void read(const Arena& arena, size_t offset, std::span<float> out, float gradient_scale) const;
    void write(const Arena& arena, size_t offset, std::span<const float> in, float gradient_scale);
    // Initial weights (init_tensor), an optimizer state of 0.
    void init(uint64_t seed);
    void clear_gradients();
    // Only the gradients of the embeddings: even the first backward pass adds to them.
    void clear_embedding_gradients();
    // One step of the optimizer on gradients times *grad_scale. Does nothing if *non_finite is not 0 (null: 0).
    void update(const OptimizerStep& step, const float* grad_scale, const int* non_finite, uint64_t rounding_seed);

private:
    // Calls visit(device_offset, host_offset, n) for each stretch of [offset, offset + n) of the unpadded arena that is
    // contiguous on the device.
    template <class Visit>
    void for_each_stretch(size_t offset, size_t n, Visit visit) const;

    ModelConfig config_;
    Optimizer optimizer_;
    cudaStream_t stream_;
    std::vector<TensorSpec> table_, device_table_;
    DeviceBuffer<E> params_;
    DeviceBuffer<float> master_;  // empty: params_ are the only weights
    DeviceBuffer<G> gradients_;
    std::vector<DeviceBuffer<M>> states_;  // of the optimizer
    Params<E> param_{};
    Params<G> gradient_{};
    DeviceBuffer<size_t> decay_switches_;  // offsets where weight decay begins or ends
};

}  // namespace kiln
