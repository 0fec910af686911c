// The same operations in the same order as in cpu_reference/decoder.cpp: read the two files side by side. A comment
// says where this one differs. What a layer consists of is in layers.h.
#include "cuda/engine/decoder.h"

#include <algorithm>
#include <utility>

#include "cuda/device/cuda_check.h"
#include "cuda/device/element_types.h"
#include "cuda/engine/layers.h"

namespace kiln {
namespace {

using namespace layers;

// ln1 -> mid and ln2: the block up to its MLP. x is the input of the block.
template <class E>
void attention_half(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, int l, const E* x) {
    const ModelConfig& c = ctx.config;
    const BlockParams<E>& p = ctx.params.block[l];
    const DeviceBlock<E>& a = acts.block[l];
    qkv_forward(ctx, a, p);
    apply_rope(ctx, a.qkv, false);
    {
        const auto of = range(ctx, Group::attention);
        attention(ctx, a, attention_dropout(ctx, l));
    }
    linear_forward(ctx, acts.branch, a.attn, p.attn_out_w, p.attn_out_b, c.NH * c.HS, c.C);
    residual_norm_forward(ctx, a.mid, ln2(a, p), x, acts.branch, residual_dropout(ctx, l, 0));
}

// mid and ln2 -> out and its norm.
template <class E>
void mlp_half(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, int l) {
    const BlockParams<E>& p = ctx.params.block[l];
    const DeviceBlock<E>& a = acts.block[l];
    mlp_forward(ctx, a, p);
    linear_forward(ctx, acts.branch, a.act, p.proj_w, p.proj_b, ctx.config.F, ctx.config.C);
    at(ctx, &BucketHooks::before_params, block_bucket(l + 1));  // the norm after the last block is in the last bucket
    residual_norm_forward(ctx, a.out, norm_after(ctx, acts, l), a.mid, acts.branch, residual_dropout(ctx, l, 1));
}

// Whether attention's backward pass gives the gradient of qkv's bias: no later kernel changes d_qkv.
bool attention_sums_bias(const ModelConfig& c) {
    switch (c.position) {
        case Position::learned: return c.qkv_bias && !c.qk_norm;
        case Position::rope: return false;
    }
    __builtin_unreachable();
}

// The input of block l.
template <class E>
const E* block_input(const DeviceActivations<E>& acts, int l) {
    return l > 0 ? acts.block[l - 1].out : acts.embedded;
}

}  // namespace

size_t decoder_scratch_floats(const ModelConfig& c, const DeviceShape& s) {
    if (!s.training) return 0;
    const int N = s.B * s.T;
    size_t most = std::max(norm_backward_scratch_floats(N, c.C),
                           (s.flash ? flash_attention_scratch_floats : attention_scratch_floats)(
                               s.B, s.T, c.NH, c.NKV, c.HS, attention_sums_bias(c)));
    most = std::max(most, size_t(TokenOrder::max_partials(N)) * c.C);
    if (c.qk_norm) most = std::max(most, qk_norm_backward_scratch_floats(c.HS));
    for (const int O : {c.C, c.QKV(), c.FC()}) most = std::max(most, bias_backward_scratch_floats(N, O));
    return std::max(most, sum_of_squares_scratch_floats());
}

template <class E>
void decoder_forward(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, const int* tokens) {
    const ModelConfig& c = ctx.config;
    at(ctx, &BucketHooks::before_params, kEmbeddings);
    {
        const auto of = range(ctx, Group::embedding);
        embedding_forward(acts.embedded, tokens, ctx.params.wte, ctx.params.wpe, 0, ctx.B, ctx.T, c.C, ctx.stream);
    }
    if (const Dropout d = embedding_dropout(ctx); d.p > 0) {
        const auto of = range(ctx, Group::dropout);
        dropout(acts.embedded, acts.embedded, d, ctx.B, ctx.T, c.C, ctx.stream);
    }
    at(ctx, &BucketHooks::before_params, block_bucket(0));
    norm_forward(ctx, ln1(acts.block[0], ctx.params.block[0]), acts.embedded);
    for (int l = 0; l < c.L; l++) {
        const NvtxRange layer("layer, forward", l);
        attention_half(ctx, acts, l, block_input(acts, l));
        mlp_half(ctx, acts, l);
        at(ctx, &BucketHooks::after_params, block_bucket(l));
    }
}

namespace {

// Calls work(begin, count) for each chunk of `rows` rows that one matmul of the LM head takes.
template <class E, class Work>
void for_each_lm_head_chunk(const DeviceContext<E>& ctx, int rows, Work work) {
    const int most = ctx.lm_head_chunk > 0 ? ctx.lm_head_chunk : rows;
    for (int begin = 0; begin < rows; begin += most) work(begin, std::min(most, rows - begin));
}

}  // namespace

template <class E>
void lm_head_forward(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, const int* targets, float gradient_scale,
                     const float* gradient_factor, int first, int rows) {
    const ModelConfig& c = ctx.config;
    const int Vp = padded_vocab(c);
    at(ctx, &BucketHooks::before_params, lm_head_bucket(c));
    {
        const auto of = range(ctx, Group::matmuls);
        for_each_lm_head_chunk(ctx, rows, [&](int begin, int n) {
            ctx.matmul.forward(acts.logits + size_t(begin) * Vp, acts.lnf + (size_t(first) + begin) * c.C,
                               ctx.params.lm_head, nullptr, {.N = n, .I = c.C, .O = Vp}, ctx.stream);
        });
    }
    const auto of = range(ctx, Group::loss);
    cross_entropy(acts.losses + first, acts.logits, targets + first, gradient_scale, gradient_factor, rows, c.V, Vp,
                  ctx.stream);
}

template <class E, class G>
void lm_head_backward(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, const Params<G>& grads, int first,
                      int rows, bool accumulate) {
    const auto of = range(ctx, Group::matmuls);
    const ModelConfig& c = ctx.config;
    const int Vp = padded_vocab(c);
    at(ctx, &BucketHooks::before_gradients, lm_head_bucket(c));
    for_each_lm_head_chunk(ctx, rows, [&](int begin, int n) {
        const E* const d_logits = acts.logits + size_t(begin) * Vp;
        const size_t row = (size_t(first) + begin) * c.C;
        const Linear layer{.N = n, .I = c.C, .O = Vp};
        ctx.matmul.backward_weight(grads.lm_head, d_logits, acts.lnf + row, layer, accumulate || begin > 0, ctx.stream);
        ctx.matmul.backward_input(acts.branch + row, d_logits, ctx.params.lm_head, layer, ctx.stream);
    });
}

template <class E, class G>
void decoder_backward(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, const Params<G>& grads,
                      const TokenRows& rows, bool accumulate) {
    const ModelConfig& c = ctx.config;
    const int N = ctx.B * ctx.T, C = c.C, A = c.NH * c.HS;
    E* const dx = acts.d_residual;
    float* const scratch = acts.scratch;

    at(ctx, &BucketHooks::before_gradients, last_bucket(c));
    norm_backward(ctx, scratch, dx, grads.lnf_w, grads.lnf_b, acts.branch, acts.block[c.L - 1].out,
                  norm_after(ctx, acts, c.L - 1), accumulate, /*set=*/true);
    at(ctx, &BucketHooks::after_gradients, last_bucket(c));
    for (int l = c.L - 1; l >= 0; l--) {
        const NvtxRange layer("layer, backward", l);
        at(ctx, &BucketHooks::before_params, block_bucket(l));
        at(ctx, &BucketHooks::before_gradients, block_bucket(l));
        const BlockParams<E>& p = ctx.params.block[l];
        const BlockParams<G>& g = grads.block[l];
        const DeviceBlock<E>& a = acts.block[l];
        const E* const x = block_input(acts, l);

        if (ctx.recompute >= Recompute::norms) norm_forward(ctx, ln1(a, p), x);
        if (ctx.recompute == Recompute::blocks) {
            attention_half(ctx, acts, l, x);
            mlp_forward(ctx, a, p);
        } else {
            if (ctx.recompute == Recompute::norms) norm_forward(ctx, ln2(a, p), a.mid);
            // A matmul applies GELU to sums that are not rounded yet. Only the same matmul gives the same bits again.
            if (ctx.recompute >= Recompute::activation) {
                fuses_gelu(ctx, 1) ? mlp_forward(ctx, a, p) : activation_forward(ctx, a);
            }
        }

        // The gradient of a branch: without dropout it is the gradient of the residual stream itself.
        const auto through_dropout = [&](uint32_t site) -> const E* {
            const Dropout d = residual_dropout(ctx, l, site);
            if (d.p == 0) return dx;
            const auto of = range(ctx, Group::dropout);
            dropout(acts.branch, dx, d, ctx.B, ctx.T, C, ctx.stream);
            return acts.branch;
        };
        const E* d_branch = through_dropout(1);
        E* d_fc = acts.d_act;
        G* fc_b = g.fc_b;  // null once the kernel that writes d_fc has given the gradient; qkv_b likewise
        weight_backward(ctx, scratch, g.proj_w, g.proj_b, d_branch, a.act, c.F, C, accumulate);
        if (fuses_gelu(ctx, 2)) {
            const auto of = range(ctx, Group::matmuls);
            ctx.matmul.backward_input_gelu(acts.d_act, d_branch, p.proj_w, a.fc, {.N = N, .I = c.F, .O = C},
                                           ctx.stream);
        } else {
            {
                const auto of = range(ctx, Group::matmuls);
                ctx.matmul.backward_input(acts.d_act, d_branch, p.proj_w, {.N = N, .I = c.F, .O = C}, ctx.stream);
            }
            const auto of = range(ctx, Group::activation);
            switch (c.mlp) {
                case Mlp::gelu:
                    gelu_backward(d_fc, BiasGradient<G>{std::exchange(fc_b, nullptr), accumulate}, scratch, acts.d_act,
                                  a.fc, N, c.F, ctx.stream);
                    break;
                case Mlp::swiglu:
                    d_fc = a.fc;  // twice as wide as act; nothing reads it again
                    swiglu_backward(d_fc, acts.d_act, a.fc, N, c.F, ctx.stream);
                    break;
            }
        }
        linear_backward(ctx, scratch, acts.branch, g.fc_w, fc_b, d_fc, a.ln2, p.fc_w, C, c.FC(), accumulate);
        norm_backward(ctx, scratch, dx, g.ln2_w, g.ln2_b, acts.branch, a.mid, ln2(a, p), accumulate);

        linear_backward(ctx, scratch, acts.d_attn, g.attn_out_w, g.attn_out_b, through_dropout(0), a.attn, p.attn_out_w,
                        A, C, accumulate);
        G* qkv_b = g.qkv_b;
        const BiasGradient<G> bias{attention_sums_bias(c) ? std::exchange(qkv_b, nullptr) : nullptr, accumulate};
        backward_through_attention(ctx, acts, a, bias, attention_dropout(ctx, l));
        apply_rope(ctx, acts.d_qkv, true);
        if (c.qk_norm) {
            const auto of = range(ctx, Group::norm);
            qk_norm_backward(QkNormBackward<E, G>{acts.d_qkv, g.q_norm, g.k_norm, scratch, a.qk_raw, a.qk_rstd,
                                                  p.q_norm, p.k_norm, N, c.NH, c.NKV, c.HS, accumulate},
                             ctx.stream);
        }
        linear_backward(ctx, scratch, acts.branch, g.qkv_w, qkv_b, acts.d_qkv, a.ln1, p.qkv_w, C, c.QKV(), accumulate);
        norm_backward(ctx, scratch, dx, g.ln1_w, g.ln1_b, acts.branch, x, ln1(a, p), accumulate);
        at(ctx, &BucketHooks::after_params, block_bucket(l));
        at(ctx, &BucketHooks::after_gradients, block_bucket(l));
    }
    if (const Dropout d = embedding_dropout(ctx); d.p > 0) {
        const auto of = range(ctx, Group::dropout);
        dropout(dx, dx, d, ctx.B, ctx.T, C, ctx.stream);
    }
    const auto of = range(ctx, Group::embedding);
    at(ctx, &BucketHooks::before_gradients, kEmbeddings);
    embedding_backward(grads.wte, grads.wpe, scratch, dx, rows, 0, ctx.B, ctx.T, C, ctx.stream);
    at(ctx, &BucketHooks::after_gradients, kEmbeddings);
}

namespace {

template <class E>
struct LayerCache {
    E *k, *v;  // (slots from first_slot, NKV, max_T, cache_pitch(HS))
};
template <class E>
LayerCache<E> layer_cache(const ModelConfig& c, const DeviceCache<E>& cache, int l, int first_slot) {
    const size_t slot = size_t(c.NKV) * cache.max_T * cache_pitch<E>(c.HS), half = cache.slots * slot;
    E* const k = cache.data + size_t(l) * 2 * half + first_slot * slot;
    return {k, k + half};
}

}  // namespace

template <class E>
void decoder_prefill(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, const DeviceCache<E>& cache, int slot,
                     const int* tokens, const int* zero) {
    const ModelConfig& c = ctx.config;
    at(ctx, &BucketHooks::before_params, kEmbeddings);
    embedding_forward(acts.embedded, tokens, ctx.params.wte, ctx.params.wpe, 0, 1, ctx.T, c.C, ctx.stream);
    at(ctx, &BucketHooks::before_params, block_bucket(0));
    norm_forward(ctx, ln1(acts.block[0], ctx.params.block[0]), acts.embedded);
    for (int l = 0; l < c.L; l++) {
        attention_half(ctx, acts, l, block_input(acts, l));
        const LayerCache<E> layer = layer_cache(c, cache, l, slot);
        append_to_cache(layer.k, layer.v, acts.block[l].qkv, zero, 1, ctx.T, cache.max_T, c.NH, c.NKV, c.HS,
                        ctx.stream);
        mlp_half(ctx, acts, l);
        at(ctx, &BucketHooks::after_params, block_bucket(l));
    }
}

template <class E>
void decoder_decode(const DeviceContext<E>& ctx, DeviceActivations<E>& acts, const DeviceCache<E>& cache,
                    int first_slot, const int* tokens, const int* positions, const CacheScratch& scratch) {
    const ModelConfig& c = ctx.config;
    const int N = ctx.B * ctx.T;
    at(ctx, &BucketHooks::before_params, kEmbeddings);
    embedding_at(acts.embedded, tokens, ctx.params.wte, ctx.params.wpe, positions, N, c.C, ctx.stream);
    at(ctx, &BucketHooks::before_params, block_bucket(0));
    norm_forward(ctx, ln1(acts.block[0], ctx.params.block[0]), acts.embedded);
    for (int l = 0; l < c.L; l++) {
        const BlockParams<E>& p = ctx.params.block[l];
        const DeviceBlock<E>& a = acts.block[l];
        const LayerCache<E> layer = layer_cache(c, cache, l, first_slot);
        qkv_forward(ctx, a, p);
        switch (c.position) {
            case Position::learned: break;
            case Position::rope: rope_at(a.qkv, ctx.rope_table, positions, N, c.NH, c.NKV, c.HS, ctx.stream); break;
        }
        append_to_cache(layer.k, layer.v, a.qkv, positions, ctx.B, ctx.T, cache.max_T, c.NH, c.NKV, c.HS, ctx.stream);
        attention_cached(CachedAttention<E>{a.attn, scratch.scratch, scratch.arrivals, a.qkv, layer.k, layer.v,
                                            positions, ctx.B, ctx.T, cache.max_T, c.NH, c.NKV, c.HS},
                         ctx.stream);
        linear_forward(ctx, acts.branch, a.attn, p.attn_out_w, p.attn_out_b, c.NH * c.HS, c.C);
        residual_norm_forward(ctx, a.mid, ln2(a, p), block_input(acts, l), acts.branch, {});
        mlp_half(ctx, acts, l);
        at(ctx, &BucketHooks::after_params, block_bucket(l));
    }
}

#define KILN_DECODER(E)                                                                                            \
    template void decoder_forward(const DeviceContext<E>&, DeviceActivations<E>&, const int*);                     \
    template void lm_head_forward(const DeviceContext<E>&, DeviceActivations<E>&, const int*, float, const float*, \
                                  int, int);                                                                       \
    template void decoder_prefill(const DeviceContext<E>&, DeviceActivations<E>&, const DeviceCache<E>&, int,      \
                                  const int*, const int*);                                                         \
    template void decoder_decode(const DeviceContext<E>&, DeviceActivations<E>&, const DeviceCache<E>&, int,       \
                                 const int*, const int*, const CacheScratch&);
#define KILN_DECODER_BACKWARD(E, G)                                                                                    \
    template void lm_head_backward(const DeviceContext<E>&, DeviceActivations<E>&, const Params<G>&, int, int, bool);  \
    template void decoder_backward(const DeviceContext<E>&, DeviceActivations<E>&, const Params<G>&, const TokenRows&, \
                                   bool);
KILN_FOR_TYPES(KILN_DECODER)
KILN_FOR_GRADIENT_TYPES(KILN_DECODER_BACKWARD)

}  // namespace kiln
