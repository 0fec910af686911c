#pragma once
// One visitor lists every parameter and another one every activation. Allocation, checkpoints, imported names, the
// optimizer, the memory plan and the gradient tests all use them, so no other place lists tensors.
#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "cpu_reference/interface/model_config.h"
#include "cpu_reference/interface/optimizer.h"

namespace kiln {

// An absent tensor is a null pointer. Weights are (out, in), row-major.
template <class T>
struct BlockParams {
    T *ln1_w, *ln1_b;            // (C)
    T *qkv_w, *qkv_b;            // (QKV, C), (QKV): q | k | v
    T *q_norm, *k_norm;          // (HS)
    T *attn_out_w, *attn_out_b;  // (C, NH*HS), (C)
    T *ln2_w, *ln2_b;            // (C)
    T *fc_w, *fc_b;              // (FC, C), (FC): gate | up for SwiGLU
    T *proj_w, *proj_b;          // (C, F), (C)
};

template <class T>
struct Params {
    T *wte, *wpe;                       // (V, C), (max_T, C)
    std::vector<BlockParams<T>> block;  // L
    T *lnf_w, *lnf_b;                   // (C)
    T* lm_head;                         // (V, C); equals wte when tied
};

enum class Init : unsigned char { ones, zeros, normal, normal_residual };  // residual: init_std / sqrt(2 L)

struct TensorSpec {
    std::string name;             // "wte", "block.3.qkv_w"
    int layer = -1;               // -1: not part of a block
    std::array<size_t, 2> shape;  // rank 1 is (n, 1)
    Init init;
    ParamGroup group;
    size_t offset = 0;      // elements from the start of the arena
    bool trainable = true;  // false: no update and no weight decay
    size_t elems() const { return shape[0] * shape[1]; }
    bool decays() const { return group != ParamGroup::vector; }
};

std::string tensor_name(const char* field, int layer);  // "qkv_w", 3 -> "block.3.qkv_w"

// Calls visit(field, spec) for each parameter that exists under `c`, in the order of arenas and checkpoints.
template <class T, class Visit>
void for_each_param(const ModelConfig& c, Params<T>& p, Visit visit) {
    const size_t C = c.C, F = c.F, V = c.V, FC = c.FC(), QKV = c.QKV(), A = size_t(c.NH) * c.HS, HS = c.HS;
    const bool norm_bias = c.centered_norm();
    size_t offset = 0;
    int layer = -1;
    const auto param = [&](T*& field, const char* name, size_t rows, size_t cols, Init init, ParamGroup group) {
        const TensorSpec spec{tensor_name(name, layer), layer, {rows, cols}, init, group, offset};
        offset += spec.elems();
        visit(field, spec);
    };
    const auto matrix = [&](T*& field, const char* name, size_t rows, size_t cols, Init init) {
        param(field, name, rows, cols, init, ParamGroup::matrix);
    };
    const auto vector = [&](T*& field, const char* name, size_t elems, Init init) {
        param(field, name, elems, 1, init, ParamGroup::vector);
    };
    p.block.resize(c.L);
    param(p.wte, "wte", V, C, Init::normal, ParamGroup::embedding);
    switch (c.position) {
        case Position::learned: param(p.wpe, "wpe", c.max_T, C, Init::normal, ParamGroup::embedding); break;
        case Position::rope: break;
    }
    for (layer = 0; layer < c.L; layer++) {
        BlockParams<T>& b = p.block[layer];
        vector(b.ln1_w, "ln1_w", C, Init::ones);
        if (norm_bias) vector(b.ln1_b, "ln1_b", C, Init::zeros);
        matrix(b.qkv_w, "qkv_w", QKV, C, Init::normal);
        if (c.qkv_bias) vector(b.qkv_b, "qkv_b", QKV, Init::zeros);
        if (c.qk_norm) vector(b.q_norm, "q_norm", HS, Init::ones);
        if (c.qk_norm) vector(b.k_norm, "k_norm", HS, Init::ones);
        matrix(b.attn_out_w, "attn_out_w", C, A, Init::normal_residual);
        if (c.linear_bias) vector(b.attn_out_b, "attn_out_b", C, Init::zeros);
        vector(b.ln2_w, "ln2_w", C, Init::ones);
        if (norm_bias) vector(b.ln2_b, "ln2_b", C, Init::zeros);
        matrix(b.fc_w, "fc_w", FC, C, Init::normal);
        if (c.linear_bias) vector(b.fc_b, "fc_b", FC, Init::zeros);
        matrix(b.proj_w, "proj_w", C, F, Init::normal_residual);
        if (c.linear_bias) vector(b.proj_b, "proj_b", C, Init::zeros);
    }
    layer = -1;
    vector(p.lnf_w, "lnf_w", C, Init::ones);
    if (norm_bias) vector(p.lnf_b, "lnf_b", C, Init::zeros);
    if (c.tied_embeddings) {
        p.lm_head = p.wte;
    } else {
        param(p.lm_head, "lm_head", V, C, Init::normal, ParamGroup::lm_head);
    }
}

// Every parameter with its offset in the arena, in checkpoint order.
std::vector<TensorSpec> param_table(const ModelConfig& config);

// w (spec.elems()): the initial values of parameter number `index` of the table, the same on every backend.
void init_tensor(const ModelConfig& config, const TensorSpec& spec, size_t index, uint64_t seed, float* w);

// Pointers into the arena that begins at `base`, which may be a device pointer: nothing reads it.
template <class T>
Params<T> bind_params(const ModelConfig& config, T* base) {
    Params<T> p{};
    for_each_param(config, p, [&](T*& field, const TensorSpec& spec) { field = base + spec.offset; });
    return p;
}

// The shape of the activations of one micro-batch. In training every layer keeps its own tensors for the backward pass;
// otherwise all layers share one set.
struct ActivationShape {
    int B, T;
    bool training;
    int threads;  // of OpenMP: each thread has its own scratch memory for attention
};

template <class T>
struct BlockActivations {
    T *ln1, *ln1_mean, *ln1_rstd;  // (B, T, C), (B, T), (B, T)
    T* qkv;                        // (B, T, QKV): as attention reads it, after QK-norm and RoPE
    T *qk_raw, *qk_rstd;           // (B, T, NH + NKV, HS), (B, T, NH + NKV): q and k before QK-norm
    T* lse;                        // (B, NH, T): log of the sum of exponentials of each row of attention
    T* attn;                       // (B, T, NH*HS)
    T* mid;                        // (B, T, C): the residual stream after attention
    T *ln2, *ln2_mean, *ln2_rstd;  // (B, T, C), (B, T), (B, T)
    T *fc, *act;                   // (B, T, FC), (B, T, F)
    T* out;                        // (B, T, C): the residual stream after the MLP
};

template <class T>
struct Activations {
    T* embedded;  // (B, T, C)
    std::vector<BlockActivations<T>> block;
    T *lnf, *lnf_mean, *lnf_rstd;  // (B, T, C), (B, T), (B, T)
    T* losses;                     // (B, T)
    T* logits;                     // (lm_head_rows, logits_stride); their gradient overwrites them
    T* branch;   // (B, T, C): what a block adds to the residual stream; gradients of the outputs of norms
    T* scratch;  // (threads, attention_scratch_elems)
    T *d_residual, *d_qkv, *d_attn, *d_fc, *d_act;  // gradients, one set for all layers
};

// The LM head works on this many rows at a time, so that logits stay small. A matmul of 1024 rows takes so long that
// reading and writing the gradient of lm_head once for each chunk costs little.
constexpr int kLmHeadRows = 1024;
inline int lm_head_rows(int B, int T) {
    return int(size_t(B) * T < size_t(kLmHeadRows) ? size_t(B) * T : size_t(kLmHeadRows));
}
// Each row of logits begins at a cache line.
inline int logits_stride(const ModelConfig& c) {
    return (c.V + 15) / 16 * 16;
}

// Attention computes this many queries at a time, so that its scratch memory is O(T), not O(T^2).
constexpr int kQueryBlock = 64;
inline int score_stride(int T) {
    return (T + 15) / 16 * 16;
}
inline size_t attention_scratch_elems(int T) {
    return 2 * size_t(kQueryBlock) * score_stride(T);  // probabilities | their gradient
}

// Calls visit(field, field_name, layer, elems) for each activation that exists.
template <class T, class Visit>
void for_each_activation(const ModelConfig& c, const ActivationShape& s, Activations<T>& a, Visit visit) {
    const size_t N = size_t(s.B) * s.T, C = c.C, HS = c.HS, A = size_t(c.NH) * HS, QK = size_t(c.NH) + c.NKV;
    const auto norm = [&](T*& y, T*& mean, T*& rstd, const char* name, int layer) {
        visit(y, name, layer, N * C);
        if (c.centered_norm()) visit(mean, name, layer, N);
        visit(rstd, name, layer, N);
    };
    a.block.assign(c.L, {});
    visit(a.embedded, "embedded", -1, N * C);
    for (int l = 0; l < c.L; l++) {
        BlockActivations<T>& b = a.block[l];
        if (l > 0 && !s.training) {
            b = a.block[0];
            continue;
        }
        norm(b.ln1, b.ln1_mean, b.ln1_rstd, "ln1", l);
        visit(b.qkv, "qkv", l, N * c.QKV());
        if (c.qk_norm) visit(b.qk_raw, "qk_raw", l, N * QK * HS);
        if (c.qk_norm) visit(b.qk_rstd, "qk_rstd", l, N * QK);
        visit(b.lse, "lse", l, N * c.NH);
        visit(b.attn, "attn", l, N * A);
        visit(b.mid, "mid", l, N * C);
        norm(b.ln2, b.ln2_mean, b.ln2_rstd, "ln2", l);
        visit(b.fc, "fc", l, N * c.FC());
        visit(b.act, "act", l, N * c.F);
        visit(b.out, "out", l, N * C);
    }
    norm(a.lnf, a.lnf_mean, a.lnf_rstd, "lnf", -1);
    visit(a.losses, "losses", -1, N);
    visit(a.logits, "logits", -1, size_t(lm_head_rows(s.B, s.T)) * logits_stride(c));
    visit(a.branch, "branch", -1, N * C);
    visit(a.scratch, "scratch", -1, s.threads * attention_scratch_elems(s.T));
    if (s.training) {
        visit(a.d_residual, "d_residual", -1, N * C);
        visit(a.d_qkv, "d_qkv", -1, N * c.QKV());
        visit(a.d_attn, "d_attn", -1, N * A);
        visit(a.d_fc, "d_fc", -1, N * c.FC());
        visit(a.d_act, "d_act", -1, N * c.F);
    }
}

struct ActivationSpec {
    std::string name;  // "block.3.qkv"
    size_t elems;
    size_t offset;  // elements from the start of the arena, a multiple of 16
};

std::vector<ActivationSpec> activation_table(const ModelConfig& config, const ActivationShape& shape);
size_t activation_elems(const ModelConfig& config, const ActivationShape& shape);  // of the whole arena

template <class T>
Activations<T> bind_activations(const ModelConfig& config, const ActivationShape& shape, T* base) {
    Activations<T> a{};
    for_each_activation(config, shape, a, [&](T*& field, const char*, int, size_t elems) {
        field = base;
        base += (elems + 15) / 16 * 16;
    });
    return a;
}

}  // namespace kiln
