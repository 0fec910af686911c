#pragma once
// Parameters, gradients and optimizer state on a GPU, laid out for the padded vocabulary; read and written as the
// unpadded arenas of cpu_reference/interface/engine.h. With several ranks each may have a part of them only.
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "cpu_reference/interface/tensors.h"
#include "cuda/device/handles.h"
#include "cuda/parallel/exchange.h"

namespace kiln {

// E of the weights, G of the gradients, M of the optimizer state.
template <class E, class G, class M>
class DeviceArenas {
public:
    // Zeroes. `ranks` is null if there is one rank.
    DeviceArenas(const ModelConfig& config, const EngineOptions& options, Communicator* ranks, cudaStream_t stream);

    // Bytes of each kind of memory on one rank.
    static std::vector<MemoryItem> plan(const ModelConfig& config, const EngineOptions& options);

    const Params<E>& params() const { return param_; }
    const Params<G>& grads() const { return gradient_; }
    Exchange<E, G>* exchange() const { return exchange_.get(); }  // null: there is one rank
    bool is_divided() const { return layout_.parts > 1; }
    // Whether the passes must add to gradients after the first micro-step: in stages 2 and 3 the exchange does.
    bool passes_accumulate() const { return stage_ < 2; }

    // Both convert, and wait for the stream; all ranks must call them. read multiplies gradients by gradient_scale (0:
    // all results are 0, for any values on the device); write divides by it.
    void read(const Arena& arena, size_t offset, std::span<float> out, float gradient_scale) const;
    void write(const Arena& arena, size_t offset, std::span<const float> in, float gradient_scale);
    // As the engine's functions of these names.
    std::vector<ArenaStretch> own_state() const;
    void read_own_state(const Arena& arena, size_t offset, std::span<float> out) const;
    // Initial weights (init_tensor), an optimizer state of 0.
    void init(uint64_t seed);
    void clear_gradients();
    // Only the gradients of the embeddings: even the first backward pass adds to them.
    void clear_embedding_gradients();
    // *sum = the sum of squares of the gradients of all ranks, not finite if one of them is not. scratch
    // (sum_of_squares_scratch_floats()).
    void sum_of_squares(float* sum, float* scratch) const;
    // One step of the optimizer on gradients times *grad_scale. Does nothing if *non_finite is not 0 (null: 0).
    void update(const OptimizerStep& step, const float* grad_scale, const int* non_finite, uint64_t rounding_seed);

private:
    // What one launch of the optimizer updates.
    struct Piece {
        Stretch at;
        size_t first_switch, switches;  // in decay_switches_
    };

    // Calls visit(device_offset, host_offset, n) for each stretch of [offset, offset + n) of the unpadded arena that is
    // contiguous on the device.
    template <class Visit>
    void for_each_stretch(size_t offset, size_t n, Visit visit) const;
    // at(stretch): where this rank has a stretch of its own part. All ranks get all values.
    template <class At>
    void read_parts(At at, size_t device_offset, std::span<float> out, float scale) const;
    template <class At>
    void write_part(At at, size_t device_offset, std::span<const float> in, float scale);
    E* own_params(const Stretch& at) const;
    G* own_grads(const Stretch& at) const;
    void find_pieces();

    ModelConfig config_;
    Optimizer optimizer_;
    int stage_;
    cudaStream_t stream_;
    std::vector<TensorSpec> table_;
    ArenaLayout layout_;
    BucketMemory<E> params_;
    DeviceBuffer<E> params_part_;  // stage 3
    DeviceBuffer<float> master_;   // this rank's part; empty: the weights are the only ones
    BucketMemory<G> gradients_;
    DeviceBuffer<G> gradients_part_;       // stages 2 and 3
    std::vector<DeviceBuffer<M>> states_;  // of the optimizer: this rank's part
    Params<E> param_{};
    Params<G> gradient_{};
    std::vector<Piece> pieces_;
    DeviceBuffer<size_t> decay_switches_;  // of each piece: offsets in it where weight decay ends or begins again
    DeviceBuffer<float> sums_;             // of squares, of each piece
    DeviceBuffer<float> chunk_;            // of another rank's values, while all ranks read
    std::unique_ptr<Exchange<E, G>> exchange_;
};

}  // namespace kiln
