// Cases of cuda/kernels/qk_norm.cu.
#include "cpu_reference/ops/ops.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"
#include "tests/cuda/cases/heads.h"

namespace kiln::test {
namespace {

constexpr float kEps = 1e-6f;

struct QkShape : Heads {
    explicit QkShape(const Shape& shape) : Heads(shape), N(dim(shape, "N")) {}
    size_t qkv_elems() const { return size_t(N) * QKV; }
    size_t heads() const { return size_t(N) * (NH + NKV); }
    const int N;
};

template <class T, bool kSaved>
class QkNormForwardCase : public KernelCase {
public:
    explicit QkNormForwardCase(const Shape& shape)
        : s(shape),
          qkv_(random_values(s.qkv_elems(), 1)),
          q_norm_(random_values(s.HS, 2)),
          k_norm_(random_values(s.HS, 3)),
          raw_(s.heads() * s.HS),
          rstd_(s.heads()) {
        bytes = (kSaved ? 3.0 : 2.0) * s.heads() * s.HS * sizeof(T) + (kSaved ? 4.0 * s.heads() : 0);
        flops = 4.0 * s.heads() * s.HS;
    }
    void launch(cudaStream_t stream) override {
        qk_norm_forward(qkv_.get(), kSaved ? raw_.get() : nullptr, kSaved ? rstd_.get() : nullptr, q_norm_.get(),
                        k_norm_.get(), kEps, s.N, s.NH, s.NKV, s.HS, stream);
    }
    void check() override {
        std::vector<float> qkv = qkv_.values(), raw(raw_.size()), rstd(rstd_.size());
        kiln::qk_norm_forward(qkv.data(), raw.data(), rstd.data(), q_norm_.values().data(), k_norm_.values().data(),
                              kEps, s.N, s.NH, s.NKV, s.HS);
        expect_close("qkv", qkv_, qkv, 32);  // sums of HS terms in another order
        if (!kSaved) return;
        expect_close("raw", raw_, raw, 0);
        expect_close("rstd", rstd_, rstd, 32);
    }

private:
    const QkShape s;
    Tensor<T> qkv_, q_norm_, k_norm_, raw_;
    Tensor<float> rstd_;
};
template <class T>
using QkNormForward = QkNormForwardCase<T, true>;
template <class T>
using QkNormForwardOnly = QkNormForwardCase<T, false>;

template <class T, class G>
class QkNormBackwardCase : public KernelCase {
public:
    explicit QkNormBackwardCase(const Shape& shape)
        : s(shape),
          dqkv_(random_values(s.qkv_elems(), 1)),
          raw_(random_values(s.heads() * s.HS, 2)),
          q_norm_(random_values(s.HS, 3)),
          k_norm_(random_values(s.HS, 4)),
          dq_norm_(random_values(s.HS, 5)),
          dk_norm_(random_values(s.HS, 6)),
          scratch_(qk_norm_backward_scratch_floats(s.HS)) {
        std::vector<float> rstd(s.heads()), qkv(s.qkv_elems());
        for (size_t n = 0; n < size_t(s.N); ++n) {
            std::copy_n(raw_.values().begin() + n * head_elems(), head_elems(), qkv.begin() + n * s.QKV);
        }
        kiln::qk_norm_forward(qkv.data(), nullptr, rstd.data(), q_norm_.values().data(), k_norm_.values().data(), kEps,
                              s.N, s.NH, s.NKV, s.HS);
        rstd_ = Tensor<float>(rstd);
        bytes = 3.0 * s.heads() * s.HS * sizeof(T) + 4.0 * s.heads();
        flops = 12.0 * s.heads() * s.HS;
    }
    void launch(cudaStream_t stream) override { run(true, stream); }
    void check() override {
        std::vector<float> dqkv = dqkv_.values(), dq = dq_norm_.values(), dk = dk_norm_.values();
        add_reference(dqkv, dq, dk, true);
        std::vector<float> naive_dq = rounded<G>(dq), naive_dk = rounded<G>(dk);
        compare(dqkv, dq, dk, naive_dq, naive_dk);
        // In place: the second step takes the result of the first.
        dqkv = dqkv_.read();
        std::vector<float> again = dqkv;
        run(true, nullptr);
        add_reference(dqkv, dq, dk, true);
        add_reference(again, naive_dq, naive_dk, true);
        compare(dqkv, dq, dk, rounded<G>(naive_dq), rounded<G>(naive_dk));
        dqkv = dqkv_.read();
        run(false, nullptr);
        add_reference(dqkv, dq, dk, false);
        compare(dqkv, dq, dk, rounded<G>(dq), rounded<G>(dk));
    }

private:
    size_t head_elems() const { return size_t(s.NH + s.NKV) * s.HS; }
    void run(bool accumulate, cudaStream_t stream) {
        qk_norm_backward(QkNormBackward<T, G>{.dqkv = dqkv_.get(),
                                              .dq_norm = dq_norm_.get(),
                                              .dk_norm = dk_norm_.get(),
                                              .scratch = scratch_.get(),
                                              .raw = raw_.get(),
                                              .rstd = rstd_.get(),
                                              .q_norm = q_norm_.get(),
                                              .k_norm = k_norm_.get(),
                                              .N = s.N,
                                              .NH = s.NH,
                                              .NKV = s.NKV,
                                              .HS = s.HS,
                                              .accumulate = accumulate},
                         stream);
    }
    void add_reference(std::vector<float>& dqkv, std::vector<float>& dq, std::vector<float>& dk, bool accumulate) {
        kiln::qk_norm_backward(dqkv.data(), dq.data(), dk.data(), raw_.values().data(), rstd_.values().data(),
                               q_norm_.values().data(), k_norm_.values().data(), s.N, s.NH, s.NKV, s.HS, accumulate);
    }
    void compare(const std::vector<float>& dqkv, const std::vector<float>& dq, const std::vector<float>& dk,
                 const std::vector<float>& naive_dq, const std::vector<float>& naive_dk) {
        CUDA_CHECK(cudaDeviceSynchronize());
        constexpr double kTerms = 64;  // sums over HS, and over rows and heads, in another order
        expect_close("dqkv", dqkv_, dqkv, kTerms);
        expect_close("dq_norm", dq_norm_, dq, naive_dq, kTerms);
        expect_close("dk_norm", dk_norm_, dk, naive_dk, kTerms);
        scratch_.expect_sentinel("scratch");
    }
    const QkShape s;
    Tensor<T> dqkv_, raw_, q_norm_, k_norm_;
    Tensor<G> dq_norm_, dk_norm_;
    Tensor<float> scratch_, rstd_{0};
};
template <class T>
using QkNormBackwardFloat = QkNormBackwardCase<T, float>;
template <class T>
using QkNormBackwardSame = QkNormBackwardCase<T, T>;

Shape shape_of(int N, int NH, int NKV, int HS) {
    return with_heads({{"N", N}}, NH, NKV, HS);
}

}  // namespace

void add_qk_norm_families(std::vector<KernelFamily>& families) {
    // Heads of 2 to 64 packs; 80 and 24 leave lanes idle; the last has more heads than 6 blocks take at once.
    const std::vector<Shape> small = {shape_of(1, 1, 1, 32),  shape_of(5, 3, 1, 64),  shape_of(3, 4, 2, 80),
                                      shape_of(7, 4, 2, 128), shape_of(2, 5, 1, 256), shape_of(9, 2, 2, 24),
                                      shape_of(1, 1, 1, 8),   shape_of(31, 5, 1, 136)};
    const std::vector<Shape> real = {shape_of(16384, 16, 8, 128), shape_of(8192, 32, 8, 128)};  // Qwen3 0.6B, 4B
    families.push_back({"qk_norm_forward", kAllElements, small, real, make<QkNormForward>});
    families.push_back({"qk_norm_forward_only", kAllElements, {small[2]}, {}, make<QkNormForwardOnly>});
    families.push_back({"qk_norm_backward", kAllElements, small, real, make<QkNormBackwardFloat>});
    families.push_back({"qk_norm_backward_same", kNarrowElements, {small[2]}, {}, make<QkNormBackwardSame>});
}

}  // namespace kiln::test
