#pragma once
// One visitor describes every parameter; another every activation. Allocation, checkpoint order, imported names, weight
// decay, the memory plan and the gradient tests iterate them; nothing lists tensors a second time.
#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "cpu_reference/model_config.h"

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
    size_t offset = 0;  // elements from the start of the arena
    size_t elems() const { return shape[0] * shape[1]; }
    bool decays() const { return shape[1] > 1; }  // weight decay falls on matrices, not on vectors
};

// Calls visit(field, field_name, layer, rows, cols, init) for each tensor that exists under `c`, in checkpoint order.
template <class T, class Visit>
void for_each_param(const ModelConfig& c, Params<T>& p, Visit visit) {
    const size_t C = c.C, F = c.F, V = c.V, FC = c.FC(), QKV = c.QKV(), A = size_t(c.NH) * c.HS, HS = c.HS;
    const bool norm_bias = c.norm == Norm::layernorm;
    p.block.resize(c.L);
    visit(p.wte, "wte", -1, V, C, Init::normal);
    if (c.position == Position::learned) visit(p.wpe, "wpe", -1, size_t(c.max_T), C, Init::normal);
    for (int l = 0; l < c.L; l++) {
        BlockParams<T>& b = p.block[l];
        visit(b.ln1_w, "ln1_w", l, C, 1, Init::ones);
        if (norm_bias) visit(b.ln1_b, "ln1_b", l, C, 1, Init::zeros);
        visit(b.qkv_w, "qkv_w", l, QKV, C, Init::normal);
        if (c.qkv_bias) visit(b.qkv_b, "qkv_b", l, QKV, 1, Init::zeros);
        if (c.qk_norm) visit(b.q_norm, "q_norm", l, HS, 1, Init::ones);
        if (c.qk_norm) visit(b.k_norm, "k_norm", l, HS, 1, Init::ones);
        visit(b.attn_out_w, "attn_out_w", l, C, A, Init::normal_residual);
        if (c.linear_bias) visit(b.attn_out_b, "attn_out_b", l, C, 1, Init::zeros);
        visit(b.ln2_w, "ln2_w", l, C, 1, Init::ones);
        if (norm_bias) visit(b.ln2_b, "ln2_b", l, C, 1, Init::zeros);
        visit(b.fc_w, "fc_w", l, FC, C, Init::normal);
        if (c.linear_bias) visit(b.fc_b, "fc_b", l, FC, 1, Init::zeros);
        visit(b.proj_w, "proj_w", l, C, F, Init::normal_residual);
        if (c.linear_bias) visit(b.proj_b, "proj_b", l, C, 1, Init::zeros);
    }
    visit(p.lnf_w, "lnf_w", -1, C, 1, Init::ones);
    if (norm_bias) visit(p.lnf_b, "lnf_b", -1, C, 1, Init::zeros);
    if (c.tied_embeddings) {
        p.lm_head = p.wte;
    } else {
        visit(p.lm_head, "lm_head", -1, V, C, Init::normal);
    }
}

// Every parameter with its offset in the arena, in checkpoint order.
std::vector<TensorSpec> param_table(const ModelConfig& config);

// Binds the struct to an arena. Host arithmetic only: `base` may be a host or a device pointer.
template <class T>
Params<T> bind_params(const ModelConfig& config, T* base) {
    Params<T> p{};
    for_each_param(config, p, [&](T*& field, const char*, int, size_t rows, size_t cols, Init) {
        field = base;
        base += rows * cols;
    });
    return p;
}

}  // namespace kiln
