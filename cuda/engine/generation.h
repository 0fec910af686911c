#pragma once
// The KV cache of a model on a GPU, and generation with it.
#include <span>
#include <vector>

#include "cuda/device/handles.h"
#include "cuda/engine/decoder.h"

namespace kiln {

// The functions do what the functions of Engine with these names do. E is the element type. B and T of the context are
// not read.
template <class E>
class Generation {
public:
    void open(const ModelConfig& config, int slots, int max_T, cudaStream_t stream);
    int slots() const { return cache_.slots; }
    void clear_slot(int slot);
    int slot_length(int slot) const;
    void prefill(DeviceContext<E> ctx, int slot, std::span<const int> tokens, float* logits);
    void decode(DeviceContext<E> ctx, std::span<const int> slots, std::span<const int> tokens, float* logits);

private:
    void step(const DeviceContext<E>& ctx, int first_slot, std::span<const int> tokens, std::span<const int> positions);
    void lm_head_logits(const DeviceContext<E>& ctx, const E* lnf, int rows);
    void read_logits(const DeviceContext<E>& ctx, float* logits, int row) const;

    DeviceBuffer<E> data_;
    DeviceBuffer<unsigned char> activations_;
    DeviceBuffer<float> scratch_;
    DeviceBuffer<int> arrivals_, tokens_, positions_;
    DeviceActivations<E> acts_;
    DeviceCache<E> cache_;
    std::vector<int> lengths_;
};

}  // namespace kiln
