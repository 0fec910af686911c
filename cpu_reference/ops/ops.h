#pragma once
// The operations of a decoder, forward and backward, in float32. Row-major; N = B * T rows. = or += says whether a
// gradient is set or added to. Results do not depend on the number of threads, except for the matmuls of oneDNN: they
// give the same bits for the same number of threads.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cpu_reference/interface/dropout.h"
#include "cpu_reference/interface/model_config.h"
#include "cpu_reference/interface/optimizer.h"
#include "cpu_reference/interface/rope_table.h"
#include "cpu_reference/interface/tensors.h"
#include "cpu_reference/memory.h"

namespace kiln {

// ---- embedding.cpp

// out[b, t] = wte[tokens[b, t]] + wpe[first_position + t]; wpe may be null.
void embedding_forward(float* out, const int* tokens, const float* wte, const float* wpe, int first_position, int B,
                       int T, int C);
// dwte (V, C) += and dwpe (max_T, C) +=, with rows summed in the order of the batch.
void embedding_backward(float* dwte, float* dwpe, const float* dout, const int* tokens, int B, int T, int C);

// out = x * mask / (1 - p); x, out (B, T, C), may be the same. The backward pass applies it to the gradient.
void dropout(float* out, const float* x, const Dropout& d, int B, int T, int C);
// out = residual + dropout(branch); all (B, T, C).
void residual_forward(float* out, const float* residual, const float* branch, const Dropout& d, int B, int T, int C);

// ---- norm.cpp

// y = (x - mean) * rstd * w + b, rstd = 1 / sqrt(var + eps). arXiv:1607.06450. x, y (N, C); w, b (C); mean, rstd (N).
void layernorm_forward(float* y, float* mean, float* rstd, const float* x, const float* w, const float* b, float eps,
                       int N, int C);
// dx +=, dw =|+=, db =|+= (by accumulate).
void layernorm_backward(float* dx, float* dw, float* db, const float* dy, const float* x, const float* mean,
                        const float* rstd, const float* w, int N, int C, bool accumulate);
// y = x * rstd * w, rstd = 1 / sqrt(mean(x^2) + eps). arXiv:1910.07467.
void rmsnorm_forward(float* y, float* rstd, const float* x, const float* w, float eps, int N, int C);
// dx +=, dw =|+=.
void rmsnorm_backward(float* dx, float* dw, const float* dy, const float* x, const float* rstd, const float* w, int N,
                      int C, bool accumulate);
// QK-norm (arXiv:2010.04245): RMSNorm over each head of q and k, in place in qkv (N, QKV). raw (N, NH + NKV, HS) gets q
// and k from before; rstd (N, NH + NKV). raw and rstd may be null.
void qk_norm_forward(float* qkv, float* raw, float* rstd, const float* q_norm, const float* k_norm, float eps, int N,
                     int NH, int NKV, int HS);
// dqkv in place; dq_norm, dk_norm (HS) =|+=.
void qk_norm_backward(float* dqkv, float* dq_norm, float* dk_norm, const float* raw, const float* rstd,
                      const float* q_norm, const float* k_norm, int N, int NH, int NKV, int HS, bool accumulate);

// ---- rope.cpp

// Rotary position embedding (arXiv:2104.09864) with the layout of Hugging Face: elements i and i + HS/2 are a pair.
// Rotates q and k of qkv (B, T, QKV) in place, row t for position first_position + t, by the angles of rope_table; if
// `backward`, it rotates their gradients by the opposite angles.
void rope(float* qkv, const float* table, int first_position, int B, int T, int NH, int NKV, int HS, bool backward);

// ---- attention.cpp

// softmax(Q K^T / sqrt(HS), causal) V (arXiv:1706.03762), grouped heads (arXiv:2305.13245): query head h reads key head
// h / (NH / NKV). qkv (B, T, QKV); out (B, T, NH*HS); lse (B, NH, T); scratch (threads, attention_scratch_elems(T)).
// `d` drops probabilities. Computes kQueryBlock queries at a time and keeps only lse for the backward pass
// (arXiv:2205.14135).
void attention_forward(float* out, float* lse, float* scratch, const float* qkv, const Dropout& d, int B, int T, int NH,
                       int NKV, int HS);
// dqkv (B, T, QKV) =. dout and out (B, T, NH*HS).
void attention_backward(float* dqkv, float* scratch, const float* dout, const float* out, const float* qkv,
                        const float* lse, const Dropout& d, int B, int T, int NH, int NKV, int HS);
// The last n queries of a sequence of `length` tokens with cached keys and values. q (n, NH*HS) with rows q_stride
// apart; k, v (NKV, max_T, HS); out (n, NH*HS).
void attention_cached(float* out, float* scratch, const float* q, size_t q_stride, const float* k, const float* v,
                      int n, int length, int max_T, int NH, int NKV, int HS);

// ---- linear.cpp

// out (N, O) = x (N, I) w^T + bias, w (O, I); bias may be null; rows of out are out_stride apart (0: O).
void linear_forward(float* out, const float* x, const float* w, const float* bias, int N, int I, int O,
                    int out_stride = 0);
// dx (N, I) =; dw (O, I) =|+=; db (O) =|+=, null without bias. Rows of dout are dout_stride apart (0: O).
void linear_backward(float* dx, float* dw, float* db, const float* dout, const float* x, const float* w, int N, int I,
                     int O, bool accumulate, int dout_stride = 0);

// ---- mlp.cpp

// GELU, tanh form (arXiv:1606.08415): act, fc (N, F).
void gelu_forward(float* act, const float* fc, int N, int F);
// dfc = ; dfc may be dact.
void gelu_backward(float* dfc, const float* dact, const float* fc, int N, int F);
// SwiGLU (arXiv:2002.05202): act (N, F) = silu(gate) * up; fc (N, 2F) = gate | up.
void swiglu_forward(float* act, const float* fc, int N, int F);
void swiglu_backward(float* dfc, const float* dact, const float* fc, int N, int F);  // dfc (N, 2F) =

// ---- loss.cpp

// losses[n] = -log softmax(logits[n])[targets[n]], or 0 if the target is -1. If gradient_scale != 0, logits become
// gradient_scale * d(sum of losses)/d(logits); otherwise they do not change. Rows of logits are `stride` apart.
void cross_entropy(float* losses, float* logits, const int* targets, float gradient_scale, int N, int V, int stride);

// ---- optimizer.cpp

// AdamW of n parameters, with gradients grad_scale * g.
void adamw(float* p, float* m, float* v, const float* g, const AdamWStepSize& s, float grad_scale, size_t n);
// One step of `optimizer` on every trainable parameter that it updates. `states` are in the order of OptimizerInfo.
void update_params(Optimizer optimizer, std::span<const TensorSpec> table, const MappedArray& params,
                   const MappedArray& gradients, std::span<const MappedArray> states, const OptimizerStep& step);
// In double, over fixed blocks in a fixed order.
double sum_of_squares(const float* x, size_t n);

}  // namespace kiln
