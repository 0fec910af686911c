#pragma once
// The model on a GPU: the same operations as cpu_reference/decoder.h, queued on one stream. E is the element type of
// weights and activations, G that of the gradients of weights: float or E.
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu_reference/interface/model_config.h"
#include "cpu_reference/interface/tensors.h"
#include "cuda/device/profile.h"
#include "cuda/engine/matmul.h"
#include "cuda/kernels/kernels.h"
#include "cuda/parallel/bucket_hooks.h"

namespace kiln {

// What the backward pass computes again instead of keeping it. Each level includes the levels before it. No level
// changes a bit of the result.
enum class Recompute : uint8_t { nothing, activation, norms, blocks };  // blocks: all but the input of each block

// The micro-batch and what is kept of it. `lm_head_rows`: for how many rows logits exist at a time; `lm_head_chunk`:
// how many of these rows one matmul takes, 0 for all.
struct DeviceShape {
    int B, T;
    bool training;
    Recompute recompute = Recompute::nothing;
    int lm_head_rows = 0, lm_head_chunk = 0;
    bool flash = false;  // attention on the tensor cores
};

template <class E>
struct DeviceBlock {
    E* ln1;                      // (B, T, C)
    float *ln1_mean, *ln1_rstd;  // (B, T)
    E* qkv;                      // (B, T, QKV), after QK-norm and RoPE
    E* qk_raw;                   // (B, T, NH + NKV, HS): q and k before QK-norm
    float* qk_rstd;              // (B, T, NH + NKV)
    float* lse;                  // (B, NH, T)
    E* attn;                     // (B, T, NH*HS)
    E* mid;                      // (B, T, C): the residual stream after attention
    E* ln2;                      // (B, T, C)
    float *ln2_mean, *ln2_rstd;  // (B, T)
    E *fc, *act;                 // (B, T, FC), (B, T, F); the backward pass of SwiGLU writes the gradient into fc
    E* out;                      // (B, T, C): the residual stream after the MLP
};

template <class E>
struct DeviceActivations {
    E* embedded;  // (B, T, C)
    std::vector<DeviceBlock<E>> block;
    E* lnf;                      // (B, T, C)
    float *lnf_mean, *lnf_rstd;  // (B, T)
    float* losses;               // (B, T)
    E* logits;                   // (lm_head_rows, Vp); the loss replaces them by their gradient
    E* branch;                   // (B, T, C): what a block adds to the residual stream; gradients of the norms' outputs
    E *d_residual, *d_qkv, *d_attn, *d_act;  // gradients, shaped like their tensors; all layers share them
    float* scratch;                          // for the kernel that is running: partial sums, delta of attention
};

// V padded for matmuls and for rows of whole 16 bytes. The weights of the padding are 0 and stay 0. No file and no
// softmax contains the padding.
inline int padded_vocab(const ModelConfig& c) {
    return (c.V + 127) / 128 * 128;
}
// `c` with the padded vocabulary: the layout of parameters, gradients and moments on the device.
inline ModelConfig padded(ModelConfig c) {
    c.V = padded_vocab(c);
    return c;
}

size_t decoder_scratch_floats(const ModelConfig& c, const DeviceShape& s);

// Calls visit(field, field_name, layer, elems) for each activation that exists; its type is that of *field.
template <class E, class Visit>
void for_each_device_activation(const ModelConfig& c, const DeviceShape& s, DeviceActivations<E>& a, Visit visit) {
    const size_t N = size_t(s.B) * s.T, C = c.C, HS = c.HS, A = size_t(c.NH) * HS, QK = size_t(c.NH) + c.NKV;
    const auto statistics = [&](float*& mean, float*& rstd, const char* name, int layer) {
        switch (c.norm) {
            case Norm::layernorm: visit(mean, name, layer, N); break;
            case Norm::rmsnorm: break;
        }
        visit(rstd, name, layer, N);
    };
    a.block.assign(c.L, {});
    visit(a.embedded, "embedded", -1, N * C);
    for (int l = 0; l < c.L; l++) {
        DeviceBlock<E>& b = a.block[l];
        const bool first = l == 0;
        if (!first) b = a.block[0];  // layers share what is not kept for each of them
        const auto kept_below = [&](Recompute level) { return first || (s.training && s.recompute < level); };
        if (kept_below(Recompute::norms)) visit(b.ln1, "ln1", l, N * C);
        if (kept_below(Recompute::blocks)) {
            statistics(b.ln1_mean, b.ln1_rstd, "ln1_statistics", l);
            visit(b.qkv, "qkv", l, N * c.QKV());
            if (c.qk_norm) visit(b.qk_raw, "qk_raw", l, N * QK * HS);
            if (c.qk_norm) visit(b.qk_rstd, "qk_rstd", l, N * QK);
            visit(b.lse, "lse", l, N * c.NH);
            visit(b.attn, "attn", l, N * A);
            visit(b.mid, "mid", l, N * C);
            statistics(b.ln2_mean, b.ln2_rstd, "ln2_statistics", l);
            visit(b.fc, "fc", l, N * c.FC());
        }
        if (kept_below(Recompute::norms)) visit(b.ln2, "ln2", l, N * C);
        if (kept_below(Recompute::activation)) visit(b.act, "act", l, N * c.F);
        if (first || s.training) visit(b.out, "out", l, N * C);
    }
    visit(a.lnf, "lnf", -1, N * C);
    statistics(a.lnf_mean, a.lnf_rstd, "lnf_statistics", -1);
    visit(a.losses, "losses", -1, N);
    if (s.lm_head_rows > 0) visit(a.logits, "logits", -1, size_t(s.lm_head_rows) * padded_vocab(c));
    visit(a.branch, "branch", -1, N * C);
    visit(a.scratch, "scratch", -1, decoder_scratch_floats(c, s));
    if (s.training) {
        visit(a.d_residual, "d_residual", -1, N * C);
        visit(a.d_qkv, "d_qkv", -1, N * c.QKV());
        visit(a.d_attn, "d_attn", -1, N * A);
        visit(a.d_act, "d_act", -1, N * c.F);
    }
}

inline size_t align_bytes(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

template <class E>
DeviceActivations<E> bind_device_activations(const ModelConfig& c, const DeviceShape& s, unsigned char* base) {
    DeviceActivations<E> a{};
    for_each_device_activation(c, s, a, [&]<class Field>(Field*& field, const char*, int, size_t elems) {
        field = reinterpret_cast<Field*>(base);
        base += align_bytes(elems * sizeof(Field));
    });
    return a;
}

// Bytes of the arena that bind_device_activations lays out, and how many of them are logits.
template <class E>
std::array<size_t, 2> device_activation_bytes(const ModelConfig& c, const DeviceShape& s) {
    DeviceActivations<E> unbound{};
    std::array<size_t, 2> bytes{};
    for_each_device_activation(c, s, unbound, [&]<class Field>(Field*& field, const char*, int, size_t elems) {
        const size_t n = align_bytes(elems * sizeof(Field));
        bytes[0] += n;
        if (static_cast<void*>(&field) == &unbound.logits) bytes[1] += n;
    });
    return bytes;
}

// What a pass over the model reads in addition to its input.
template <class E>
struct DeviceContext {
    const ModelConfig& config;  // not padded
    const Params<E>& params;    // laid out for padded(config)
    const float* rope_table;    // (max_T, HS/2) pairs; null without RoPE
    Matmul& matmul;
    cudaStream_t stream;
    int B, T;
    Recompute recompute = Recompute::nothing;
    int lm_head_chunk = 0;  // as in DeviceShape
    int fused_gelu = 0;     // 1: the matmul before GELU applies it too; 2: also in the backward pass
    bool flash = false;     // attention on the tensor cores
    bool training = false;  // with dropout
    uint64_t seed = 0, first_sample = 0;
    Profiler* profiler = nullptr;
    BucketHooks* hooks = nullptr;  // null: on one GPU
};

// tokens (B, T) -> acts, up to acts.lnf: everything except the LM head.
template <class E>
void decoder_forward(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, const int* tokens);

// `rows` rows of acts.lnf, from `first` on -> acts.logits and acts.losses. If gradient_scale is not 0, logits become
// their gradient, times *gradient_factor unless that is null.
template <class E>
void lm_head_forward(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, const int* targets, float gradient_scale,
                     const float* gradient_factor, int first, int rows);
// acts.logits, which holds the gradient now -> grads.lm_head (= or +=) and rows of acts.branch (=), the gradient of
// acts.lnf.
template <class E, class G>
void lm_head_backward(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, const Params<G>& grads, int first,
                      int rows, bool accumulate);

// acts.branch, the gradient of acts.lnf -> grads. Without `accumulate` every gradient is set, except wpe and an untied
// wte: the pass always adds to these two, so they must be 0 before.
template <class E, class G>
void decoder_backward(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, const Params<G>& grads,
                      const TokenRows& rows, bool accumulate);

// Keys and values of every layer: (L, 2, slots, NKV, max_T, cache_pitch(HS)), keys before values.
template <class E>
struct DeviceCache {
    E* data = nullptr;
    int slots = 0, max_T = 0;
};
// Work memory of attention_cached, with the names that it has there.
struct CacheScratch {
    float* scratch = nullptr;
    int* arrivals = nullptr;
};
// A prompt for one empty slot: ctx.B is 1, ctx.T is the number of tokens, and *zero, in device memory, is 0.
template <class E>
void decoder_prefill(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, const DeviceCache<E>& cache, int slot,
                     const int* tokens, const int* zero);
// One token (ctx.T = 1) for each of ctx.B slots from first_slot on, or ctx.T tokens for one slot. positions (B, T), in
// device memory, follow those in the cache; a negative position marks an idle slot.
template <class E>
void decoder_decode(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, const DeviceCache<E>& cache,
                    int first_slot, const int* tokens, const int* positions, const CacheScratch& scratch);

}  // namespace kiln
