#include "cuda/engine/generation.h"

#include <algorithm>
#include <numeric>

#include "cpu_reference/interface/engine_checks.h"
#include "cpu_reference/interface/error.h"
#include "cuda/device/element_types.h"
#include "cuda/device/transfer.h"
#include "cuda/engine/engine_shape.h"

namespace kiln {
namespace {

// What a step of B sequences with T new tokens each reads. It is in one piece, which one copy brings to the device.
struct StepInput {
    uint64_t* sample_numbers;  // (B)
    int *tokens, *positions;   // (B, T)

    StepInput(unsigned char* base, int B, int T)
        : sample_numbers(reinterpret_cast<uint64_t*>(base)),
          tokens(reinterpret_cast<int*>(sample_numbers + B)),
          positions(tokens + B * T) {}
    static size_t bytes(int B, int T) { return B * (sizeof(uint64_t) + T * 2 * sizeof(int)); }
};

}  // namespace

template <class E>
void Generation<E>::open(const ModelConfig& c, int slots, int max_T, bool graphs, cudaStream_t stream) {
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
    const size_t weights = size_t(slots) * padded_vocab(c);
    const size_t needed = elems * sizeof(E) + bytes + scratch * sizeof(float) + arrivals * sizeof(int) +
                          weights * sizeof(uint64_t) + kLoadedLaterBytes;
    KILN_CHECK(needed <= free, "a KV cache of ", slots, " sequences of ", max_T, " tokens needs ", needed >> 20,
               " MiB of the GPU's memory, but ", free >> 20,
               " MiB are free; lower the number of sequences or their length");
    data_ = DeviceBuffer<E>(elems);
    activations_ = DeviceBuffer<unsigned char>(bytes);
    acts_ = bind_device_activations<E>(c, shape, activations_.get());
    scratch_ = DeviceBuffer<float>(scratch);
    arrivals_ = DeviceBuffer<int>(arrivals);
    clear(arrivals_.get(), arrivals, stream);
    const size_t input = std::max(StepInput::bytes(slots, 1), StepInput::bytes(1, max_T));
    input_ = DeviceBuffer<unsigned char>(input);
    host_input_ = PinnedBuffer<unsigned char>(input);
    weights_ = DeviceBuffer<uint64_t>(weights);
    next_ = DeviceBuffer<int>(size_t(slots));
    host_next_ = PinnedBuffer<int>(size_t(slots));
    cache_ = {data_.get(), slots, max_T};
    lengths_.assign(size_t(slots), 0);
    graphs_ = graphs;
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

// Queues a step with the input in host_input_: ctx.T tokens for each of ctx.B slots from first_slot on. `empty`: they
// are the first of the one slot. acts_.logits then has the logits of the last token of each slot.
template <class E>
void Generation<E>::queue_step(const DeviceContext<E>& ctx, int first_slot, bool empty) {
    const StepInput input(input_.get(), ctx.B, ctx.T);
    CUDA_CHECK(cudaMemcpyAsync(input_.get(), host_input_.get(), StepInput::bytes(ctx.B, ctx.T), cudaMemcpyHostToDevice,
                               ctx.stream));
    if (empty) {
        decoder_prefill(ctx, acts_, cache_, first_slot, input.tokens, input.positions);
    } else {
        decoder_decode(ctx, acts_, cache_, first_slot, input.tokens, input.positions,
                       {scratch_.get(), arrivals_.get()});
    }
    ctx.matmul.forward(acts_.logits, acts_.lnf + size_t(ctx.T - 1) * ctx.config.C, ctx.params.lm_head, nullptr,
                       {.N = ctx.B, .I = ctx.config.C, .O = padded_vocab(ctx.config)}, ctx.stream);
}

// Queues what follows a step: one token of each row of acts_.logits -> host_next_.
template <class E>
void Generation<E>::queue_draw(const DeviceContext<E>& ctx, const SamplerOptions& options) {
    const StepInput input(input_.get(), ctx.B, ctx.T);
    sample(next_.get(), weights_.get(), acts_.logits, options, input.sample_numbers, input.positions + ctx.T - 1, ctx.B,
           ctx.config.V, padded_vocab(ctx.config), ctx.stream);
    CUDA_CHECK(cudaMemcpyAsync(host_next_.get(), next_.get(), ctx.B * sizeof(int), cudaMemcpyDeviceToHost, ctx.stream));
}

// The token that queue_draw drew from a row.
template <class E>
int Generation<E>::drawn(const DeviceContext<E>& ctx, int row, int slot, Sampler& sampler,
                         uint64_t sample_number) const {
    if (host_next_[row] >= 0) return host_next_[row];
    // The logits are damaged. The host's sampler throws the Error that says how.
    std::vector<float> logits(ctx.config.V);
    read_logits(ctx, logits.data(), row);
    return sampler.sample(logits, sample_number, uint64_t(lengths_[slot]));
}

// Copies one row of acts_.logits to logits (V), without the padding. Waits for the device.
template <class E>
void Generation<E>::read_logits(const DeviceContext<E>& ctx, float* logits, int row) const {
    download(logits, acts_.logits + size_t(row) * padded_vocab(ctx.config), ctx.config.V, 1, ctx.stream);
}

template <class E>
void Generation<E>::queue_prompt(DeviceContext<E>& ctx, int slot, std::span<const int> tokens, uint64_t sample_number) {
    check_prefill(lengths_, cache_.max_T, slot, tokens, ctx.config.V);
    ctx.B = 1, ctx.T = int(tokens.size());
    const StepInput input(host_input_.get(), ctx.B, ctx.T);
    input.sample_numbers[0] = sample_number;
    std::ranges::copy(tokens, input.tokens);
    std::iota(input.positions, input.positions + ctx.T, lengths_[slot]);
    const Matmul::Untimed untimed(ctx.matmul);  // most lengths of a prompt come up once
    queue_step(ctx, slot, lengths_[slot] == 0);
    lengths_[slot] += ctx.T;
}

template <class E>
void Generation<E>::prefill(DeviceContext<E> ctx, int slot, std::span<const int> tokens, float* logits) {
    queue_prompt(ctx, slot, tokens, 0);
    read_logits(ctx, logits, 0);
}

template <class E>
int Generation<E>::prefill_and_sample(DeviceContext<E> ctx, int slot, std::span<const int> tokens, Sampler& sampler,
                                      uint64_t sample_number) {
    queue_prompt(ctx, slot, tokens, sample_number);
    queue_draw(ctx, sampler.options());
    CUDA_CHECK(cudaStreamSynchronize(ctx.stream));
    return drawn(ctx, 0, slot, sampler, sample_number);
}

// One token for each of `slots`; the other slots are idle. sample_numbers may be empty.
template <class E>
void Generation<E>::write_input(DeviceContext<E>& ctx, std::span<const int> slots, std::span<const int> tokens,
                                std::span<const uint64_t> sample_numbers) {
    check_decode(lengths_, cache_.max_T, slots, tokens, ctx.config.V);
    ctx.B = cache_.slots, ctx.T = 1;
    const StepInput input(host_input_.get(), ctx.B, ctx.T);
    std::fill_n(input.sample_numbers, ctx.B, 0);
    std::fill_n(input.tokens, ctx.B, 0);
    std::fill_n(input.positions, ctx.B, -1);
    for (size_t i = 0; i < slots.size(); i++) {
        const int slot = slots[i];
        if (!sample_numbers.empty()) input.sample_numbers[slot] = sample_numbers[i];
        input.tokens[slot] = tokens[i];
        input.positions[slot] = lengths_[slot]++;
    }
}

template <class E>
void Generation<E>::decode(DeviceContext<E> ctx, std::span<const int> slots, std::span<const int> tokens,
                           float* logits) {
    write_input(ctx, slots, tokens, {});
    queue_step(ctx, 0, false);
    for (size_t i = 0; i < slots.size(); i++) read_logits(ctx, logits + i * ctx.config.V, slots[i]);
}

template <class E>
void Generation<E>::decode_and_sample(DeviceContext<E> ctx, std::span<const int> slots, std::span<const int> tokens,
                                      Sampler& sampler, std::span<const uint64_t> sample_numbers, int* next) {
    write_input(ctx, slots, tokens, sample_numbers);
    const auto queue = [&] {
        queue_step(ctx, 0, false);
        queue_draw(ctx, sampler.options());
    };
    // The options are arguments of captured launches. Their first step is queued call by call: it makes the plans of
    // the matmuls, which a capture cannot do.
    if (!graphs_ || options_ != sampler.options()) {
        graph_ = {};
        options_ = sampler.options();
        queue();
    } else {
        if (!graph_) graph_ = Graph(ctx.stream, queue);
        graph_.launch(ctx.stream);
    }
    CUDA_CHECK(cudaStreamSynchronize(ctx.stream));
    for (size_t i = 0; i < slots.size(); i++) next[i] = drawn(ctx, slots[i], slots[i], sampler, sample_numbers[i]);
}

#define KILN_GENERATION(E) template class Generation<E>;
KILN_FOR_TYPES(KILN_GENERATION)

}  // namespace kiln
