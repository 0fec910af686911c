#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu_reference/ops/gemm.h"
#include "cpu_reference/ops/ops.h"
#include "cpu_reference/ops/vector_math.h"

namespace kiln {
namespace {

// The offsets of a query head and of its key and value heads in qkv (or its gradient), for one sequence.
struct Head {
    size_t stride;  // from one token to the next
    size_t q, k, v;
};

Head find_head(int b, int h, int T, int NH, int NKV, int HS) {
    const size_t stride = size_t(NH + 2 * NKV) * HS, base = size_t(b) * T * stride;
    const size_t kv = size_t(h / (NH / NKV)) * HS;
    return {stride, base + size_t(h) * HS, base + size_t(NH) * HS + kv, base + size_t(NH + NKV) * HS + kv};
}

// scores[0, visible) become exp(score - highest); returns the log of their sum before that, and 1 / sum.
float softmax_row(float* scores, int visible, float* inverse_sum) {
    float highest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : highest)
    for (int k = 0; k < visible; k++) highest = scores[k] > highest ? scores[k] : highest;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int k = 0; k < visible; k++) {
        scores[k] = exp_approx(scores[k] - highest);
        sum += scores[k];
    }
    *inverse_sum = 1.0f / sum;
    return highest + std::log(sum);
}

// values[0, visible) *= mask / (1 - p) for one row of probabilities.
void drop_probabilities(float* values, const Dropout& d, int b, int h, int q, int visible) {
    const float keep_scale = 1.0f / (1.0f - d.p);
    for (int k = 0; k < visible; k += 4) {
        const Philox4 words =
            dropout_words(d.seed, d.stream, d.first_sample + b, d.layer, uint32_t(h), uint32_t(q), uint32_t(k / 4));
        for (int i = 0; i < 4 && k + i < visible; i++) {
            values[k + i] = uniform01(words.v[i]) < d.p ? 0.0f : values[k + i] * keep_scale;
        }
    }
}

}  // namespace

void attention_forward(float* out, float* lse, float* scratch, const float* qkv, const Dropout& d, int B, int T, int NH,
                       int NKV, int HS) {
    const float scale = 1.0f / std::sqrt(float(HS));
    const size_t ld = score_stride(T);
    const size_t out_stride = size_t(NH) * HS;
#pragma omp parallel for collapse(2)
    for (int b = 0; b < B; b++) {
        for (int h = 0; h < NH; h++) {
            float* P = scratch + omp_get_thread_num() * attention_scratch_elems(T);  // (kQueryBlock, T)
            const Head head = find_head(b, h, T, NH, NKV, HS);
            float* head_lse = lse + (size_t(b) * NH + h) * T;
            for (int q0 = 0; q0 < T; q0 += kQueryBlock) {
                const int queries = std::min(kQueryBlock, T - q0), keys = q0 + queries;
                sgemm({'N', 'T', queries, keys, HS, qkv + head.q + q0 * head.stride, head.stride, qkv + head.k,
                       head.stride, 0.0f, P, ld, scale});
                for (int i = 0; i < queries; i++) {
                    float* row = P + size_t(i) * ld;
                    const int visible = q0 + i + 1;
                    float inverse_sum;
                    head_lse[q0 + i] = softmax_row(row, visible, &inverse_sum);
                    for (int k = 0; k < visible; k++) row[k] *= inverse_sum;
                    std::fill(row + visible, row + keys, 0.0f);
                    if (d.p > 0) drop_probabilities(row, d, b, h, q0 + i, visible);
                }
                sgemm({'N', 'N', queries, HS, keys, P, ld, qkv + head.v, head.stride, 0.0f,
                       out + (size_t(b) * T + q0) * out_stride + size_t(h) * HS, out_stride});
            }
        }
    }
}

