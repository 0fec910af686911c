#include "cpu_reference/decoder.h"

#include <algorithm>

#include "cpu_reference/ops/ops.h"

namespace kiln {
namespace {

// The three uses of dropout; p = 0 unless training.
Dropout embedding_dropout(const DecoderContext& ctx) {
    const float p = ctx.training ? ctx.config.dropout_embedding : 0.0f;
    return {p, ctx.seed, ctx.first_sample, RngStream::dropout_embedding, 0, 0};
}
Dropout attention_dropout(const DecoderContext& ctx, int layer) {
    const float p = ctx.training ? ctx.config.dropout_attention : 0.0f;
    return {p, ctx.seed, ctx.first_sample, RngStream::dropout_attention, uint32_t(layer), 0};
}
Dropout residual_dropout(const DecoderContext& ctx, int layer, uint32_t site) {
    const float p = ctx.training ? ctx.config.dropout_residual : 0.0f;
    return {p, ctx.seed, ctx.first_sample, RngStream::dropout_residual, uint32_t(layer), site};
}

void norm_forward(const ModelConfig& c, float* y, float* mean, float* rstd, const float* x, const float* w,
                  const float* b, int N) {
    switch (c.norm) {
        case Norm::layernorm: return layernorm_forward(y, mean, rstd, x, w, b, c.norm_eps, N, c.C);
        case Norm::rmsnorm: return rmsnorm_forward(y, rstd, x, w, c.norm_eps, N, c.C);
    }
}

void norm_backward(const ModelConfig& c, float* dx, float* dw, float* db, const float* dy, const float* x,
                   const float* mean, const float* rstd, const float* w, int N, bool accumulate) {
    switch (c.norm) {
        case Norm::layernorm: return layernorm_backward(dx, dw, db, dy, x, mean, rstd, w, N, c.C, accumulate);
        case Norm::rmsnorm: return rmsnorm_backward(dx, dw, dy, x, rstd, w, N, c.C, accumulate);
    }
}

// Rotates q and k of T consecutive tokens from first_position on, or, if `backward`, their gradients back.
void rotate(const DecoderContext& ctx, float* qkv, int first_position, int B, int T, bool backward) {
    const ModelConfig& c = ctx.config;
    switch (c.position) {
        case Position::learned:  // embedding_forward adds it
            return;
        case Position::rope: return rope(qkv, ctx.rope_table, first_position, B, T, c.NH, c.NKV, c.HS, backward);
    }
}

// ln1 -> qkv, with bias and QK-norm but before RoPE.
void qkv_forward(const ModelConfig& c, const BlockActivations<float>& a, const BlockParams<float>& p, int N) {
    linear_forward(a.qkv, a.ln1, p.qkv_w, p.qkv_b, N, c.C, c.QKV());
    if (c.qk_norm) {
        qk_norm_forward(a.qkv, a.qk_raw, a.qk_rstd, p.q_norm, p.k_norm, c.norm_eps, N, c.NH, c.NKV, c.HS);
    }
}

// mid -> act: the MLP up to its second matrix.
void mlp_forward(const ModelConfig& c, const BlockActivations<float>& a, const BlockParams<float>& p, int N) {
    norm_forward(c, a.ln2, a.ln2_mean, a.ln2_rstd, a.mid, p.ln2_w, p.ln2_b, N);
    linear_forward(a.fc, a.ln2, p.fc_w, p.fc_b, N, c.C, c.FC());
    switch (c.mlp) {
        case Mlp::gelu: return gelu_forward(a.act, a.fc, N, c.F);
        case Mlp::swiglu: return swiglu_forward(a.act, a.fc, N, c.F);
    }
}

void activation_backward(const ModelConfig& c, float* dfc, const float* dact, const float* fc, int N) {
    switch (c.mlp) {
        case Mlp::gelu: return gelu_backward(dfc, dact, fc, N, c.F);
        case Mlp::swiglu: return swiglu_backward(dfc, dact, fc, N, c.F);
    }
}

}  // namespace

void decoder_forward(const DecoderContext& ctx, Activations<float>& acts, const int* tokens) {
    const ModelConfig& c = ctx.config;
    const int B = ctx.B, T = ctx.T, N = B * T, C = c.C, A = c.NH * c.HS;
    const Params<float>& params = ctx.params;

    embedding_forward(acts.embedded, tokens, params.wte, params.wpe, 0, B, T, C);
    dropout(acts.embedded, acts.embedded, embedding_dropout(ctx), B, T, C);
    const float* x = acts.embedded;  // the residual stream
    for (int l = 0; l < c.L; l++) {
        const BlockParams<float>& p = params.block[l];
        const BlockActivations<float>& a = acts.block[l];
        norm_forward(c, a.ln1, a.ln1_mean, a.ln1_rstd, x, p.ln1_w, p.ln1_b, N);
        qkv_forward(c, a, p, N);
        rotate(ctx, a.qkv, 0, B, T, false);
        attention_forward(a.attn, a.lse, acts.scratch, a.qkv, attention_dropout(ctx, l), B, T, c.NH, c.NKV, c.HS);
        linear_forward(acts.branch, a.attn, p.attn_out_w, p.attn_out_b, N, A, C);
        residual_forward(a.mid, x, acts.branch, residual_dropout(ctx, l, 0), B, T, C);
        mlp_forward(c, a, p, N);
        linear_forward(acts.branch, a.act, p.proj_w, p.proj_b, N, c.F, C);
        residual_forward(a.out, a.mid, acts.branch, residual_dropout(ctx, l, 1), B, T, C);
        x = a.out;
    }
    norm_forward(c, acts.lnf, acts.lnf_mean, acts.lnf_rstd, x, params.lnf_w, params.lnf_b, N);
}

void lm_head_forward(const DecoderContext& ctx, Activations<float>& acts, const int* targets, float gradient_scale,
                     int first, int rows) {
    const ModelConfig& c = ctx.config;
    const int stride = logits_stride(c);
    linear_forward(acts.logits, acts.lnf + size_t(first) * c.C, ctx.params.lm_head, nullptr, rows, c.C, c.V, stride);
    cross_entropy(acts.losses + first, acts.logits, targets + first, gradient_scale, rows, c.V, stride);
}

void lm_head_backward(const DecoderContext& ctx, Activations<float>& acts, const Params<float>& grads, int first,
                      int rows, bool accumulate) {
    const ModelConfig& c = ctx.config;
    const size_t row = size_t(first) * c.C;
    linear_backward(acts.branch + row, grads.lm_head, nullptr, acts.logits, acts.lnf + row, ctx.params.lm_head, rows,
                    c.C, c.V, accumulate, logits_stride(c));
}

void decoder_backward(const DecoderContext& ctx, Activations<float>& acts, const Params<float>& grads,
                      const int* tokens, bool accumulate) {
    const ModelConfig& c = ctx.config;
    const int B = ctx.B, T = ctx.T, N = B * T, C = c.C, A = c.NH * c.HS;
    const Params<float>& params = ctx.params;
    float* dx = acts.d_residual;

    std::fill(dx, dx + size_t(N) * C, 0.0f);
    norm_backward(c, dx, grads.lnf_w, grads.lnf_b, acts.branch, acts.block[c.L - 1].out, acts.lnf_mean, acts.lnf_rstd,
                  params.lnf_w, N, accumulate);
    for (int l = c.L - 1; l >= 0; l--) {
        const BlockParams<float>&p = params.block[l], &g = grads.block[l];
        const BlockActivations<float>& a = acts.block[l];
        const float* x = l > 0 ? acts.block[l - 1].out : acts.embedded;

        dropout(acts.branch, dx, residual_dropout(ctx, l, 1), B, T, C);
        linear_backward(acts.d_act, g.proj_w, g.proj_b, acts.branch, a.act, p.proj_w, N, c.F, C, accumulate);
        activation_backward(c, acts.d_fc, acts.d_act, a.fc, N);
        linear_backward(acts.branch, g.fc_w, g.fc_b, acts.d_fc, a.ln2, p.fc_w, N, C, c.FC(), accumulate);
        norm_backward(c, dx, g.ln2_w, g.ln2_b, acts.branch, a.mid, a.ln2_mean, a.ln2_rstd, p.ln2_w, N, accumulate);

        dropout(acts.branch, dx, residual_dropout(ctx, l, 0), B, T, C);
        linear_backward(acts.d_attn, g.attn_out_w, g.attn_out_b, acts.branch, a.attn, p.attn_out_w, N, A, C,
                        accumulate);
        attention_backward(acts.d_qkv, acts.scratch, acts.d_attn, a.attn, a.qkv, a.lse, attention_dropout(ctx, l), B, T,
                           c.NH, c.NKV, c.HS);
        rotate(ctx, acts.d_qkv, 0, B, T, true);
        if (c.qk_norm) {
            qk_norm_backward(acts.d_qkv, g.q_norm, g.k_norm, a.qk_raw, a.qk_rstd, p.q_norm, p.k_norm, N, c.NH, c.NKV,
                             c.HS, accumulate);
        }
        linear_backward(acts.branch, g.qkv_w, g.qkv_b, acts.d_qkv, a.ln1, p.qkv_w, N, C, c.QKV(), accumulate);
        norm_backward(c, dx, g.ln1_w, g.ln1_b, acts.branch, x, a.ln1_mean, a.ln1_rstd, p.ln1_w, N, accumulate);
    }
    dropout(dx, dx, embedding_dropout(ctx), B, T, C);
    embedding_backward(grads.wte, grads.wpe, dx, tokens, B, T, C);
}

namespace {

// Calls work(first, count) for the rows of each sequence.
template <class Work>
void for_each_sequence(const CacheRow* rows, int N, Work work) {
    for (int first = 0; first < N;) {
        int end = first + 1;
        while (end < N && rows[end].slot == rows[first].slot) end++;
        work(first, end - first);
        first = end;
    }
}

// Copies the keys and values of N rows of qkv to the cache of one layer.
void append_to_cache(const ModelConfig& c, float* layer, const KvCache& cache, const float* qkv, const CacheRow* rows,
                     int N) {
    const size_t per_slot = size_t(2) * c.NKV * cache.max_T * c.HS;
    for (int n = 0; n < N; n++) {
        float* slot = layer + rows[n].slot * per_slot;
        const float* row = qkv + size_t(n) * c.QKV() + size_t(c.NH) * c.HS;
        for (int head = 0; head < 2 * c.NKV; head++) {  // keys, then values
            std::copy(row + size_t(head) * c.HS, row + size_t(head + 1) * c.HS,
                      slot + (size_t(head) * cache.max_T + rows[n].position) * c.HS);
        }
    }
}

}  // namespace

void decoder_cached(const DecoderContext& ctx, Activations<float>& acts, const KvCache& cache, const int* tokens,
                    const CacheRow* rows, float* attention_scratch) {
    const ModelConfig& c = ctx.config;
    const int N = ctx.T, C = c.C, A = c.NH * c.HS;
    const Params<float>& params = ctx.params;
    const Dropout none{};
    const size_t per_slot = kv_cache_elems(c, 1, cache.max_T) / c.L;

    for_each_sequence(rows, N, [&](int first, int count) {
        embedding_forward(acts.embedded + size_t(first) * C, tokens + first, params.wte, params.wpe,
                          rows[first].position, 1, count, C);
    });
    const float* x = acts.embedded;  // the residual stream
    for (int l = 0; l < c.L; l++) {
        const BlockParams<float>& p = params.block[l];
        const BlockActivations<float>& a = acts.block[l];
        float* layer = cache.data + l * cache.slots * per_slot;
        norm_forward(c, a.ln1, a.ln1_mean, a.ln1_rstd, x, p.ln1_w, p.ln1_b, N);
        qkv_forward(c, a, p, N);
        for_each_sequence(rows, N, [&](int first, int count) {
            rotate(ctx, a.qkv + size_t(first) * c.QKV(), rows[first].position, 1, count, false);
        });
        append_to_cache(c, layer, cache, a.qkv, rows, N);
        for_each_sequence(rows, N, [&](int first, int count) {
            const float* k = layer + rows[first].slot * per_slot;
            attention_cached(a.attn + size_t(first) * A, attention_scratch, a.qkv + size_t(first) * c.QKV(), c.QKV(), k,
                             k + per_slot / 2, count, rows[first].position + count, cache.max_T, c.NH, c.NKV, c.HS);
        });
        linear_forward(acts.branch, a.attn, p.attn_out_w, p.attn_out_b, N, A, C);
        residual_forward(a.mid, x, acts.branch, none, 1, N, C);
        mlp_forward(c, a, p, N);
        linear_forward(acts.branch, a.act, p.proj_w, p.proj_b, N, c.F, C);
        residual_forward(a.out, a.mid, acts.branch, none, 1, N, C);
        x = a.out;
    }
    norm_forward(c, acts.lnf, acts.lnf_mean, acts.lnf_rstd, x, params.lnf_w, params.lnf_b, N);
}

}  // namespace kiln
