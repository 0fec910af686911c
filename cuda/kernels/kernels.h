#pragma once
// The launchers of the kernels. Tensors are row-major; N = B * T rows. T (E in attention) is the element type: float,
// __nv_bfloat16 or __half. Arithmetic is float32. Pointers are to device memory; each row is aligned to 16 bytes unless
// the comment says otherwise. A gradient output says = or +=. Every sum has a fixed order, so that equal inputs give
// equal bits. A launcher throws Error for dimensions that it does not support, and queues its work on `stream` without
// waiting.
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu_reference/interface/dropout.h"
#include "cpu_reference/interface/optimizer.h"
#include "cpu_reference/interface/sampler.h"
#include "cuda/device/element_types.h"

namespace kiln {

// The gradient of a linear layer's bias is the sum of the rows of the gradient of its output (N, O). Some kernels that
// write the latter also add it up, so that no kernel reads it again for that. G is float or T.
template <class G>
struct BiasGradient {
    G* db = nullptr;  // (O) =, or += with accumulate; null: not wanted
    bool accumulate = false;
};

// ---- embedding.cu

// out[b, t] = wte[tokens[b, t]] + wpe[first_position + t], without wpe if it is null. out (B, T, C); tokens (B, T).
template <class T>
void embedding_forward(T* out, const int* tokens, const T* wte, const T* wpe, int first_position, int B, int time,
                       int C, cudaStream_t stream);
// The same for one token of each of N sequences: row n has position positions[n], or 0 if that is negative. positions
// (N) in device memory.
template <class T>
void embedding_at(T* out, const int* tokens, const T* wte, const T* wpe, const int* positions, int N, int C,
                  cudaStream_t stream);

// The rows of a batch, sorted by token. The host sorts them and copies the result to the device with the tokens.
struct TokenChunk {         // at most kChunkRows rows of one token
    int token, begin, end;  // the rows are order[begin] to order[end - 1]
    int partial;            // index of the chunk's sum in `partial`; -1: the token has no other chunk
};
struct TokenOrder {
    static constexpr int kChunkRows = 128;
    // How many partial sums there can be; `partial` of embedding_backward has C floats for each.
    static constexpr int max_partials(int N) { return 2 * N / kChunkRows + 1; }
    std::vector<int> order;  // (N): rows sorted by token, then by their order in the batch
    std::vector<TokenChunk> chunks;
    std::vector<TokenChunk> groups;  // one for each token with several chunks; begin and end are indices of `partial`
};
TokenOrder sort_tokens(const int* tokens, int N, int V);  // throws Error if a token is not in 0 .. V - 1
// The same in device memory. The counts are there too, so that a captured launch fits every batch.
struct TokenRows {
    const int* order;
    const TokenChunk *chunks, *groups;
    const int* counts;  // (2): of chunks, of groups
};
// dwte (V, C) += and, unless dwpe is null, dwpe (max_T, C) +=; dout (B, T, C). partial is scratch. Grad is T or float.
template <class T, class Grad>
void embedding_backward(Grad* dwte, Grad* dwpe, float* partial, const T* dout, const TokenRows& rows,
                        int first_position, int B, int time, int C, cudaStream_t stream);

// ---- norm.cu

// y = x * rstd * w, rstd = 1 / sqrt(mean(x^2) + eps). arXiv:1910.07467. x, y (N, C); w (C); rstd (N) float or null.
// C % 8 == 0.
template <class T>
void rmsnorm_forward(T* y, float* rstd, const T* x, const T* w, float eps, int N, int C, cudaStream_t stream);
// y = (x - mean) * rstd * w + b, rstd = 1 / sqrt(var + eps). arXiv:1607.06450. b (C); mean (N) float or null.
template <class T>
void layernorm_forward(T* y, float* mean, float* rstd, const T* x, const T* w, const T* b, float eps, int N, int C,
                       cudaStream_t stream);
// The same for x = sum = residual + branch, rounded to T. sum, residual, branch (N, C); sum may be one of the others.
template <class T>
void residual_rmsnorm_forward(T* sum, T* y, float* rstd, const T* residual, const T* branch, const T* w, float eps,
                              int N, int C, cudaStream_t stream);
template <class T>
void residual_layernorm_forward(T* sum, T* y, float* mean, float* rstd, const T* residual, const T* branch, const T* w,
                                const T* b, float eps, int N, int C, cudaStream_t stream);

// ---- norm_backward.cu

// G is the type of the weights' gradients: float or T. dx may be dy if add_dx is false.
template <class T, class G>
struct NormBackward {
    T* dx;                     // (N, C) =, or += with add_dx
    G *dw, *db;                // (C) =, or += with accumulate; db is null for RMSNorm
    float* scratch;            // norm_backward_scratch_floats(N, C)
    const T *dy, *x;           // (N, C)
    const float *mean, *rstd;  // (N) of the forward pass; mean is null for RMSNorm
    const T* w;                // (C)
    int N, C;                  // C % 8 == 0
    bool add_dx, accumulate;
};
size_t norm_backward_scratch_floats(int N, int C);
template <class T, class G>
void layernorm_backward(const NormBackward<T, G>& a, cudaStream_t stream);
template <class T, class G>
void rmsnorm_backward(const NormBackward<T, G>& a, cudaStream_t stream);
// out (C) = the sum over blocks of partials[block, 0], and out2 (C) that of partials[block, 1]; += with accumulate.
// partials (blocks, 2, C), or (blocks, C) if out2 is null. Adds in the order of the blocks, in 32 interleaved parts.
template <class G>
void sum_partials(G* out, G* out2, const float* partials, int blocks, int C, bool accumulate, cudaStream_t stream);

// ---- qk_norm.cu

// QK-norm (arXiv:2010.04245): RMSNorm over each head of q and k of qkv (N, (NH + 2 NKV) HS), in place. Before that, q
// and k are copied to raw (N, NH + NKV, HS). rstd (N, NH + NKV) float. raw and rstd may be null. q_norm, k_norm (HS).
// HS % 8 == 0, HS <= 256.
template <class T>
void qk_norm_forward(T* qkv, T* raw, float* rstd, const T* q_norm, const T* k_norm, float eps, int N, int NH, int NKV,
                     int HS, cudaStream_t stream);
template <class T, class G>
struct QkNormBackward {
    T* dqkv;                   // (N, (NH + 2 NKV) HS), in place
    G *dq_norm, *dk_norm;      // (HS) =, or += with accumulate; G is float or T
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

// RoPE: rotates q and k of qkv (B, row_T, (NH + 2 NKV) HS) in place. Elements i and i + HS/2 of a head are a pair;
// table (max_T, HS/2) has cos and sin of its angle. Row t has position first_position + t. backward rotates by the
// negative angle, which gives the gradient. arXiv:2104.09864. HS % 4 == 0.
template <class T>
void rope(T* qkv, const float* table, int first_position, int B, int row_T, int NH, int NKV, int HS, bool backward,
          cudaStream_t stream);
// The same for one token of each of N sequences, with positions as in embedding_at.
template <class T>
void rope_at(T* qkv, const float* table, const int* positions, int N, int NH, int NKV, int HS, cudaStream_t stream);

// ---- mlp.cu

// GELU, tanh form (arXiv:1606.08415): act, fc (N, F). F % 8 == 0.
template <class T>
void gelu_forward(T* act, const T* fc, int N, int F, cudaStream_t stream);
// dfc =; dfc may be dact or fc. scratch (bias_backward_scratch_floats(N, F)) is for the bias's gradient.
template <class T, class G>
void gelu_backward(T* dfc, const BiasGradient<G>& bias, float* scratch, const T* dact, const T* fc, int N, int F,
                   cudaStream_t stream);
// SwiGLU (arXiv:2002.05202): act (N, F) = silu(gate) * up; fc (N, 2F) = gate | up.
template <class T>
void swiglu_forward(T* act, const T* fc, int N, int F, cudaStream_t stream);
// dfc (N, 2F) =; dfc may be fc.
template <class T>
void swiglu_backward(T* dfc, const T* dact, const T* fc, int N, int F, cudaStream_t stream);

// ---- attention.cu

// out = dropout(softmax(Q K^T / sqrt(HS), causal)) V, arXiv:1706.03762; query head h reads key head h / (NH / NKV),
// arXiv:2305.13245. qkv (B, T, (NH + 2 NKV) HS); out (B, T, NH HS); lse (B, NH, T) = log(sum(exp(scores))).
// HS % 4 == 0, HS <= 256.
template <class E>
void attention_forward(E* out, float* lse, const E* qkv, const Dropout& d, int B, int T, int NH, int NKV, int HS,
                       cudaStream_t stream);
// dqkv (B, T, (NH + 2 NKV) HS) =; dout, out (B, T, NH HS). scratch: delta and, if `bias`, partial sums of the bias's
// gradient.
size_t attention_scratch_floats(int B, int T, int NH, int NKV, int HS, bool bias);
template <class E, class G>
void attention_backward(E* dqkv, const BiasGradient<G>& bias, float* scratch, const E* dout, const E* out, const E* qkv,
                        const float* lse, const Dropout& d, int B, int T, int NH, int NKV, int HS, cudaStream_t stream);

// delta (B, NH, T) = sum over HS of dout * out, both (B, T, NH HS).
template <class E>
void attention_delta(float* delta, const E* dout, const E* out, int B, int T, int NH, int HS, cudaStream_t stream);

// ---- flash_attention.cu, flash_attention_backward.cu

// Which keys a query sees, among its own and earlier ones.
struct AttentionMask {
    const int* first_key = nullptr;  // (B, T) in device memory: where each token's document begins; null: at 0
    int window = 0;                  // only the last `window` keys; 0: all
};
// The functions of attention.cu on tensor cores, arXiv:2205.14135, arXiv:2307.08691. E is __nv_bfloat16 or __half; HS
// is 32, 64, 80, 96, 128 or 256; the GPU is sm_80 or later. shared_limit: how many bytes of shared memory a block may
// use, from which the tiles follow; 0: as many as the device allows.
bool flash_attention_has(int HS);
template <class E>
void flash_attention_forward(E* out, float* lse, const E* qkv, const AttentionMask& mask, const Dropout& d, int B,
                             int T, int NH, int NKV, int HS, cudaStream_t stream, int shared_limit = 0);
// scratch (flash_attention_scratch_floats(..)): delta, partial sums of dq and, if `bias`, of the bias's gradient; its
// size is O(T).
size_t flash_attention_scratch_floats(int B, int T, int NH, int NKV, int HS, bool bias);
template <class E, class G>
void flash_attention_backward(E* dqkv, const BiasGradient<G>& bias, float* scratch, const E* dout, const E* out,
                              const E* qkv, const float* lse, const AttentionMask& mask, const Dropout& d, int B, int T,
                              int NH, int NKV, int HS, cudaStream_t stream, int shared_limit = 0);

// ---- attention_cached.cu

// Elements from one row of a cache to the next: HS, rounded up to a multiple of 16 bytes. The padding is zero.
template <class E>
constexpr int cache_pitch(int HS) {
    constexpr int kPack = 16 / sizeof(E);
    return (HS + kPack - 1) / kPack * kPack;
}
// Caches k_cache, v_cache (B, NKV, max_T, cache_pitch(HS)). positions (B) in device memory: the position of the first
// of the T new tokens of each sequence; negative for a sequence that is idle.
//
// Copies k and v of qkv (B, T, (NH + 2 NKV) HS) to rows positions[b] + t of the caches. Rows beyond max_T are dropped.
template <class E>
void append_to_cache(E* k_cache, E* v_cache, const E* qkv, const int* positions, int B, int T, int max_T, int NH,
                     int NKV, int HS, cudaStream_t stream);
// out = softmax(q K^T / sqrt(HS)) V for T tokens of each sequence. Each token attends to the `window` keys that end
// with its own (0: all); its key must be in the cache already. out is 0 for an idle sequence. The bits depend on the
// shapes, the positions and the GPU's number of multiprocessors, which decides how sequences are split.
template <class E>
struct CachedAttention {
    E* out;          // (B, T, NH, HS) =
    float* scratch;  // attention_cached_scratch_floats(HS)
    int* arrivals;   // attention_cached_arrivals(): zeros before and after the launch
    const E* qkv;    // (B, T, (NH + 2 NKV) HS); only q is read
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

// losses[n] = -log softmax(logits[n])[targets[n]], or 0 if the target is -1. If gradient_scale is not 0, logits become
// gradient_scale * *gradient_factor * d(sum of losses)/d(logits), 0 in the padding; otherwise they do not change.
// losses (N) float; logits (N, Vp), the columns from V on are padding, Vp % 128 == 0; targets (N). If a target is V or
// more, its loss and its row of the gradient are NaN. gradient_factor: one float in device memory; null: 1.
template <class T>
void cross_entropy(float* losses, T* logits, const int* targets, float gradient_scale, const float* gradient_factor,
                   int N, int V, int Vp, cudaStream_t stream);
// sum = losses[0] + .. + losses[N - 1].
void sum_losses(float* sum, const float* losses, int N, cudaStream_t stream);

// ---- bias.cu, cast.cu, dropout.cu

// db (O) = sum of the rows of dout (N, O); += with accumulate. G is float or T. O % 8 == 0. scratch
// (bias_backward_scratch_floats(N, O)).
size_t bias_backward_scratch_floats(int N, int O);
template <class T, class G>
void bias_backward(G* db, float* scratch, const T* dout, int N, int O, bool accumulate, cudaStream_t stream);

// out[i] = in[i], rounded to nearest even. One of the types is float.
template <class From, class To>
void cast(To* out, const From* in, size_t n, cudaStream_t stream);
// out (n) += in (n), rounded to T.
template <class T>
void add(T* out, const T* in, size_t n, cudaStream_t stream);

// out = x * mask / (1 - p). The backward pass is the same function on the gradient. x, out (B, T_, C), may be the same.
// C % 8 == 0.
template <class T>
void dropout(T* out, const T* x, const Dropout& d, int B, int T_, int C, cudaStream_t stream);
// out = residual + dropout(branch); all (B, T_, C); out may be one of the others.
template <class T>
void residual_forward(T* out, const T* residual, const T* branch, const Dropout& d, int B, int T_, int C,
                      cudaStream_t stream);

// ---- adamw.cu

// sum = the sum of x[i]^2 in float32; not finite if any x[i] is not. scratch (sum_of_squares_scratch_floats()).
size_t sum_of_squares_scratch_floats();
template <class T>
void sum_of_squares(float* sum, float* scratch, const T* x, size_t n, cudaStream_t stream);
// For gradients that must be multiplied by `scale` (1 / loss scale): norm = scale * sqrt(sum); grad_scale = scale *
// min(1, max_norm / norm), or scale if max_norm is 0; non_finite = 1 if the sum or one of the n_losses losses is not
// finite, else 0. All in device memory, so that the host does not wait.
struct GradientScale {
    float *grad_scale, *norm;
    int* non_finite;
    const float *sum, *losses;
    int n_losses;
    float scale, max_norm;
};
void gradient_scale(const GradientScale& a, cudaStream_t stream);

// G is the type of the gradients: float or T. M is that of the moments: float or __nv_bfloat16. n % 4 == 0.
template <class T, class G, class M>
struct AdamWArena {
    T* params;
    float* master;  // the same in float32, or null: then params are rounded stochastically
    M *m, *v;
    const G* grads;
    size_t n;
    // Elements at which weight decay ends, begins again, ends, ...: ascending multiples of 4. The elements before the
    // first decay. Null if all decay.
    const size_t* decay_switches;
    int switches;             // how many
    const float* grad_scale;  // as above
    const int* non_finite;    // if it is not 0, nothing changes; may be null
};
// Element i, and its moments in bfloat16, are rounded by rounding_words(seed, step, .., (first_element + i) / 4) of
// rounding.cuh.
struct AdamWRounding {
    uint64_t seed = 0, step = 0, first_element = 0;
};
// AdamW, as cpu_reference/interface/optimizer.h defines it. One launch for the whole arena.
template <class T, class G, class M>
void adamw(const AdamWArena<T, G, M>& a, const AdamWStepSize& s, const AdamWRounding& rounding, cudaStream_t stream);

// ---- sample.cu

// tokens (N) = the id of the largest logit of each row; the lowest id if several are equal. logits (N, Vp), the columns
// from V on are padding, Vp % 8 == 0. -1 if a logit is NaN or plus infinity, or if all are minus infinity.
template <class T>
void argmax(int* tokens, const T* logits, int N, int V, int Vp, cudaStream_t stream);
// The same for what Sampler::sample draws with these options from row n, for sample_numbers[n] and the position after
// positions[n], that of the last token which the row has seen. A negative position marks an idle row, whose token has
// no meaning. weights (N, Vp) is scratch.
template <class T>
void sample(int* tokens, uint64_t* weights, const T* logits, const SamplerOptions& options,
            const uint64_t* sample_numbers, const int* positions, int N, int V, int Vp, cudaStream_t stream);

}  // namespace kiln
