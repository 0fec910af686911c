// Reads beside cpu_reference/decoder.cpp: the same operations in the same order. What differs is said where it stands.
#include "cuda/engine/decoder.h"

#include <algorithm>

#include "cuda/device/cuda_check.h"

namespace kiln {
namespace {

// What is queued in its scope is the group's, for a profile.
template <class E>
GroupRange range(const DeviceContext<E>& x, Group group) {
    return {x.profiler, group, x.stream};
}

// The three uses of dropout; p = 0 unless training.
template <class E>
Dropout embedding_dropout(const DeviceContext<E>& x) {
    const float p = x.training ? x.config.dropout_embedding : 0.0f;
    return {p, x.seed, x.first_sample, RngStream::dropout_embedding, 0, 0};
}
template <class E>
Dropout attention_dropout(const DeviceContext<E>& x, int layer) {
    const float p = x.training ? x.config.dropout_attention : 0.0f;
    return {p, x.seed, x.first_sample, RngStream::dropout_attention, uint32_t(layer), 0};
}
template <class E>
Dropout residual_dropout(const DeviceContext<E>& x, int layer, uint32_t site) {
    const float p = x.training ? x.config.dropout_residual : 0.0f;
    return {p, x.seed, x.first_sample, RngStream::dropout_residual, uint32_t(layer), site};
}

// A norm's output, statistics and weights.
template <class E>
struct NormTensors {
    E* y;
    float *mean, *rstd;
    const E *w, *b;
};

template <class E>
void norm_forward(const DeviceContext<E>& x, const NormTensors<E>& n, const E* in) {
    const auto of = range(x, Group::norm);
    const int N = x.B * x.T;
    if (x.config.norm == Norm::layernorm) {
        layernorm_forward(n.y, n.mean, n.rstd, in, n.w, n.b, x.config.norm_eps, N, x.config.C, x.stream);
    } else {
        rmsnorm_forward(n.y, n.rstd, in, n.w, x.config.norm_eps, N, x.config.C, x.stream);
    }
}

// sum = residual + dropout(branch), and the norm of it: one kernel where nothing drops out.
template <class E>
void residual_norm_forward(const DeviceContext<E>& x, E* sum, const NormTensors<E>& n, const E* residual,
                           const E* branch, const Dropout& dropout) {
    const int N = x.B * x.T, C = x.config.C;
    if (dropout.p > 0) {
        {
            const auto of = range(x, Group::dropout);
            residual_forward(sum, residual, branch, dropout, x.B, x.T, C, x.stream);
        }
        return norm_forward(x, n, sum);
    }
    const auto of = range(x, Group::norm);
    if (x.config.norm == Norm::layernorm) {
        residual_layernorm_forward(sum, n.y, n.mean, n.rstd, residual, branch, n.w, n.b, x.config.norm_eps, N, C,
                                   x.stream);
    } else {
        residual_rmsnorm_forward(sum, n.y, n.rstd, residual, branch, n.w, x.config.norm_eps, N, C, x.stream);
    }
}

// dx +=, or = where `set`.
template <class E, class G>
void norm_backward(const DeviceContext<E>& x, float* scratch, E* dx, G* dw, G* db, const E* dy, const E* in,
                   const NormTensors<E>& n, bool accumulate, bool set = false) {
    const auto of = range(x, Group::norm);
    const NormBackward<E, G> a{dx,     dw,  db,        scratch,    dy,   in,        n.mean,
                               n.rstd, n.w, x.B * x.T, x.config.C, !set, accumulate};
    if (x.config.norm == Norm::layernorm) {
        layernorm_backward(a, x.stream);
    } else {
        rmsnorm_backward(a, x.stream);
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
// The norm that follows block l: the next block's first, or the last of the model.
template <class E>
NormTensors<E> norm_after(const DeviceContext<E>& x, const DeviceActivations<E>& acts, int l) {
    if (l + 1 < x.config.L) return ln1(acts.block[l + 1], x.params.block[l + 1]);
    return {acts.lnf, acts.lnf_mean, acts.lnf_rstd, x.params.lnf_w, x.params.lnf_b};
}

template <class E>
void linear_forward(const DeviceContext<E>& x, E* out, const E* in, const E* w, const E* bias, int I, int O) {
    const auto of = range(x, Group::matmuls);
    x.matmul.forward(out, in, w, bias, {.N = x.B * x.T, .I = I, .O = O}, x.stream);
}

// dw, db =|+=. db null without bias.
template <class E, class G>
void weight_backward(const DeviceContext<E>& x, float* scratch, G* dw, G* db, const E* dout, const E* in, int I, int O,
                     bool accumulate) {
    const int N = x.B * x.T;
    {
        const auto of = range(x, Group::matmuls);
        x.matmul.backward_weight(dw, nullptr, dout, in, {.N = N, .I = I, .O = O}, accumulate, x.stream);
    }
    if (!db) return;
    const auto of = range(x, Group::bias);
    bias_backward(db, scratch, dout, N, O, accumulate, x.stream);
}
// The same, and dx =.
template <class E, class G>
void linear_backward(const DeviceContext<E>& x, float* scratch, E* dx, G* dw, G* db, const E* dout, const E* in,
                     const E* w, int I, int O, bool accumulate) {
    weight_backward(x, scratch, dw, db, dout, in, I, O, accumulate);
    const auto of = range(x, Group::matmuls);
    x.matmul.backward_input(dx, dout, w, {.N = x.B * x.T, .I = I, .O = O}, x.stream);
}

// ln1 -> qkv, normed and biased but not turned.
template <class E>
void qkv_forward(const DeviceContext<E>& x, const DeviceBlock<E>& a, const BlockParams<E>& p) {
    const ModelConfig& c = x.config;
    linear_forward(x, a.qkv, a.ln1, p.qkv_w, p.qkv_b, c.C, c.QKV());
    if (c.qk_norm) {
        const auto of = range(x, Group::norm);
        qk_norm_forward(a.qkv, a.qk_raw, a.qk_rstd, p.q_norm, p.k_norm, c.norm_eps, x.B * x.T, c.NH, c.NKV, c.HS,
                        x.stream);
    }
}

// fc -> act.
template <class E>
void activation_forward(const DeviceContext<E>& x, const DeviceBlock<E>& a) {
    const auto of = range(x, Group::activation);
    if (x.config.mlp == Mlp::gelu) {
        gelu_forward(a.act, a.fc, x.B * x.T, x.config.F, x.stream);
    } else {
        swiglu_forward(a.act, a.fc, x.B * x.T, x.config.F, x.stream);
    }
}

// ln2 -> act: the MLP up to its second matrix.
template <class E>
void mlp_forward(const DeviceContext<E>& x, const DeviceBlock<E>& a, const BlockParams<E>& p) {
    const ModelConfig& c = x.config;
    if (c.mlp == Mlp::gelu && x.fused_gelu > 0) {
        const auto of = range(x, Group::matmuls);
        x.matmul.forward_gelu(a.act, a.fc, a.ln2, p.fc_w, p.fc_b, {.N = x.B * x.T, .I = c.C, .O = c.F}, x.stream);
        return;
    }
    linear_forward(x, a.fc, a.ln2, p.fc_w, p.fc_b, c.C, c.FC());
    activation_forward(x, a);
}

// qkv -> attn and lse.
template <class E>
void attention(const DeviceContext<E>& x, const DeviceBlock<E>& a, const Dropout& dropout) {
    const ModelConfig& c = x.config;
    if constexpr (!std::is_same_v<E, float>) {
        if (x.flash) {
            return flash_attention_forward(a.attn, a.lse, a.qkv, {}, dropout, x.B, x.T, c.NH, c.NKV, c.HS, x.stream);
        }
    }
    attention_forward(a.attn, a.lse, a.qkv, dropout, x.B, x.T, c.NH, c.NKV, c.HS, x.stream);
}
// d_attn -> d_qkv.
template <class E>
void backward_through_attention(const DeviceContext<E>& x, const DeviceActivations<E>& acts, const DeviceBlock<E>& a,
                                const Dropout& dropout) {
    const ModelConfig& c = x.config;
    if constexpr (!std::is_same_v<E, float>) {
        if (x.flash) {
            return flash_attention_backward(acts.d_qkv, acts.scratch, acts.d_attn, a.attn, a.qkv, a.lse, {}, dropout,
                                            x.B, x.T, c.NH, c.NKV, c.HS, x.stream);
        }
    }
    attention_backward(acts.d_qkv, acts.scratch, acts.d_attn, a.attn, a.qkv, a.lse, dropout, x.B, x.T, c.NH, c.NKV,
                       c.HS, x.stream);
}

// ln1 -> mid and ln2: the block up to its MLP. in: the block's input.
template <class E>
void attention_half(const DeviceContext<E>& x, DeviceActivations<E>& acts, int l, const E* in) {
    const ModelConfig& c = x.config;
    const BlockParams<E>& p = x.params.block[l];
    const DeviceBlock<E>& a = acts.block[l];
    qkv_forward(x, a, p);
    if (c.position == Position::rope) {
        const auto of = range(x, Group::rope);
        rope(a.qkv, x.rope_table, 0, x.B, x.T, c.NH, c.NKV, c.HS, false, x.stream);
    }
    {
        const auto of = range(x, Group::attention);
        attention(x, a, attention_dropout(x, l));
    }
    linear_forward(x, acts.branch, a.attn, p.attn_out_w, p.attn_out_b, c.NH * c.HS, c.C);
    residual_norm_forward(x, a.mid, ln2(a, p), in, acts.branch, residual_dropout(x, l, 0));
}

// mid and ln2 -> out, and the norm that follows.
template <class E>
void mlp_half(const DeviceContext<E>& x, DeviceActivations<E>& acts, int l) {
    const BlockParams<E>& p = x.params.block[l];
    const DeviceBlock<E>& a = acts.block[l];
    mlp_forward(x, a, p);
    linear_forward(x, acts.branch, a.act, p.proj_w, p.proj_b, x.config.F, x.config.C);
    residual_norm_forward(x, a.out, norm_after(x, acts, l), a.mid, acts.branch, residual_dropout(x, l, 1));
}

}  // namespace

size_t decoder_scratch_floats(const ModelConfig& c, const DeviceShape& s) {
    if (!s.training) return 0;
    const int N = s.B * s.T;
    size_t most = std::max(norm_backward_scratch_floats(N, c.C), size_t(N) * c.NH);  // plain attention's delta
    if (s.flash) most = std::max(most, flash_attention_scratch_floats(s.B, s.T, c.NH, c.HS));
    most = std::max(most, size_t(TokenOrder::max_partials(N)) * c.C);
    if (c.qk_norm) most = std::max(most, qk_norm_backward_scratch_floats(c.HS));
    for (const int O : {c.C, c.QKV(), c.FC()}) most = std::max(most, bias_backward_scratch_floats(N, O));
    return std::max(most, sum_of_squares_scratch_floats());
}

template <class E>
void decoder_forward(const DeviceContext<E>& x, DeviceActivations<E>& acts, const int* tokens) {
    const ModelConfig& c = x.config;
    {
        const auto of = range(x, Group::embedding);
        embedding_forward(acts.embedded, tokens, x.params.wte, x.params.wpe, 0, x.B, x.T, c.C, x.stream);
    }
    if (const Dropout d = embedding_dropout(x); d.p > 0) {
        const auto of = range(x, Group::dropout);
        dropout(acts.embedded, acts.embedded, d, x.B, x.T, c.C, x.stream);
    }
    norm_forward(x, ln1(acts.block[0], x.params.block[0]), acts.embedded);
    for (int l = 0; l < c.L; l++) {
        const NvtxRange layer("layer, forward", l);
        attention_half(x, acts, l, l > 0 ? acts.block[l - 1].out : acts.embedded);
        mlp_half(x, acts, l);
    }
}

namespace {

// Calls work(piece, rows) for the pieces, from 0, that products of the head take of `rows`.
template <class E, class Work>
void for_each_lm_head_chunk(const DeviceContext<E>& x, int rows, Work work) {
    const int most = x.lm_head_chunk > 0 ? x.lm_head_chunk : rows;
    for (int piece = 0; piece < rows; piece += most) work(piece, std::min(most, rows - piece));
}

}  // namespace

template <class E>
void lm_head_forward(const DeviceContext<E>& x, DeviceActivations<E>& acts, const int* targets, float gradient_scale,
                     const float* gradient_factor, int first, int rows) {
    const ModelConfig& c = x.config;
    const int Vp = padded_vocab(c);
    {
        const auto of = range(x, Group::matmuls);
        for_each_lm_head_chunk(x, rows, [&](int piece, int n) {
            x.matmul.forward(acts.logits + size_t(piece) * Vp, acts.lnf + (size_t(first) + piece) * c.C,
                             x.params.lm_head, nullptr, {.N = n, .I = c.C, .O = Vp}, x.stream);
        });
    }
    const auto of = range(x, Group::loss);
    cross_entropy(acts.losses + first, acts.logits, targets + first, gradient_scale, gradient_factor, rows, c.V, Vp,
                  x.stream);
}

template <class E, class G>
void lm_head_backward(const DeviceContext<E>& x, DeviceActivations<E>& acts, const Params<G>& grads, int first,
                      int rows, bool accumulate) {
    const auto of = range(x, Group::matmuls);
    const ModelConfig& c = x.config;
    const int Vp = padded_vocab(c);
    for_each_lm_head_chunk(x, rows, [&](int piece, int n) {
        const E* const d_logits = acts.logits + size_t(piece) * Vp;
        const size_t row = (size_t(first) + piece) * c.C;
        const Linear layer{.N = n, .I = c.C, .O = Vp};
        x.matmul.backward_weight(grads.lm_head, nullptr, d_logits, acts.lnf + row, layer, accumulate || piece > 0,
                                 x.stream);
        x.matmul.backward_input(acts.branch + row, d_logits, x.params.lm_head, layer, x.stream);
    });
}

template <class E, class G>
void decoder_backward(const DeviceContext<E>& x, DeviceActivations<E>& acts, const Params<G>& grads,
                      const TokenRows& rows, bool accumulate) {
    const ModelConfig& c = x.config;
    const int N = x.B * x.T, C = c.C, A = c.NH * c.HS;
    E* const dx = acts.d_residual;
    float* const scratch = acts.scratch;

    norm_backward(x, scratch, dx, grads.lnf_w, grads.lnf_b, acts.branch, acts.block[c.L - 1].out,
                  norm_after(x, acts, c.L - 1), accumulate, /*set=*/true);
    for (int l = c.L - 1; l >= 0; l--) {
        const NvtxRange layer("layer, backward", l);
        const BlockParams<E>& p = x.params.block[l];
        const BlockParams<G>& g = grads.block[l];
        const DeviceBlock<E>& a = acts.block[l];
        const E* const in = l > 0 ? acts.block[l - 1].out : acts.embedded;

        if (x.recompute >= Recompute::norms) norm_forward(x, ln1(a, p), in);
        if (x.recompute == Recompute::blocks) {
            attention_half(x, acts, l, in);
            mlp_forward(x, a, p);
        } else {
            if (x.recompute == Recompute::norms) norm_forward(x, ln2(a, p), a.mid);
            if (x.recompute >= Recompute::activation) activation_forward(x, a);
        }

        // The gradient of what goes through dropout; the residual stream's own where nothing does.
        const auto through_dropout = [&](uint32_t site) -> const E* {
            const Dropout d = residual_dropout(x, l, site);
            if (d.p == 0) return dx;
            const auto of = range(x, Group::dropout);
            dropout(acts.branch, dx, d, x.B, x.T, C, x.stream);
            return acts.branch;
        };
        const E* d_branch = through_dropout(1);
        E* d_fc = acts.d_act;
        weight_backward(x, scratch, g.proj_w, g.proj_b, d_branch, a.act, c.F, C, accumulate);
        if (c.mlp == Mlp::gelu && x.fused_gelu > 1) {
            const auto of = range(x, Group::matmuls);
            x.matmul.backward_input_gelu(acts.d_act, nullptr, d_branch, p.proj_w, a.fc, {.N = N, .I = c.F, .O = C},
                                         x.stream);
        } else {
            {
                const auto of = range(x, Group::matmuls);
                x.matmul.backward_input(acts.d_act, d_branch, p.proj_w, {.N = N, .I = c.F, .O = C}, x.stream);
            }
            const auto of = range(x, Group::activation);
            if (c.mlp == Mlp::gelu) {
                gelu_backward(d_fc, acts.d_act, a.fc, N, c.F, x.stream);
            } else {
                d_fc = a.fc;  // twice as wide as act, and not read again
                swiglu_backward(d_fc, acts.d_act, a.fc, N, c.F, x.stream);
            }
        }
        linear_backward(x, scratch, acts.branch, g.fc_w, g.fc_b, d_fc, a.ln2, p.fc_w, C, c.FC(), accumulate);
        norm_backward(x, scratch, dx, g.ln2_w, g.ln2_b, acts.branch, a.mid, ln2(a, p), accumulate);

        linear_backward(x, scratch, acts.d_attn, g.attn_out_w, g.attn_out_b, through_dropout(0), a.attn, p.attn_out_w,
                        A, C, accumulate);
        {
            const auto of = range(x, Group::attention);
            backward_through_attention(x, acts, a, attention_dropout(x, l));
        }
        if (c.position == Position::rope) {
            const auto of = range(x, Group::rope);
            rope(acts.d_qkv, x.rope_table, 0, x.B, x.T, c.NH, c.NKV, c.HS, true, x.stream);
        }
        if (c.qk_norm) {
            const auto of = range(x, Group::norm);
            qk_norm_backward(QkNormBackward<E, G>{acts.d_qkv, g.q_norm, g.k_norm, scratch, a.qk_raw, a.qk_rstd,
                                                  p.q_norm, p.k_norm, N, c.NH, c.NKV, c.HS, accumulate},
                             x.stream);
        }
        linear_backward(x, scratch, acts.branch, g.qkv_w, g.qkv_b, acts.d_qkv, a.ln1, p.qkv_w, C, c.QKV(), accumulate);
        norm_backward(x, scratch, dx, g.ln1_w, g.ln1_b, acts.branch, in, ln1(a, p), accumulate);
    }
    if (const Dropout d = embedding_dropout(x); d.p > 0) {
        const auto of = range(x, Group::dropout);
        dropout(dx, dx, d, x.B, x.T, C, x.stream);
    }
    const auto of = range(x, Group::embedding);
    embedding_backward(grads.wte, grads.wpe, scratch, dx, rows, 0, x.B, x.T, C, x.stream);
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
void decoder_prefill(const DeviceContext<E>& x, DeviceActivations<E>& acts, const DeviceCache<E>& cache, int slot,
                     const int* tokens, const int* zero) {
    const ModelConfig& c = x.config;
    embedding_forward(acts.embedded, tokens, x.params.wte, x.params.wpe, 0, 1, x.T, c.C, x.stream);
    norm_forward(x, ln1(acts.block[0], x.params.block[0]), acts.embedded);
    for (int l = 0; l < c.L; l++) {
        attention_half(x, acts, l, l > 0 ? acts.block[l - 1].out : acts.embedded);
        const LayerCache<E> layer = layer_cache(c, cache, l, slot);
        append_to_cache(layer.k, layer.v, acts.block[l].qkv, zero, 1, x.T, cache.max_T, c.NH, c.NKV, c.HS, x.stream);
        mlp_half(x, acts, l);
    }
}

template <class E>
void decoder_decode(const DeviceContext<E>& x, DeviceActivations<E>& acts, const DeviceCache<E>& cache, int first_slot,
                    const int* tokens, const int* positions, const CacheScratch& scratch) {
    const ModelConfig& c = x.config;
    const int N = x.B * x.T;
    embedding_at(acts.embedded, tokens, x.params.wte, x.params.wpe, positions, N, c.C, x.stream);
    norm_forward(x, ln1(acts.block[0], x.params.block[0]), acts.embedded);
    for (int l = 0; l < c.L; l++) {
        const BlockParams<E>& p = x.params.block[l];
        const DeviceBlock<E>& a = acts.block[l];
        const LayerCache<E> layer = layer_cache(c, cache, l, first_slot);
        qkv_forward(x, a, p);
        if (c.position == Position::rope) {
            rope_at(a.qkv, x.rope_table, positions, N, c.NH, c.NKV, c.HS, x.stream);
        }
        append_to_cache(layer.k, layer.v, a.qkv, positions, x.B, x.T, cache.max_T, c.NH, c.NKV, c.HS, x.stream);
        attention_cached(CachedAttention<E>{a.attn, scratch.scratch, scratch.arrivals, a.qkv, layer.k, layer.v,
                                            positions, x.B, x.T, cache.max_T, c.NH, c.NKV, c.HS},
                         x.stream);
        linear_forward(x, acts.branch, a.attn, p.attn_out_w, p.attn_out_b, c.NH * c.HS, c.C);
        residual_norm_forward(x, a.mid, ln2(a, p), l > 0 ? acts.block[l - 1].out : acts.embedded, acts.branch, {});
        mlp_half(x, acts, l);
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
KILN_DECODER(float)
KILN_DECODER(__nv_bfloat16)
KILN_DECODER(__half)
KILN_DECODER_BACKWARD(float, float)
KILN_DECODER_BACKWARD(__nv_bfloat16, float)
KILN_DECODER_BACKWARD(__nv_bfloat16, __nv_bfloat16)
KILN_DECODER_BACKWARD(__half, float)
KILN_DECODER_BACKWARD(__half, __half)

}  // namespace kiln
