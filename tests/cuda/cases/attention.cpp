// Cases of cuda/kernels/attention.cu.
#include <gtest/gtest.h>

#include <omp.h>

#include <cmath>

#include "cpu_reference/ops/ops.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"
#include "tests/cuda/cases/heads.h"
#include "tests/cuda/cases/rows.h"

namespace kiln::test {
namespace {

struct Attention : Sequences {
    Attention(const Shape& shape, bool dropout) : Sequences(shape), d(attention_dropout(dropout ? 0.25f : 0)) {}
    std::vector<float> cpu_scratch() const {
        return std::vector<float>(omp_get_max_threads() * attention_scratch_elems(T));
    }
    void forward(std::vector<float>& out, std::vector<float>& lse, const std::vector<float>& qkv) const {
        out.resize(out_elems());
        lse.resize(lse_elems());
        kiln::attention_forward(out.data(), lse.data(), cpu_scratch().data(), qkv.data(), d, B, T, NH, NKV, HS);
    }
    const Dropout d;
};

template <class E, bool kDropout>
class AttentionForward : public KernelCase, Attention {
public:
    explicit AttentionForward(const Shape& shape)
        : Attention(shape, kDropout),
          qkv_(random_values(qkv_elems(), 1, kInputScale)),
          out_(out_elems()),
          lse_(lse_elems()) {
        bytes = double(qkv_.size() + out_.size()) * sizeof(E) + 4.0 * lse_.size();
        flops = 2.0 * B * NH * T * T * HS;
    }
    void launch(cudaStream_t stream) override {
        attention_forward(out_.get(), lse_.get(), qkv_.get(), d, B, T, NH, NKV, HS, stream);
    }
    void check() override {
        std::vector<float> out, lse;
        forward(out, lse, qkv_.values());
        // A score is a sum of HS products, an output one of T. Arithmetic is float32 for every type.
        expect_close("lse", lse_, lse, HS);
        expect_close("out", out_, out, HS + T);
    }

private:
    Tensor<E> qkv_, out_;
    Tensor<float> lse_;
};

template <class E, bool kDropout>
class AttentionBackward : public KernelCase, Attention {
public:
    explicit AttentionBackward(const Shape& shape)
        : Attention(shape, kDropout),
          qkv_(random_values(qkv_elems(), 1, kInputScale)),
          dout_(random_values(out_elems(), 2)),
          out_(outputs()),
          lse_(sums_),
          dqkv_(qkv_elems()),
          db_(random_values(QKV, 3)),
          scratch_(attention_scratch_floats(B, T, NH, NKV, HS, true)) {
        bytes = double(2 * qkv_.size() + 2 * out_.size()) * sizeof(E) + 8.0 * lse_.size();
        flops = 5.0 * B * NH * T * T * HS;
    }
    void launch(cudaStream_t stream) override { run(dqkv_, {db_.get(), true}, stream); }
    void check() override {
        std::vector<float> dqkv(qkv_elems());
        kiln::attention_backward(dqkv.data(), cpu_scratch().data(), dout_.values().data(), out_.values().data(),
                                 qkv_.values().data(), lse_.values().data(), d, B, T, NH, NKV, HS);
        // Sums of HS products, then of T for each query head of the group. The B T terms of a sum of dqkv have such
        // errors of their own, up to the largest of dqkv, and sums may be smaller.
        const double terms = HS + T * NH / NKV;
        expect_close("dqkv", dqkv_, dqkv, terms);
        expect_close("db +=", db_, bias_gradient(db_.values(), dqkv), terms * B * T);
        scratch_.expect_sentinel("scratch");
        const Tensor<E> without_bias(qkv_elems());
        run(without_bias, {}, nullptr);
        run(dqkv_, {db_.get(), false}, nullptr);
        CUDA_CHECK(cudaDeviceSynchronize());
        EXPECT_EQ(without_bias.read(), dqkv_.read());
        expect_close("db =", db_, bias_gradient(std::vector<float>(QKV), dqkv), terms * B * T);
    }

private:
    void run(const Tensor<E>& dqkv, const BiasGradient<float>& bias, cudaStream_t stream) {
        attention_backward(dqkv.get(), bias, scratch_.get(), dout_.get(), out_.get(), qkv_.get(), lse_.get(), d, B, T,
                           NH, NKV, HS, stream);
    }
    Values outputs() {
        // The benchmark's shapes are too long for the reference, and need no correct output.
        if (T > 512) {
            sums_.assign(lse_elems(), 10.0f);
            return random_values(out_elems(), 3);
        }
        std::vector<float> out;
        forward(out, sums_, qkv_.values());
        return out;
    }
    std::vector<float> sums_;
    Tensor<E> qkv_, dout_, out_;
    Tensor<float> lse_;
    Tensor<E> dqkv_;
    Tensor<float> db_, scratch_;
};

template <class E>
using Forward = AttentionForward<E, false>;
template <class E>
using ForwardDropout = AttentionForward<E, true>;
template <class E>
using BackwardOnly = AttentionBackward<E, false>;
template <class E>
using BackwardDropout = AttentionBackward<E, true>;

}  // namespace

void add_attention_families(std::vector<KernelFamily>& families) {
    const std::vector<Shape> small = {sequences(1, 1, 1, 1, 32),   sequences(2, 67, 4, 2, 64),
                                      sequences(1, 130, 2, 1, 80), sequences(1, 35, 3, 1, 128),
                                      sequences(2, 33, 1, 1, 256), sequences(1, 9, 2, 2, 8),
                                      sequences(2, 70, 4, 2, 36),  sequences(1, 40, 2, 1, 132)};
    const std::vector<Shape> few = {sequences(2, 67, 2, 1, 40), sequences(2, 35, 2, 1, 136)};
    const std::vector<Shape> real = {sequences(64, 1024, 12, 12, 64), sequences(1, 8192, 32, 8, 128)};
    families.push_back({"attention_forward", kAllElements, small, real, make<Forward>});
    families.push_back({"attention_forward_dropout", kAllElements, few, {real[0]}, make<ForwardDropout>});
    families.push_back({"attention_backward", kAllElements, small, real, make<BackwardOnly>});
    families.push_back({"attention_backward_dropout", kAllElements, few, {real[0]}, make<BackwardDropout>});
}

}  // namespace kiln::test
