#pragma once
// The KV cache of a model on a GPU, and generation with it.
#include <optional>
#include <span>
#include <vector>

#include "cpu_reference/interface/sampler.h"
#include "cuda/device/handles.h"
#include "cuda/engine/decoder.h"

namespace kiln {

// The functions do what the functions of Engine with these names do. E is the element type. B and T of the context are
// not read. With `graphs`, decode_and_sample launches one CUDA graph for a token of all slots.
template <class E>
class Generation {
public:
    void open(const ModelConfig& config, int slots, int max_T, bool graphs, cudaStream_t stream);
    int slots() const { return cache_.slots; }
    void clear_slot(int slot);
    int slot_length(int slot) const;
    void prefill(DeviceContext<E> ctx, int slot, std::span<const int> tokens, float* logits);
    void decode(DeviceContext<E> ctx, std::span<const int> slots, std::span<const int> tokens, float* logits);
    int prefill_and_sample(DeviceContext<E> ctx, int slot, std::span<const int> tokens, Sampler& sampler,
                           uint64_t sample_number);
    void decode_and_sample(DeviceContext<E> ctx, std::span<const int> slots, std::span<const int> tokens,
                           Sampler& sampler, std::span<const uint64_t> sample_numbers, int* next);

private:
    void queue_prompt(DeviceContext<E>& ctx, int slot, std::span<const int> tokens, uint64_t sample_number);
    void write_input(DeviceContext<E>& ctx, std::span<const int> slots, std::span<const int> tokens,
                     std::span<const uint64_t> sample_numbers);
    void queue_step(const DeviceContext<E>& ctx, int first_slot, bool empty);
    void queue_draw(const DeviceContext<E>& ctx, const SamplerOptions& options);
    int drawn(const DeviceContext<E>& ctx, int row, int slot, Sampler& sampler, uint64_t sample_number) const;
    void read_logits(const DeviceContext<E>& ctx, float* logits, int row) const;

    DeviceBuffer<E> data_;
    DeviceBuffer<unsigned char> activations_;
    DeviceBuffer<float> scratch_;
    DeviceBuffer<int> arrivals_, next_;
    DeviceBuffer<uint64_t> weights_;  // (slots, Vp): scratch of a draw
    PinnedBuffer<int> host_next_;
    DeviceBuffer<unsigned char> input_;
    PinnedBuffer<unsigned char> host_input_;
    DeviceActivations<E> acts_;
    DeviceCache<E> cache_;
    std::vector<int> lengths_;
    bool graphs_ = false;
    std::optional<SamplerOptions> options_;  // of the last decode_and_sample
    Graph graph_;                            // of decode_and_sample with options_, once they were used twice
};

}  // namespace kiln
