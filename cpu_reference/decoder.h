#pragma once
// The model: its operations in order, the backward pass in reverse order, and a step with a KV cache.
#include "cpu_reference/interface/model_config.h"
#include "cpu_reference/interface/tensors.h"

namespace kiln {

// What every pass over the model reads.
struct DecoderContext {
    const ModelConfig& config;
    const Params<float>& params;
    const float* rope_table;  // null without RoPE
    int B, T;
    bool training = false;  // with dropout
    uint64_t seed = 0, first_sample = 0;
};

// tokens (B, T) -> acts, up to acts.lnf: everything before the LM head.
void decoder_forward(const DecoderContext& ctx, Activations<float>& acts, const int* tokens);

// Rows first, first + 1, ... of acts.lnf -> acts.logits (rows, logits_stride) and acts.losses of these rows.
// If gradient_scale != 0, the logits become their gradient.
void lm_head_forward(const DecoderContext& ctx, Activations<float>& acts, const int* targets, float gradient_scale,
                     int first, int rows);
// acts.logits, a gradient now -> lm_head of grads (= or +=) and rows of acts.branch (=), the gradient of acts.lnf.
void lm_head_backward(const DecoderContext& ctx, Activations<float>& acts, const Params<float>& grads, int first,
                      int rows, bool accumulate);

// acts.branch, the gradient of acts.lnf -> grads. Without `accumulate` it sets every gradient, except wpe and an untied
// wte: it always adds to these two, so they must be 0 before.
void decoder_backward(const DecoderContext& ctx, Activations<float>& acts, const Params<float>& grads,
                      const int* tokens, bool accumulate);

// Keys and values of every layer for `slots` sequences: (L, slots, 2, NKV, max_T, HS), keys before values.
struct KvCache {
    float* data = nullptr;
    int slots = 0, max_T = 0;
};
inline size_t kv_cache_elems(const ModelConfig& c, int slots, int max_T) {
    return size_t(c.L) * slots * 2 * c.NKV * max_T * c.HS;
}

// An input row of a cached step is token number `position` of the sequence in `slot`.
struct CacheRow {
    int slot, position;
};

// Appends tokens to cached sequences and leaves acts.lnf of each. The rows of one sequence are consecutive, in order;
// ctx.B is 1 and ctx.T is the number of rows. acts are bound without `training` for at least as many rows.
void decoder_cached(const DecoderContext& ctx, Activations<float>& acts, const KvCache& cache, const int* tokens,
                    const CacheRow* rows, float* attention_scratch);

}  // namespace kiln
