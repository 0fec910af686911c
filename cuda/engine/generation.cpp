#include "cuda/engine/generation.h"

#include <algorithm>
#include <numeric>

#include "cpu_reference/interface/engine_checks.h"
#include "cpu_reference/interface/error.h"
#include "cuda/device/transfer.h"
#include "cuda/engine/engine_shape.h"

namespace kiln {
template <class E>
void Generation<E>::open(const ModelConfig& c, int slots, int max_T, cudaStream_t stream) {
    CUDA_CHECK(cudaStreamSynchronize(stream));  // no kernel may still read the earlier cache
    *this = {};
    if (slots == 0) return;
    check_cache(c, slots, max_T);
    const size_t elems = size_t(c.L) * 2 * slots * c.NKV * max_T * cache_pitch<E>(c.HS);
    const int rows = std::max(slots, max_T);
    const DeviceShape shape{1, rows, false, Recompute::nothing, slots};
    const size_t bytes = device_activation_bytes<E>(c, shape)[0];
    size_t free = 0, total = 0;
    CUDA_CHECK(cudaMemGetInfo(&free, &total));
    const size_t scratch = attention_cached_scratch_floats(c.HS), arrivals = attention_cached_arrivals();
    const size_t needed =
        elems * sizeof(E) + bytes + scratch * sizeof(float) + arrivals * sizeof(int) + kLoadedLaterBytes;
    KILN_CHECK(needed <= free, "a KV cache of ", slots, " sequences of ", max_T, " tokens needs ", needed >> 20,
               " MiB of the GPU's memory, but ", free >> 20,
               " MiB are free; lower the number of sequences or their length");
    data_ = DeviceBuffer<E>(elems);
    activations_ = DeviceBuffer<unsigned char>(bytes);
    acts_ = bind_device_activations<E>(c, shape, activations_.get());
    scratch_ = DeviceBuffer<float>(scratch);
    arrivals_ = DeviceBuffer<int>(arrivals);
    clear(arrivals_.get(), arrivals, stream);
    tokens_ = DeviceBuffer<int>(size_t(rows));
    positions_ = DeviceBuffer<int>(size_t(rows));
    cache_ = {data_.get(), slots, max_T};
    lengths_.assign(size_t(slots), 0);
}

template <class E>
void Generation<E>::clear_slot(int slot) {
    check_slot(lengths_, slot);
    lengths_[slot] = 0;
}

template <class E>
int Generation<E>::slot_length(int slot) const {
    check_slot(lengths_, slot);
    return lengths_[slot];
}

// lnf (rows, C) -> acts_.logits.
template <class E>
void Generation<E>::lm_head_logits(const DeviceContext<E>& ctx, const E* lnf, int rows) {
    ctx.matmul.forward(acts_.logits, lnf, ctx.params.lm_head, nullptr,
                       {.N = rows, .I = ctx.config.C, .O = padded_vocab(ctx.config)}, ctx.stream);
}

// Copies one row of acts_.logits to logits (V), without the padding.
template <class E>
void Generation<E>::read_logits(const DeviceContext<E>& ctx, float* logits, int row) const {
    download(logits, acts_.logits + size_t(row) * padded_vocab(ctx.config), ctx.config.V, 1, ctx.stream);
}

// The arguments are those of decoder_decode. acts_.logits then holds the logits of the last row of each slot.
template <class E>
void Generation<E>::step(const DeviceContext<E>& ctx, int first_slot, std::span<const int> tokens,
                         std::span<const int> positions) {
    CUDA_CHECK(cudaMemcpyAsync(tokens_.get(), tokens.data(), tokens.size_bytes(), cudaMemcpyHostToDevice, ctx.stream));
    CUDA_CHECK(cudaMemcpyAsync(positions_.get(), positions.data(), positions.size_bytes(), cudaMemcpyHostToDevice,
                               ctx.stream));
    decoder_decode(ctx, acts_, cache_, first_slot, tokens_.get(), positions_.get(), {scratch_.get(), arrivals_.get()});
    lm_head_logits(ctx, acts_.lnf + size_t(ctx.T - 1) * ctx.config.C, ctx.B);
    CUDA_CHECK(cudaStreamSynchronize(ctx.stream));  // until here the device reads tokens and positions
    for (int b = 0; b < ctx.B; b++) {
        if (positions[b] >= 0) lengths_[first_slot + b] = positions[b] + ctx.T;
    }
}

template <class E>
void Generation<E>::prefill(DeviceContext<E> ctx, int slot, std::span<const int> tokens, float* logits) {
    check_prefill(lengths_, cache_.max_T, slot, tokens, ctx.config.V);
    const int length = lengths_[slot], n = int(tokens.size());
    ctx.B = 1, ctx.T = n;
    if (length > 0) {
        std::vector<int> positions(tokens.size());
        std::iota(positions.begin(), positions.end(), length);
        step(ctx, slot, tokens, positions);
        return read_logits(ctx, logits, 0);
    }
    CUDA_CHECK(cudaMemcpyAsync(tokens_.get(), tokens.data(), tokens.size_bytes(), cudaMemcpyHostToDevice, ctx.stream));
    clear(positions_.get(), 1, ctx.stream);
    decoder_prefill(ctx, acts_, cache_, slot, tokens_.get(), positions_.get());
    lm_head_logits(ctx, acts_.lnf + size_t(n - 1) * ctx.config.C, 1);
    lengths_[slot] = n;
    read_logits(ctx, logits, 0);
}

template <class E>
void Generation<E>::decode(DeviceContext<E> ctx, std::span<const int> slots, std::span<const int> tokens,
                           float* logits) {
    check_decode(lengths_, cache_.max_T, slots, tokens, ctx.config.V);
    std::vector<int> all(cache_.slots, 0), positions(cache_.slots, -1);
    for (size_t i = 0; i < slots.size(); i++) {
        const int slot = slots[i];
        all[slot] = tokens[i];
        positions[slot] = lengths_[slot];
    }
    ctx.B = cache_.slots, ctx.T = 1;
    step(ctx, 0, all, positions);
    for (size_t i = 0; i < slots.size(); i++) read_logits(ctx, logits + i * ctx.config.V, slots[i]);
}

template class Generation<float>;
template class Generation<__nv_bfloat16>;
template class Generation<__half>;

}  // namespace kiln
