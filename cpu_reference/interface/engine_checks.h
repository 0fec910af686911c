#pragma once
// The checks of both engines on their arguments. A failed check throws Error; check_micro_batch throws UsageError.
#include <span>
#include <string_view>

#include "cpu_reference/interface/engine.h"

namespace kiln {

void check_micro_batch(const ModelConfig& config, const EngineOptions& options);
void require_training(const EngineOptions& options, std::string_view what);
void check_span(size_t offset_elems, size_t elems, size_t arena_elems);

void check_tokens(std::span<const int> tokens, int V);
// Tokens and targets, N of each. Returns how many targets are not -1.
int64_t check_batch(const Batch& batch, int N, int V);

// For a KV cache: `lengths` has the length of the sequence in each slot, at most max_T tokens.
void check_cache(const ModelConfig& config, int slots, int max_T);
void check_slot(std::span<const int> lengths, int slot);
void check_prefill(std::span<const int> lengths, int max_T, int slot, std::span<const int> tokens, int V);
void check_decode(std::span<const int> lengths, int max_T, std::span<const int> slots, std::span<const int> tokens,
                  int V);

}  // namespace kiln
