#pragma once
// The layers of a block, as decoder.cpp uses them: each queues the kernels that the model's configuration asks for.
#include <type_traits>
#include <utility>

#include "cuda/engine/decoder.h"

namespace kiln::layers {

// The profiler counts what is queued in the scope of the result for this group.
template <class E>
GroupRange range(const DeviceContext<E>& ctx, Group group) {
    return {ctx.profiler, group, ctx.stream};
}

// What several GPUs do at a bucket, such as &BucketHooks::before_params.
template <class E>
void at(const DeviceContext<E>& ctx, void (BucketHooks::*hook)(int), int bucket) {
    if (ctx.hooks) (ctx.hooks->*hook)(bucket);
}
// The buckets of a model.
inline constexpr int kEmbeddings = 0;
constexpr int block_bucket(int l) {
    return 1 + l;
}
inline int last_bucket(const ModelConfig& c) {
    return 1 + c.L;
}
inline int lm_head_bucket(const ModelConfig& c) {
    return c.tied_embeddings ? kEmbeddings : last_bucket(c);
}

// The three uses of dropout; p = 0 unless training.
template <class E>
Dropout embedding_dropout(const DeviceContext<E>& ctx) {
    const float p = ctx.training ? ctx.config.dropout_embedding : 0.0f;
    return {p, ctx.seed, ctx.first_sample, RngStream::dropout_embedding, 0, 0};
}
template <class E>
Dropout attention_dropout(const DeviceContext<E>& ctx, int layer) {
    const float p = ctx.training ? ctx.config.dropout_attention : 0.0f;
    return {p, ctx.seed, ctx.first_sample, RngStream::dropout_attention, uint32_t(layer), 0};
}
template <class E>
Dropout residual_dropout(const DeviceContext<E>& ctx, int layer, uint32_t site) {
    const float p = ctx.training ? ctx.config.dropout_residual : 0.0f;
    return {p, ctx.seed, ctx.first_sample, RngStream::dropout_residual, uint32_t(layer), site};
}

// A norm's output, statistics and weights.
template <class E>
struct NormTensors {
    E* y;
    float *mean, *rstd;
    const E *w, *b;
};

template <class E>
void norm_forward(const DeviceContext<E>& ctx, const NormTensors<E>& n, const E* x) {
    const auto of = range(ctx, Group::norm);
    const int N = ctx.B * ctx.T, C = ctx.config.C;
    const float eps = ctx.config.norm_eps;
    switch (ctx.config.norm) {
        case Norm::layernorm: return layernorm_forward(n.y, n.mean, n.rstd, x, n.w, n.b, eps, N, C, ctx.stream);
        case Norm::rmsnorm: return rmsnorm_forward(n.y, n.rstd, x, n.w, eps, N, C, ctx.stream);
    }
}

// sum = x + dropout(branch), and the norm of sum. Without dropout one kernel does both.
template <class E>
void residual_norm_forward(const DeviceContext<E>& ctx, E* sum, const NormTensors<E>& n, const E* x, const E* branch,
                           const Dropout& dropout) {
    const int N = ctx.B * ctx.T, C = ctx.config.C;
    const float eps = ctx.config.norm_eps;
    if (dropout.p > 0) {
        {
            const auto of = range(ctx, Group::dropout);
            residual_forward(sum, x, branch, dropout, ctx.B, ctx.T, C, ctx.stream);
        }
        return norm_forward(ctx, n, sum);
    }
    const auto of = range(ctx, Group::norm);
    switch (ctx.config.norm) {
        case Norm::layernorm:
            return residual_layernorm_forward(sum, n.y, n.mean, n.rstd, x, branch, n.w, n.b, eps, N, C, ctx.stream);
        case Norm::rmsnorm: return residual_rmsnorm_forward(sum, n.y, n.rstd, x, branch, n.w, eps, N, C, ctx.stream);
    }
}

// dx +=, or dx = if `set`.
template <class E, class G>
void norm_backward(const DeviceContext<E>& ctx, float* scratch, E* dx, G* dw, G* db, const E* dy, const E* x,
                   const NormTensors<E>& n, bool accumulate, bool set = false) {
    const auto of = range(ctx, Group::norm);
    const NormBackward<E, G> a{dx,           dw,   db,        scratch, dy, x, n.mean, n.rstd, n.w, ctx.B * ctx.T,
                               ctx.config.C, !set, accumulate};
    switch (ctx.config.norm) {
        case Norm::layernorm: return layernorm_backward(a, ctx.stream);
        case Norm::rmsnorm: return rmsnorm_backward(a, ctx.stream);
    }
}

template <class E>
NormTensors<E> ln1(const DeviceBlock<E>& a, const BlockParams<E>& p) {
    return {a.ln1, a.ln1_mean, a.ln1_rstd, p.ln1_w, p.ln1_b};
}
template <class E>
NormTensors<E> ln2(const DeviceBlock<E>& a, const BlockParams<E>& p) {
    return {a.ln2, a.ln2_mean, a.ln2_rstd, p.ln2_w, p.ln2_b};
}
// The norm that reads the output of block l: ln1 of the next block, or lnf.
template <class E>
NormTensors<E> norm_after(const DeviceContext<E>& ctx, const DeviceActivations<E>& acts, int l) {
    if (l + 1 < ctx.config.L) return ln1(acts.block[l + 1], ctx.params.block[l + 1]);
    return {acts.lnf, acts.lnf_mean, acts.lnf_rstd, ctx.params.lnf_w, ctx.params.lnf_b};
}

template <class E>
void linear_forward(const DeviceContext<E>& ctx, E* out, const E* in, const E* w, const E* bias, int I, int O) {
    const auto of = range(ctx, Group::matmuls);
    ctx.matmul.forward(out, in, w, bias, {.N = ctx.B * ctx.T, .I = I, .O = O}, ctx.stream);
}

// dw and db = or += (accumulate). db is null without bias.
template <class E, class G>
void weight_backward(const DeviceContext<E>& ctx, float* scratch, G* dw, G* db, const E* dout, const E* in, int I,
                     int O, bool accumulate) {
    const int N = ctx.B * ctx.T;
    {
        const auto of = range(ctx, Group::matmuls);
        ctx.matmul.backward_weight(dw, dout, in, {.N = N, .I = I, .O = O}, accumulate, ctx.stream);
    }
    if (!db) return;
    const auto of = range(ctx, Group::bias);
    bias_backward(db, scratch, dout, N, O, accumulate, ctx.stream);
}
// Also sets dx.
template <class E, class G>
void linear_backward(const DeviceContext<E>& ctx, float* scratch, E* dx, G* dw, G* db, const E* dout, const E* in,
                     const E* w, int I, int O, bool accumulate) {
    weight_backward(ctx, scratch, dw, db, dout, in, I, O, accumulate);
    const auto of = range(ctx, Group::matmuls);
    ctx.matmul.backward_input(dx, dout, w, {.N = ctx.B * ctx.T, .I = I, .O = O}, ctx.stream);
}

// ln1 -> qkv, with bias and QK-norm but without RoPE.
template <class E>
void qkv_forward(const DeviceContext<E>& ctx, const DeviceBlock<E>& a, const BlockParams<E>& p) {
    const ModelConfig& c = ctx.config;
    linear_forward(ctx, a.qkv, a.ln1, p.qkv_w, p.qkv_b, c.C, c.QKV());
    if (c.qk_norm) {
        const auto of = range(ctx, Group::norm);
        qk_norm_forward(a.qkv, a.qk_raw, a.qk_rstd, p.q_norm, p.k_norm, c.norm_eps, ctx.B * ctx.T, c.NH, c.NKV, c.HS,
                        ctx.stream);
    }
}

// Rotates q and k of qkv in place; backward: rotates their gradients back.
template <class E>
void apply_rope(const DeviceContext<E>& ctx, E* qkv, bool backward) {
    const ModelConfig& c = ctx.config;
    switch (c.position) {
        case Position::learned: return;
        case Position::rope:
            const auto of = range(ctx, Group::rope);
            return rope(qkv, ctx.rope_table, 0, ctx.B, ctx.T, c.NH, c.NKV, c.HS, backward, ctx.stream);
    }
}

// fc -> act.
template <class E>
void activation_forward(const DeviceContext<E>& ctx, const DeviceBlock<E>& a) {
    const auto of = range(ctx, Group::activation);
    switch (ctx.config.mlp) {
        case Mlp::gelu: return gelu_forward(a.act, a.fc, ctx.B * ctx.T, ctx.config.F, ctx.stream);
        case Mlp::swiglu: return swiglu_forward(a.act, a.fc, ctx.B * ctx.T, ctx.config.F, ctx.stream);
    }
}

// Whether the matmul applies GELU itself. level: from which value of fused_gelu on it does.
template <class E>
bool fuses_gelu(const DeviceContext<E>& ctx, int level) {
    switch (ctx.config.mlp) {
        case Mlp::gelu: return ctx.fused_gelu >= level;
        case Mlp::swiglu: return false;
    }
    __builtin_unreachable();
}

// ln2 -> act: the MLP up to its second matrix.
template <class E>
void mlp_forward(const DeviceContext<E>& ctx, const DeviceBlock<E>& a, const BlockParams<E>& p) {
    const ModelConfig& c = ctx.config;
    if (fuses_gelu(ctx, 1)) {
        const auto of = range(ctx, Group::matmuls);
        ctx.matmul.forward_gelu(a.act, a.fc, a.ln2, p.fc_w, p.fc_b, {.N = ctx.B * ctx.T, .I = c.C, .O = c.F},
                                ctx.stream);
        return;
    }
    linear_forward(ctx, a.fc, a.ln2, p.fc_w, p.fc_b, c.C, c.FC());
    activation_forward(ctx, a);
}

// qkv -> attn and lse.
template <class E>
void attention(const DeviceContext<E>& ctx, const DeviceBlock<E>& a, const Dropout& dropout) {
    const ModelConfig& c = ctx.config;
    if constexpr (!std::is_same_v<E, float>) {
        if (ctx.flash) {
            return flash_attention_forward(a.attn, a.lse, a.qkv, {}, dropout, ctx.B, ctx.T, c.NH, c.NKV, c.HS,
                                           ctx.stream);
        }
    }
    attention_forward(a.attn, a.lse, a.qkv, dropout, ctx.B, ctx.T, c.NH, c.NKV, c.HS, ctx.stream);
}
// d_attn -> d_qkv and its bias's gradient.
template <class E, class G>
void backward_through_attention(const DeviceContext<E>& ctx, const DeviceActivations<E>& acts, const DeviceBlock<E>& a,
                                const BiasGradient<G>& bias, const Dropout& dropout) {
    const auto of = range(ctx, Group::attention);
    const ModelConfig& c = ctx.config;
    if constexpr (!std::is_same_v<E, float>) {
        if (ctx.flash) {
            return flash_attention_backward(acts.d_qkv, bias, acts.scratch, acts.d_attn, a.attn, a.qkv, a.lse, {},
                                            dropout, ctx.B, ctx.T, c.NH, c.NKV, c.HS, ctx.stream);
        }
    }
    attention_backward(acts.d_qkv, bias, acts.scratch, acts.d_attn, a.attn, a.qkv, a.lse, dropout, ctx.B, ctx.T, c.NH,
                       c.NKV, c.HS, ctx.stream);
}

}  // namespace kiln::layers
