#pragma once
// The KV cache of a model on a GPU, and the steps over it.
#include <span>
#include <vector>

#include "cuda/device/handles.h"
#include "cuda/engine/decoder.h"

namespace kiln {

// As the calls of Engine that have these names. E is the element type. The context's B and T are not read.
template <class E>
class Generation {
public:
    void open(const ModelConfig& config, int slots, int max_T, cudaStream_t stream);
    int slots() const { return cache_.slots; }
    void clear_slot(int slot);
    int slot_length(int slot) const;
    void prefill(DeviceContext<E> x, int slot, std::span<const int> tokens, float* logits);
    void decode(DeviceContext<E> x, std::span<const int> slots, std::span<const int> tokens, float* logits);

private:
    void step(const DeviceContext<E>& x, int first_slot, std::span<const int> tokens, std::span<const int> positions);
    void head(const DeviceContext<E>& x, const E* lnf, int rows);
    void read_logits(const DeviceContext<E>& x, float* logits, int row) const;

    DeviceBuffer<E> data_;
    DeviceBuffer<unsigned char> activations_;
    DeviceBuffer<float> scratch_;
    DeviceBuffer<int> arrivals_, tokens_, positions_;
    DeviceActivations<E> acts_;
    DeviceCache<E> cache_;
    std::vector<int> lengths_;
};

}  // namespace kiln
