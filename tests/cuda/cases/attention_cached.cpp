// Cases of cuda/kernels/attention_cached.cu.
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cpu_reference/ops/ops.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"
#include "tests/cuda/cases/heads.h"

namespace kiln::test {
namespace {

struct Cached : Sequences {
    Cached(const Shape& shape, int beyond, int pitch)
        : Sequences(shape),
          beyond(beyond),
          full(dim(shape, "full")),
          max_T(dim(shape, "max_T")),
          pitch(pitch),
          cache_elems(size_t(B) * NKV * max_T * pitch) {}
    // The position of the first token. Cache b % 4 == 0 is full afterwards, or `beyond` tokens do not fit; 1 was empty;
    // 2 is idle; 3 was a third full. With `full`, all are like 0.
    int position(int b) const {
        return full || b % 4 == 0 ? max_T - T + beyond : b % 4 == 1 ? 0 : b % 4 == 2 ? -1 : (max_T - T) / 3;
    }
    std::vector<float> positions() const {
        std::vector<float> all(B);
        for (int b = 0; b < B; ++b) all[b] = float(position(b));
        return all;
    }
    const int beyond, full, max_T, pitch;
    const size_t cache_elems;
};

template <class E, int kScale>
class AttentionCached : public KernelCase, Cached {
public:
    explicit AttentionCached(const Shape& shape)
        : Cached(shape, 0, cache_pitch<E>(dim(shape, "HS"))),
          window(dim(shape, "W")),
          qkv_(random_values(qkv_elems(), 1, kScale)),
          k_(cache(2)),
          v_(cache(3)),
          positions_(positions()),
          out_(out_elems()),
          scratch_(attention_cached_scratch_floats(HS)),
          arrivals_(std::vector<float>(attention_cached_arrivals())) {
        double keys = 0, pairs = 0;
        for (int b = 0; b < B; ++b) {
            if (position(b) < 0) continue;
            const int end = position(b) + T;
            keys += end - begin(end - T + 1);
            for (int t = 1; t <= T; ++t) pairs += end - T + t - begin(end - T + t);
        }
        bytes = 2 * keys * NKV * HS * sizeof(E);
        flops = 4 * pairs * NH * HS;
    }
    void launch(cudaStream_t stream) override {
        attention_cached<E>({.out = out_.get(),
                             .scratch = scratch_.get(),
                             .arrivals = arrivals_.get(),
                             .qkv = qkv_.get(),
                             .k_cache = k_.get(),
                             .v_cache = v_.get(),
                             .positions = positions_.get(),
                             .B = B,
                             .T = T,
                             .max_T = max_T,
                             .NH = NH,
                             .NKV = NKV,
                             .HS = HS,
                             .window = window},
                            stream);
    }
    void check() override {
        std::vector<float> out(out_.size()), scratch(omp_get_max_threads() * attention_scratch_elems(max_T));
        const std::vector<float> k = rows(k_), v = rows(v_);
        for (int b = 0; b < B; ++b) {
            for (int t = 0; t < T && position(b) >= 0; ++t) {
                const size_t row = size_t(b) * T + t;
                const int end = position(b) + t + 1;
                const size_t at = (size_t(b) * NKV * max_T + begin(end)) * HS;
                kiln::attention_cached(out.data() + row * NH * HS, scratch.data(), qkv_.values().data() + row * QKV,
                                       QKV, k.data() + at, v.data() + at, 1, end - begin(end), max_T, NH, NKV, HS);
            }
        }
        // A score is a sum of HS products, of the size kScale^2 / 3, an output one of max_T.
        expect_close("out", out_, out, naive(), HS * std::max(1, kScale * kScale / 3) + max_T);
        scratch_.expect_sentinel("scratch");
        arrivals_.expect_sentinel("arrivals");
        EXPECT_EQ(arrivals_.read(), arrivals_.values());
        const std::vector<float> once = out_.read();
        launch_and_wait();  // again with the same scratch
        EXPECT_EQ(out_.read(), once);
    }

private:
    // The rows of a cache, without the elements between them.
    std::vector<float> rows(const Tensor<E>& cache) const {
        std::vector<float> all;
        for (size_t at = 0; at < cache_elems; at += pitch) {
            all.insert(all.end(), cache.values().data() + at, cache.values().data() + at + HS);
        }
        return all;
    }
    // With probabilities, not yet divided by their sum, rounded to E, as the second matmul takes them.
    std::vector<float> naive() const {
        std::vector<float> out(out_.size());
        for (size_t i = 0; i < size_t(B) * T * NH; ++i) {
            const int b = i / (T * NH), h = i % NH, end = position(b) + i / NH % T + 1;
            if (position(b) < 0) continue;
            const float* const q = qkv_.values().data() + i / NH * QKV + h * HS;
            const size_t cached = (size_t(b) * NKV + h / (NH / NKV)) * max_T * pitch;
            std::vector<float> p;
            for (int t = begin(end); t < end; ++t) {
                const float* const k = k_.values().data() + cached + size_t(t) * pitch;
                p.push_back(std::inner_product(q, q + HS, k, 0.0f) / std::sqrt(float(HS)));
            }
            const float highest = *std::max_element(p.begin(), p.end());
            for (float& x : p) x = std::exp(x - highest);
            const float sum = std::accumulate(p.begin(), p.end(), 0.0f);
            p = rounded<E>(p);
            for (size_t t = 0; t < p.size(); ++t) {
                const float* const v = v_.values().data() + cached + (begin(end) + t) * pitch;
                for (int c = 0; c < HS; ++c) out[i * HS + c] += p[t] * v[c] / sum;
            }
        }
        return rounded<E>(out);
    }
    int begin(int end) const { return window > 0 ? std::max(end - window, 0) : 0; }
    // NaN in rows without a token, which no kernel may read. Zeros between rows.
    std::vector<float> cache(unsigned salt) const {
        std::vector<float> values = random_values(cache_elems, salt, kScale);
        for (int b = 0; b < B; ++b) {
            const int end = position(b) < 0 ? 0 : position(b) + T;
            for (int kv = 0; kv < NKV; ++kv) {
                float* const head = values.data() + (size_t(b) * NKV + kv) * max_T * pitch;
                for (int t = 0; t < end; ++t) std::fill_n(head + t * pitch + HS, pitch - HS, 0.0f);
                std::fill(head + size_t(end) * pitch, head + size_t(max_T) * pitch,
                          std::numeric_limits<float>::quiet_NaN());
            }
        }
        return values;
    }
    const int window;
    Tensor<E> qkv_, k_, v_;
    Tensor<int> positions_;
    Tensor<E> out_;
    Tensor<float> scratch_;
    Tensor<int> arrivals_;
};
template <class E>
using Usual = AttentionCached<E, 2>;
template <class E>
using LargeLogits = AttentionCached<E, 50>;

template <class E>
class AppendToCache : public KernelCase, Cached {
public:
    explicit AppendToCache(const Shape& shape)
        : Cached(shape, dim(shape, "T") - 1, cache_pitch<E>(dim(shape, "HS"))),
          qkv_(random_values(qkv_elems(), 1)),
          k_(random_values(cache_elems, 2)),
          v_(random_values(cache_elems, 3)),
          positions_(positions()) {
        int tokens = 0;
        for (int b = 0; b < B; ++b) tokens += position(b) < 0 ? 0 : std::min(T, max_T - position(b));
        bytes = 4.0 * tokens * NKV * HS * sizeof(E);
    }
    void launch(cudaStream_t stream) override {
        append_to_cache(k_.get(), v_.get(), qkv_.get(), positions_.get(), B, T, max_T, NH, NKV, HS, stream);
    }
    void check() override {
        std::vector<float> k = k_.values(), v = v_.values();
        for (int b = 0; b < B; ++b) {
            for (int t = 0; t < T; ++t) {
                if (position(b) < 0 || position(b) + t >= max_T) continue;
                for (int kv = 0; kv < NKV; ++kv) {
                    const float* from = qkv_.values().data() + (size_t(b) * T + t) * QKV + (NH + kv) * HS;
                    const size_t to = ((size_t(b) * NKV + kv) * max_T + position(b) + t) * pitch;
                    std::fill_n(k.data() + to, pitch, 0.0f);
                    std::fill_n(v.data() + to, pitch, 0.0f);
                    std::copy_n(from, HS, k.data() + to);
                    std::copy_n(from + NKV * HS, HS, v.data() + to);
                }
            }
        }
        EXPECT_EQ(k_.read(), k);
        EXPECT_EQ(v_.read(), v);
        k_.expect_sentinel("k_cache");
        v_.expect_sentinel("v_cache");
    }

private:
    Tensor<E> qkv_, k_, v_;
    Tensor<int> positions_;
};

Shape shape(int B, int max_T, int NH, int NKV, int HS, int T = 1, int W = 0, int full = 0) {
    return with_heads({{"B", B}, {"T", T}, {"max_T", max_T}, {"W", W}, {"full", full}}, NH, NKV, HS);
}
Shape full(int B, int max_T, int NH, int NKV, int HS, int W = 0) {
    return shape(B, max_T, NH, NKV, HS, 1, W, 1);
}

}  // namespace

void add_attention_cached_families(std::vector<KernelFamily>& families) {
    families.push_back(
        {"attention_cached",
         kAllElements,
         {shape(1, 1, 1, 1, 32), shape(1, 2, 2, 1, 64), shape(1, 64, 3, 1, 64), shape(1, 65, 4, 2, 128),
          shape(1, 66, 5, 1, 32), shape(4, 300, 4, 2, 64), shape(2, 129, 9, 1, 80), shape(4, 40, 8, 1, 128),
          shape(1, 261, 2, 2, 256), shape(2, 35, 3, 3, 8), shape(8, 1001, 7, 1, 96), shape(4, 50, 4, 2, 36)},
         {full(1, 8192, 32, 8, 128), full(2, 8192, 32, 8, 128), full(4, 8192, 32, 8, 128), full(16, 8192, 32, 8, 128),
          shape(32, 8192, 32, 8, 128), full(1, 8192, 12, 12, 64), full(4, 8192, 12, 12, 64), full(16, 8192, 12, 12, 64),
          full(32, 1024, 12, 12, 64), full(1, 131072, 28, 4, 128)},
         make<Usual>,
         0,
         80});
    families.push_back({"attention_cached_long",
                        {Element::bfloat16},
                        {shape(1, 8192, 4, 2, 32), shape(8, 2000, 3, 3, 16)},
                        {},
                        make<Usual>,
                        0,
                        80});
    families.push_back({"attention_cached_large_logits",
                        kAllElements,
                        {shape(4, 300, 4, 2, 64), shape(1, 70, 8, 1, 128)},
                        {},
                        make<LargeLogits>,
                        0,
                        80});
    families.push_back({"attention_cached_window",
                        kAllElements,
                        {shape(4, 300, 4, 2, 64, 1, 100), shape(1, 90, 7, 1, 128, 1, 1), shape(4, 20, 1, 1, 32, 1, 64),
                         shape(4, 200, 2, 1, 32, 9, 33)},
                        {full(16, 8192, 32, 8, 128, 4096)},
                        make<Usual>,
                        0,
                        80});
    families.push_back({"attention_cached_tokens",
                        kAllElements,
                        {shape(4, 70, 2, 2, 64, 11), shape(1, 150, 12, 4, 128, 5), shape(2, 30, 9, 1, 8, 20),
                         shape(1, 80, 8, 1, 256, 3)},
                        {},
                        make<Usual>,
                        0,
                        80});
    families.push_back(
        {"append_to_cache",
         kAllElements,
         {shape(1, 1, 1, 1, 32), shape(5, 7, 4, 2, 40, 3), shape(4, 9, 3, 3, 80), shape(4, 9, 4, 2, 36, 2)},
         {shape(16, 1024, 12, 12, 64, 512), shape(32, 1024, 32, 8, 128)},
         make<AppendToCache>});
}

}  // namespace kiln::test
