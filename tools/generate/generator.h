#pragma once
// Text generation with an Engine's KV cache: several sequences at once, each in a slot of its own.
#include <cstdint>
#include <functional>
#include <vector>

#include "cpu_reference/interface/engine.h"

namespace kiln {

struct GenerateRequest {
    std::vector<int> prompt;     // at least one token
    uint64_t sample_number = 0;  // the seed, this number and the position decide every sampled token
};

struct GenerateOptions {
    int max_new_tokens = 256;
    std::vector<int> stop_tokens = {};  // each ends a sequence and is not part of it
    int max_slots = 8;                  // sequences at once; the size of the cache is proportional to it
    std::function<bool()> stop_requested =
        nullptr;  // called before each token; true: the remaining requests are not done
};

enum class Finish : uint8_t { stop_token, length, context };  // context: the model's context is full

struct Generated {
    std::vector<int> tokens;
    Finish finish = Finish::length;
};

struct GenerateStats {
    int64_t prompt_tokens = 0, new_tokens = 0;
    double prefill_s = 0, decode_s = 0;
};

// Called with each sampled token. Requests advance together, so their tokens are interleaved.
using OnToken = std::function<void(size_t request, int token)>;
// Called when a request is complete.
using OnDone = std::function<void(size_t request, const Generated& result)>;

// Continues every request. Except for rounding in the engine, a result does not depend on the other requests. Opens the
// engine's cache and frees it. Throws Error if a prompt is empty or leaves no room in the context.
GenerateStats generate(Engine& engine, const SamplerOptions& sampling, const std::vector<GenerateRequest>& requests,
                       const GenerateOptions& options, const OnToken& on_token, const OnDone& on_done);

}  // namespace kiln