// With P the probabilities, M the mask of dropout over 1 - p, and O = (P M) V:
//   dV = (P M)^T dO,  dP = M (dO V^T),  dS = P (dP - rowsum(dO O)),  dQ = scale dS K,  dK = scale dS^T Q.
void attention_backward(float* dqkv, float* scratch, const float* dout, const float* out, const float* qkv,
                        const float* lse, const Dropout& d, int B, int T, int NH, int NKV, int HS) {
    const float scale = 1.0f / std::sqrt(float(HS));
    const size_t ld = score_stride(T);
    const int group = NH / NKV;
    const size_t out_stride = size_t(NH) * HS;
    const int last_block = (T - 1) / kQueryBlock * kQueryBlock;
    // Each thread owns a key head, so that its query heads add to dK and dV in a fixed order.
#pragma omp parallel for collapse(2)
    for (int b = 0; b < B; b++) {
        for (int kv = 0; kv < NKV; kv++) {
            float* P = scratch + omp_get_thread_num() * attention_scratch_elems(T);  // (kQueryBlock, T)
            float* dS = P + size_t(kQueryBlock) * ld;                                // (kQueryBlock, T)
            for (int h = kv * group; h < (kv + 1) * group; h++) {
                const Head head = find_head(b, h, T, NH, NKV, HS);
                const float* head_lse = lse + (size_t(b) * NH + h) * T;
                // The last block comes first: it sees every key, so it sets dK and dV, and the others add to them.
                for (int q0 = last_block; q0 >= 0; q0 -= kQueryBlock) {
                    const int queries = std::min(kQueryBlock, T - q0), keys = q0 + queries;
                    const float beta = h == kv * group && q0 == last_block ? 0.0f : 1.0f;
                    const size_t block = (size_t(b) * T + q0) * out_stride + size_t(h) * HS;
                    const float* Q = qkv + head.q + q0 * head.stride;
                    sgemm({'N', 'T', queries, keys, HS, Q, head.stride, qkv + head.k, head.stride, 0.0f, P, ld, scale});
                    sgemm({'N', 'T', queries, keys, HS, dout + block, out_stride, qkv + head.v, head.stride, 0.0f, dS,
                           ld});
                    for (int i = 0; i < queries; i++) {
                        float *p = P + size_t(i) * ld, *ds = dS + size_t(i) * ld;
                        const int visible = q0 + i + 1;
                        const float row_lse = head_lse[q0 + i];
                        const float* dout_row = dout + block + i * out_stride;
                        const float* out_row = out + block + i * out_stride;
                        float delta = 0;
#pragma omp simd reduction(+ : delta)
                        for (int c = 0; c < HS; c++) delta += dout_row[c] * out_row[c];
                        if (d.p > 0) drop_probabilities(ds, d, b, h, q0 + i, visible);
#pragma omp simd
                        for (int k = 0; k < visible; k++) {
                            p[k] = exp_approx(p[k] - row_lse);
                            ds[k] = p[k] * (ds[k] - delta);
                        }
                        std::fill(p + visible, p + keys, 0.0f);
                        std::fill(ds + visible, ds + keys, 0.0f);
                        if (d.p > 0) drop_probabilities(p, d, b, h, q0 + i, visible);
                    }
                    sgemm({'T', 'N', keys, HS, queries, P, ld, dout + block, out_stride, beta, dqkv + head.v,
                           head.stride});
                    sgemm(
                        {'T', 'N', keys, HS, queries, dS, ld, Q, head.stride, beta, dqkv + head.k, head.stride, scale});
                    sgemm({'N', 'N', queries, HS, keys, dS, ld, qkv + head.k, head.stride, 0.0f,
                           dqkv + head.q + q0 * head.stride, head.stride, scale});
                }
            }
        }
    }
}

namespace {

// One query with one cached head. This is too small for a matmul of oneDNN.
void attend_one(float* out, float* scores, const float* q, const float* k, const float* v, int length, int HS,
                float scale) {
    for (int t = 0; t < length; t++) {
        const float* key = k + size_t(t) * HS;
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int c = 0; c < HS; c++) dot += q[c] * key[c];
        scores[t] = dot * scale;
    }
    float inverse_sum;
    softmax_row(scores, length, &inverse_sum);
    std::fill(out, out + HS, 0.0f);
    for (int t = 0; t < length; t++) {
        const float* value = v + size_t(t) * HS;
        const float p = scores[t] * inverse_sum;
        for (int c = 0; c < HS; c++) out[c] += p * value[c];
    }
}

}  // namespace

void attention_cached(float* out, float* scratch, const float* q, size_t q_stride, const float* k, const float* v,
                      int n, int length, int max_T, int NH, int NKV, int HS) {
    const float scale = 1.0f / std::sqrt(float(HS));
    const size_t ld = score_stride(max_T);
    const size_t out_stride = size_t(NH) * HS;
#pragma omp parallel for
    for (int h = 0; h < NH; h++) {
        float* P = scratch + omp_get_thread_num() * attention_scratch_elems(max_T);
        const size_t kv = size_t(h / (NH / NKV)) * max_T * HS;
        const float* head_q = q + size_t(h) * HS;
        float* head_out = out + size_t(h) * HS;
        if (n == 1) {
            attend_one(head_out, P, head_q, k + kv, v + kv, length, HS, scale);
            continue;
        }
        for (int q0 = 0; q0 < n; q0 += kQueryBlock) {
            const int queries = std::min(kQueryBlock, n - q0), first = length - n + q0, keys = first + queries;
            sgemm({'N', 'T', queries, keys, HS, head_q + q0 * q_stride, q_stride, k + kv, size_t(HS), 0.0f, P, ld,
                   scale});
            for (int i = 0; i < queries; i++) {
                float* row = P + size_t(i) * ld;
                float inverse_sum;
                softmax_row(row, first + i + 1, &inverse_sum);
                for (int t = 0; t <= first + i; t++) row[t] *= inverse_sum;
                std::fill(row + first + i + 1, row + keys, 0.0f);
            }
            sgemm(
                {'N', 'N', queries, HS, keys, P, ld, v + kv, size_t(HS), 0.0f, head_out + q0 * out_stride, out_stride});
        }
    }
}

}  // namespace kiln
