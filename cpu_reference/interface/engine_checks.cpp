#include "cpu_reference/interface/engine_checks.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"

namespace kiln {

void check_micro_batch(const ModelConfig& config, const EngineOptions& options) {
    const int B = options.B, T = options.T;
    if (B >= 1 && T >= 1 && T <= config.max_T && int64_t(B) * T <= 1 << 28) return;
    throw UsageError(concat("micro-batch of ", B, " sequences of ", T,
                            " tokens: the batch must be at least 1, the sequence from 1 to the model's context of ",
                            config.max_T, ", and both together at most 2^28 tokens"));
}

void require_training(const EngineOptions& options, std::string_view what) {
    KILN_CHECK(options.training, "engine: ", what, " needs an engine made with EngineOptions::training");
}

void check_span(size_t offset, size_t n, size_t arena_elems) {
    KILN_CHECK(offset <= arena_elems && n <= arena_elems - offset, "engine: elements [", offset, ", ", offset + n,
               ") lie outside an arena of ", arena_elems);
}

void check_tokens(std::span<const int> tokens, int V) {
    for (size_t i = 0; i < tokens.size(); i++) {
        KILN_CHECK(tokens[i] >= 0 && tokens[i] < V, "engine: token ", tokens[i], " at position ", i,
                   " is outside the model's vocabulary of ", V, "; was the text encoded by another tokenizer?");
    }
}

int64_t check_batch(const Batch& batch, int N, int V) {
    check_tokens({batch.tokens, size_t(N)}, V);
    int64_t counted = 0;
    for (int i = 0; i < N; i++) {
        KILN_CHECK(batch.targets[i] >= -1 && batch.targets[i] < V, "engine: target ", batch.targets[i], " at position ",
                   i, " is outside the model's vocabulary of ", V);
        counted += batch.targets[i] >= 0;
    }
    return counted;
}

void check_cache(const ModelConfig& config, int slots, int max_T) {
    KILN_CHECK(slots > 0 && max_T > 0, "KV cache: ", slots, " slots of ", max_T, " tokens; both must be positive");
    KILN_CHECK(max_T <= config.max_T, "KV cache: ", max_T, " tokens a sequence, but the model's context is ",
               config.max_T);
}

void check_slot(std::span<const int> lengths, int slot) {
    KILN_CHECK(slot >= 0 && size_t(slot) < lengths.size(), "KV cache: slot ", slot, " of ", lengths.size());
}

void check_prefill(std::span<const int> lengths, int max_T, int slot, std::span<const int> tokens, int V) {
    check_slot(lengths, slot);
    check_tokens(tokens, V);
    KILN_CHECK(!tokens.empty(), "KV cache: prefill of slot ", slot, " with no tokens");
    KILN_CHECK(tokens.size() <= size_t(max_T - lengths[slot]), "KV cache: slot ", slot, " holds ", lengths[slot],
               " of ", max_T, " tokens; ", tokens.size(), " more do not fit");
}

void check_decode(std::span<const int> lengths, int max_T, std::span<const int> slots, std::span<const int> tokens,
                  int V) {
    KILN_CHECK(slots.size() == tokens.size() && !slots.empty(), "KV cache: decode of ", tokens.size(), " tokens for ",
               slots.size(), " slots");
    check_tokens(tokens, V);
    for (size_t i = 0; i < slots.size(); i++) {
        check_slot(lengths, slots[i]);
        KILN_CHECK(lengths[slots[i]] < max_T, "KV cache: slot ", slots[i], " is full at ", max_T,
                   " tokens; clear it or open a longer cache");
        KILN_CHECK(std::ranges::count(slots.first(i), slots[i]) == 0, "KV cache: slot ", slots[i],
                   " is given twice in one decode");
    }
}

}  // namespace kiln
