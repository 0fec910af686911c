#pragma once
// The kernels' launchers. Row-major; N = B * T rows. T is float, __nv_bfloat16 or __half, with float32 arithmetic
// inside; pointers are to device memory, aligned to 16 bytes at the start of each row unless it says otherwise. A
// gradient output says = or +=. Every sum has a fixed order: the same input gives the same bits. Each throws Error on
// dimensions that it does not take, and queues its work on `stream` without waiting.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu_reference/interface/dropout.h"
#include "cpu_reference/interface/optimizer.h"

namespace kiln {

// ---- embedding.cu

// out[b, t] = wte[tokens[b, t]] + wpe[first_position + t]; wpe null: without. out (B, T, C); tokens (B, T).
template <class T>
void embedding_forward(T* out, const int* tokens, const T* wte, const T* wpe, int first_position, int B, int time,
                       int C, cudaStream_t stream);
// The same for one token of each of N sequences: row n stands at positions[n], in device memory; below 0 as at 0.
template <class T>
void embedding_at(T* out, const int* tokens, const T* wte, const T* wpe, const int* positions, int N, int C,
                  cudaStream_t stream);

// The rows of a batch by token: made on the host, which has the tokens first, and copied to the device with them.
struct TokenPiece {
    int token, begin, end;  // order[begin] .. order[end - 1] are rows of that token
    int partial;            // where its sum waits for the token's others; -1: it has no others
};
struct TokenOrder {
    static constexpr int kPieceRows = 128;
    // The most partials: `partial` of embedding_backward has so many times C floats.
    static constexpr int max_partials(int N) { return 2 * N / kPieceRows + 1; }
    std::vector<int> order;  // (N): rows by token, of one token in the order of the batch
    std::vector<TokenPiece> pieces;
    std::vector<TokenPiece> groups;  // tokens of several pieces; begin, end: of their partials
};
TokenOrder sort_tokens(const int* tokens, int N, int V);  // throws Error if a token is not in 0 .. V - 1
// The same in device memory: the sizes too, so that a launch does not depend on the batch.
struct TokenRows {
    const int* order;
    const TokenPiece *pieces, *groups;
    const int* counts;  // of pieces, of groups
};
// dwte (V, C) += and, unless null, dwpe (max_T, C) +=; dout (B, T, C). partial: scratch. Grad is T or float.
template <class T, class Grad>
void embedding_backward(Grad* dwte, Grad* dwpe, float* partial, const T* dout, const TokenRows& rows,
                        int first_position, int B, int time, int C, cudaStream_t stream);

// ---- norm.cu

// y = x * rstd * w, rstd = 1 / sqrt(mean(x^2) + eps). arXiv:1910.07467. x, y (N, C); w (C); rstd (N) float, may be
// null. C % 8 == 0.
template <class T>
void rmsnorm_forward(T* y, float* rstd, const T* x, const T* w, float eps, int N, int C, cudaStream_t stream);
// y = (x - mean) * rstd * w + b, rstd = 1 / sqrt(var + eps). arXiv:1607.06450. b (C); mean (N) float, may be null.
template <class T>
void layernorm_forward(T* y, float* mean, float* rstd, const T* x, const T* w, const T* b, float eps, int N, int C,
                       cudaStream_t stream);
// The same of sum = residual + branch, rounded to T. sum, residual, branch (N, C); sum may be one of the others.
template <class T>
void residual_rmsnorm_forward(T* sum, T* y, float* rstd, const T* residual, const T* branch, const T* w, float eps,
                              int N, int C, cudaStream_t stream);
template <class T>
void residual_layernorm_forward(T* sum, T* y, float* mean, float* rstd, const T* residual, const T* branch, const T* w,
                                const T* b, float eps, int N, int C, cudaStream_t stream);

// ---- norm_backward.cu

// T of the activations, G of the gradients of weights: float or T. dx may be dy where add_dx is false.
template <class T, class G>
struct NormBackward {
    T* dx;                     // (N, C) =, += with add_dx
    G *dw, *db;                // (C) =, += with accumulate; db null for RMSNorm
    float* scratch;            // norm_backward_scratch_floats(N, C)
    const T *dy, *x;           // (N, C)
    const float *mean, *rstd;  // (N) of the forward pass; mean null for RMSNorm
    const T* w;                // (C)
    int N, C;                  // C % 8 == 0
    bool add_dx, accumulate;
};
size_t norm_backward_scratch_floats(int N, int C);
template <class T, class G>
void layernorm_backward(const NormBackward<T, G>& a, cudaStream_t stream);
template <class T, class G>
void rmsnorm_backward(const NormBackward<T, G>& a, cudaStream_t stream);
// out (C) =|+= the sum over blocks of partials[block, 0], out2 (C) of partials[block, 1]; by accumulate. partials
// (blocks, 2, C), or (blocks, C) where out2 is null. The order is that of the blocks, in 32 interleaved parts.
template <class G>
void sum_partials(G* out, G* out2, const float* partials, int blocks, int C, bool accumulate, cudaStream_t stream);

// ---- qk_norm.cu

// QK-norm (arXiv:2010.04245): RMSNorm over each head of q and k. qkv (N, (NH + 2 NKV) HS): normed in place, its q and
// k parts first copied to raw (N, NH + NKV, HS); rstd (N, NH + NKV) float. raw and rstd may be null. q_norm, k_norm
// (HS). HS % 8 == 0, HS <= 256.
template <class T>
void qk_norm_forward(T* qkv, T* raw, float* rstd, const T* q_norm, const T* k_norm, float eps, int N, int NH, int NKV,
                     int HS, cudaStream_t stream);
// T of the activations, G of the gradients of weights: float or T.
template <class T, class G>
struct QkNormBackward {
    T* dqkv;                   // (N, (NH + 2 NKV) HS), in place
    G *dq_norm, *dk_norm;      // (HS) =, += with accumulate
    float* scratch;            // qk_norm_backward_scratch_floats(HS)
    const T* raw;              // (N, NH + NKV, HS) of the forward pass
    const float* rstd;         // (N, NH + NKV)
    const T *q_norm, *k_norm;  // (HS)
    int N, NH, NKV, HS;
    bool accumulate;
};
size_t qk_norm_backward_scratch_floats(int HS);
template <class T, class G>
void qk_norm_backward(const QkNormBackward<T, G>& a, cudaStream_t stream);

// ---- rope.cu

// Turns q and k of qkv (B, row_T, (NH + 2 NKV) HS) in place: element i of a head with element i + HS/2, by the angle in
// table (max_T, HS/2), pairs cos, sin; row t stands at position first_position + t. backward: turns back, which is the
// gradient's way. arXiv:2104.09864. HS % 8 == 0.
template <class T>
void rope(T* qkv, const float* table, int first_position, int B, int row_T, int NH, int NKV, int HS, bool backward,
          cudaStream_t stream);
// The same for one token of each of N sequences: row n stands at positions[n], in device memory; below 0 as at 0.
template <class T>
void rope_at(T* qkv, const float* table, const int* positions, int N, int NH, int NKV, int HS, cudaStream_t stream);

// ---- mlp.cu

// GELU, tanh form (arXiv:1606.08415): act, fc (N, F). F % 8 == 0.
template <class T>
void gelu_forward(T* act, const T* fc, int N, int F, cudaStream_t stream);
// dfc =; dfc may be dact or fc.
template <class T>
void gelu_backward(T* dfc, const T* dact, const T* fc, int N, int F, cudaStream_t stream);
// SwiGLU (arXiv:2002.05202): act (N, F) = silu(gate) * up; fc (N, 2F) = gate | up.
template <class T>
void swiglu_forward(T* act, const T* fc, int N, int F, cudaStream_t stream);
// dfc (N, 2F) =; dfc may be fc.
template <class T>
void swiglu_backward(T* dfc, const T* dact, const T* fc, int N, int F, cudaStream_t stream);

// ---- attention.cu

// out = dropout(softmax(Q K^T / sqrt(HS), causal)) V, arXiv:1706.03762; query head h reads key head h / (NH / NKV),
// arXiv:2305.13245. E is the element type. qkv (B, T, (NH + 2 NKV) HS); out (B, T, NH HS); lse (B, NH, T). HS % 8 == 0,
// at most 256.
template <class E>
void attention_forward(E* out, float* lse, const E* qkv, const Dropout& d, int B, int T, int NH, int NKV, int HS,
                       cudaStream_t stream);
// dqkv (B, T, (NH + 2 NKV) HS) =. delta (B, NH, T) is scratch; dout, out (B, T, NH HS).
template <class E>
void attention_backward(E* dqkv, float* delta, const E* dout, const E* out, const E* qkv, const float* lse,
                        const Dropout& d, int B, int T, int NH, int NKV, int HS, cudaStream_t stream);

// delta (B, NH, T) = sum over HS of dout * out, both (B, T, NH HS).
template <class E>
void attention_delta(float* delta, const E* dout, const E* out, int B, int T, int NH, int HS, cudaStream_t stream);

// ---- flash_attention.cu, flash_attention_backward.cu

// What a query sees of the keys before it and of its own.
struct AttentionMask {
    const int* first_key = nullptr;  // (B, T) in device memory: where the document of each token begins; null: at 0
    int window = 0;                  // the last `window` keys; 0: all
};
// The functions of attention.cu on the tensor cores, arXiv:2205.14135, arXiv:2307.08691: E bfloat16 or float16, HS 32,
// 64, 80, 96, 128 or 256, a GPU of sm_80 or later. Equal inputs give equal bits.
bool flash_attention_has(int HS);
template <class E>
void flash_attention_forward(E* out, float* lse, const E* qkv, const AttentionMask& mask, const Dropout& d, int B,
                             int T, int NH, int NKV, int HS, cudaStream_t stream);
// scratch (flash_attention_scratch_floats(..)), O(T): delta, and the sums of dq while they grow. shared_limit: bytes of
// shared memory that a block may have; 0: what the device allows.
size_t flash_attention_scratch_floats(int B, int T, int NH, int HS);
template <class E>
void flash_attention_backward(E* dqkv, float* scratch, const E* dout, const E* out, const E* qkv, const float* lse,
                              const AttentionMask& mask, const Dropout& d, int B, int T, int NH, int NKV, int HS,
                              cudaStream_t stream, int shared_limit = 0);

// ---- attention_cached.cu

// Elements from one row of a cache to the next: HS, and zeros up to a multiple of 16 bytes.
template <class E>
constexpr int cache_pitch(int HS) {
    constexpr int kPack = 16 / sizeof(E);
    return (HS + kPack - 1) / kPack * kPack;
}
// Caches k_cache, v_cache (B, NKV, max_T, cache_pitch(HS)); positions (B) in device memory: where the newest token of
// each sequence stands, below 0 for a sequence that is idle.
//
// Copies k and v of qkv (B, T, (NH + 2 NKV) HS) to positions[b] + t; what has no place there is left out.
template <class E>
void append_to_cache(E* k_cache, E* v_cache, const E* qkv, const int* positions, int B, int T, int max_T, int NH,
                     int NKV, int HS, cudaStream_t stream);
// out = softmax(q K^T / sqrt(HS)) V of T tokens a sequence, the first at positions[b]: each over the `window` keys that
// end with its own (0: all from position 0), which stand in the cache already. 0 for an idle sequence. The bits depend
// on the shapes and positions, and on the GPU's number of SMs, by which lengths are split.
template <class E>
struct CachedAttention {
    E* out;          // (B, T, NH, HS) =
    float* scratch;  // attention_cached_scratch_floats(HS)
    int* arrivals;   // attention_cached_arrivals(): zeroes before and after
    const E* qkv;    // (B, T, (NH + 2 NKV) HS), of which q is read
    const E *k_cache, *v_cache;
    const int* positions;
    int B, T, max_T, NH, NKV, HS;  // HS % 4 == 0, at most 256
    int window = 0;
};
size_t attention_cached_scratch_floats(int HS);
size_t attention_cached_arrivals();
template <class E>
void attention_cached(const CachedAttention<E>& a, cudaStream_t stream);

// ---- loss.cu

// losses[n] = -log softmax(logits[n])[targets[n]], 0 where the target is -1. With gradient_scale != 0 logits become
// gradient_scale * *gradient_factor * d(sum of losses)/d(logits), 0 in the padding; otherwise they are left alone.
// losses (N) float; logits (N, Vp), V columns of them real, Vp % 128 == 0; targets (N), -1 or below V: where one is V
// or more, the loss is NaN, and so is the row of its gradient. gradient_factor one float in device memory, null: 1.
template <class T>
void cross_entropy(float* losses, T* logits, const int* targets, float gradient_scale, const float* gradient_factor,
                   int N, int V, int Vp, cudaStream_t stream);
// sum = losses[0] + .. + losses[N - 1].
void sum_losses(float* sum, const float* losses, int N, cudaStream_t stream);

// ---- bias.cu, cast.cu, dropout.cu

// db (O) =|+= sum of the rows of dout (N, O); by accumulate. G float or T. O % 8 == 0. scratch
// (bias_backward_scratch_floats(N, O)).
size_t bias_backward_scratch_floats(int N, int O);
template <class T, class G>
void bias_backward(G* db, float* scratch, const T* dout, int N, int O, bool accumulate, cudaStream_t stream);

// out[i] = in[i], rounded to nearest even. float to a narrow type or back.
template <class From, class To>
void cast(To* out, const From* in, size_t n, cudaStream_t stream);

// out = x * mask / (1 - p); its backward is itself on the gradient. x, out (B, T_, C), may be the same. C % 8 == 0.
template <class T>
void dropout(T* out, const T* x, const Dropout& d, int B, int T_, int C, cudaStream_t stream);
// out = residual + dropout(branch); all (B, T_, C); out may be one of the others.
template <class T>
void residual_forward(T* out, const T* residual, const T* branch, const Dropout& d, int B, int T_, int C,
                      cudaStream_t stream);

// ---- adamw.cu

// sum = the sum of x[i]^2 in float32, not finite where one x is not. scratch (sum_of_squares_scratch_floats()).
size_t sum_of_squares_scratch_floats();
template <class T>
void sum_of_squares(float* sum, float* scratch, const T* x, size_t n, cudaStream_t stream);
// Of gradients that `scale` brings to their size (1 over a loss scale): norm = scale * sqrt(sum); grad_scale = scale *
// min(1, max_norm / norm), or scale where max_norm is 0; non_finite = 1 if the sum or one of the losses (n_losses) is
// not finite, else 0. All in device memory: the host does not wait.
struct GradientScale {
    float *grad_scale, *norm;
    int* non_finite;
    const float *sum, *losses;
    int n_losses;
    float scale, max_norm;
};
void gradient_scale(const GradientScale& a, cudaStream_t stream);

// G of the gradients: float or T. M of the moments: float or __nv_bfloat16. Pointers aligned to 16 bytes, n % 4 == 0.
template <class T, class G, class M>
struct AdamWArena {
    T* params;
    float* master;  // the same in float32, or null: params are rounded stochastically, and are all there is
    M *m, *v;
    const G* grads;
    size_t n;
    // Where weight decay ends and begins again, in ascending elements, multiples of 4, of which there are `switches`;
    // it falls on what stands before the first. Null if all decays.
    const size_t* decay_switches;
    int switches;
    const float* grad_scale;  // as above
    const int* non_finite;    // nothing is done where it is not 0; may be null
};
// Element i is rounded by rounding_words(seed, step, .., (first_element + i) / 4) of rounding.cuh, and so are moments
// in bfloat16.
struct AdamWRounding {
    uint64_t seed = 0, step = 0, first_element = 0;
};
// AdamW, as cpu_reference/interface/optimizer.h has it. One launch for the whole arena.
template <class T, class G, class M>
void adamw(const AdamWArena<T, G, M>& a, const AdamWStepSize& s, const AdamWRounding& rounding, cudaStream_t stream);

// ---- sample.cu

// tokens (N) = the id of the largest of a row's logits, the lowest of equals. logits (N, Vp), V columns of them real,
// Vp % 8 == 0. -1 where a logit is NaN or plus infinity, or all are minus infinity.
template <class T>
void argmax(int* tokens, const T* logits, int N, int V, int Vp, cudaStream_t stream);
// The same, of a draw: temperature, then top-k, then top-p, as in Hugging Face's order; what they mean, and the random
// numbers, are those of the sampler on the host. A pure function of (logits, seed, samples[n], positions[n]).
struct SampleOptions {
    float temperature = 1;  // 0: the most likely token
    int top_k = 0;          // 0: all
    float top_p = 1;
    uint64_t seed = 0;
};
template <class T>
void sample(int* tokens, const T* logits, const SampleOptions& options, const uint64_t* samples, const int* positions,
            int N, int V, int Vp, cudaStream_t stream);

}  // namespace kiln
