// Cases of cuda/attention_cached.cu.
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <limits>

#include "cpu_reference/ops.h"
#include "cuda/kernels.h"
#include "tests/cuda/cases.h"
#include "tests/cuda/heads.h"

namespace kiln::test {
namespace {

struct Cached : Heads {
    explicit Cached(const Shape& shape)
        : Heads(shape), B(dim(shape, "B")), max_T(dim(shape, "max_T")), cache_elems(size_t(B) * NKV * max_T * HS) {}
    // Full, with one token, idle, a third full.
    int position(int b) const { return b % 4 == 0 ? max_T - 1 : b % 4 == 1 ? 0 : b % 4 == 2 ? -1 : max_T / 3; }
    std::vector<float> positions() const {
        std::vector<float> all(B);
        for (int b = 0; b < B; ++b) all[b] = float(position(b));
        return all;
    }
    const int B, max_T;
    const size_t cache_elems;
};

template <class E>
class AttentionCached : public KernelCase, Cached {
public:
    explicit AttentionCached(const Shape& shape)
        : Cached(shape),
          qkv_(size_t(B) * QKV, random_values(size_t(B) * QKV, 1, 2)),
          k_(cache_elems, cache(2)),
          v_(cache_elems, cache(3)),
          positions_(B, positions()),
          out_(size_t(B) * NH * HS),
          scratch_(attention_cached_scratch_floats(B, max_T, NH, HS)) {
        double keys = 0;
        for (int b = 0; b < B; ++b) keys += position(b) + 1;
        bytes = 2 * keys * NKV * HS * sizeof(E);
        flops = 4 * keys * NH * HS;
    }
    void launch(cudaStream_t stream) override {
        attention_cached<E>({.out = out_.get(),
                             .scratch = scratch_.get(),
                             .qkv = qkv_.get(),
                             .k_cache = k_.get(),
                             .v_cache = v_.get(),
                             .positions = positions_.get(),
                             .B = B,
                             .max_T = max_T,
                             .NH = NH,
                             .NKV = NKV,
                             .HS = HS},
                            stream);
    }
    void check() override {
        std::vector<float> out(out_.size()), scratch(omp_get_max_threads() * attention_scratch_elems(max_T));
        for (int b = 0; b < B; ++b) {
            if (position(b) < 0) continue;
            const size_t at = size_t(b) * NKV * max_T * HS;
            kiln::attention_cached(out.data() + size_t(b) * NH * HS, scratch.data(),
                                   qkv_.values().data() + size_t(b) * QKV, QKV, k_.values().data() + at,
                                   v_.values().data() + at, 1, position(b) + 1, max_T, NH, NKV, HS);
        }
        // A score is a sum of HS products, an output one of max_T.
        expect_close("out", out_, out, HS + max_T);
        scratch_.expect_sentinel("scratch");
    }

private:
    // NaN where no token stands yet: nobody may read it.
    std::vector<float> cache(unsigned salt) const {
        std::vector<float> values = random_values(cache_elems, salt, 2);
        for (int b = 0; b < B; ++b) {
            for (int kv = 0; kv < NKV; ++kv) {
                float* const head = values.data() + (size_t(b) * NKV + kv) * max_T * HS;
                std::fill(head + size_t(position(b) + 1) * HS, head + size_t(max_T) * HS,
                          std::numeric_limits<float>::quiet_NaN());
            }
        }
        return values;
    }
    Tensor<E> qkv_, k_, v_;
    Tensor<int> positions_;
    Tensor<E> out_;
    Tensor<float> scratch_;
};

template <class E>
class AppendToCache : public KernelCase, Cached {
public:
    explicit AppendToCache(const Shape& shape)
        : Cached(shape),
          T(dim(shape, "T")),
          qkv_(size_t(B) * T * QKV, random_values(size_t(B) * T * QKV, 1)),
          k_(cache_elems, random_values(cache_elems, 2)),
          v_(cache_elems, random_values(cache_elems, 3)),
          positions_(B, positions()) {
        bytes = 4.0 * B * T * NKV * HS * sizeof(E);
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
                    const size_t to = ((size_t(b) * NKV + kv) * max_T + position(b) + t) * HS;
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
    const int T;
    Tensor<E> qkv_, k_, v_;
    Tensor<int> positions_;
};

Shape shape(int B, int max_T, int NH, int NKV, int HS) {
    return with_heads({{"B", B}, {"max_T", max_T}}, NH, NKV, HS);
}
Shape with_T(int T, Shape shape) {
    shape.push_back({"T", T});
    return shape;
}

}  // namespace

void add_attention_cached_families(std::vector<KernelFamily>& families) {
    families.push_back({"attention_cached",
                        kAllElements,
                        {shape(1, 1, 1, 1, 32), shape(4, 300, 4, 2, 64), shape(2, 129, 9, 1, 80),
                         shape(4, 40, 8, 1, 128), shape(1, 261, 2, 2, 256), shape(2, 35, 3, 3, 8)},
                        {shape(32, 1024, 12, 12, 64), shape(1, 8192, 32, 8, 128), shape(32, 8192, 32, 8, 128),
                         shape(1, 131072, 28, 4, 128)},
                        make<AttentionCached>});
    // Parts of more than 128 keys.
    families.push_back(
        {"attention_cached_long", {Element::bfloat16}, {shape(1, 33000, 1, 1, 8)}, {}, make<AttentionCached>});
    families.push_back(
        {"append_to_cache",
         kAllElements,
         {with_T(1, shape(1, 1, 1, 1, 32)), with_T(3, shape(5, 7, 4, 2, 40)), with_T(1, shape(4, 9, 3, 3, 80))},
         {with_T(1024, shape(16, 1024, 12, 12, 64)), with_T(1, shape(32, 1024, 32, 8, 128))},
         make<AppendToCache>});
}

}  // namespace kiln::test
