// Cases of cuda/kernels/rope.cu.
#include "cpu_reference/ops/ops.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"
#include "tests/cuda/cases/heads.h"

namespace kiln::test {
namespace {

enum class Way { forward, backward, at };

template <class E, Way kWay>
class RopeCase : public KernelCase, Sequences {
public:
    explicit RopeCase(const Shape& shape)
        : Sequences(shape),
          qkv_(random_values(qkv_elems(), 1)),
          table_(table(T + kFirst, HS)),
          positions_(positions()) {
        bytes = 2.0 * B * T * (NH + NKV) * HS * sizeof(E) + 4.0 * T * HS;
    }
    void launch(cudaStream_t stream) override {
        if constexpr (kWay == Way::at) {
            rope_at(qkv_.get(), table_.get(), positions_.get(), B * T, NH, NKV, HS, stream);
        } else {
            rope(qkv_.get(), table_.get(), kFirst, B, T, NH, NKV, HS, kWay == Way::backward, stream);
        }
    }
    void check() override {
        std::vector<float> expected = qkv_.values();
        if constexpr (kWay == Way::at) {
            const std::vector<float> at = positions();
            for (int n = 0; n < B * T; ++n) {
                kiln::rope(expected.data() + size_t(n) * QKV, table_.values().data(), int(at[n]), 1, 1, NH, NKV, HS,
                           false);
            }
        } else {
            kiln::rope(expected.data(), table_.values().data(), kFirst, B, T, NH, NKV, HS, kWay == Way::backward);
        }
        expect_close("qkv", qkv_, expected, 4);  // v must not change
    }

private:
    static constexpr int kFirst = 5;
    static std::vector<float> table(int max_T, int HS) {
        ModelConfig config;
        config.position = Position::rope;
        config.HS = HS;
        config.rope_theta = 10000;
        config.rope_scaling = {.type = RopeType::yarn, .factor = 4};  // cos and sin are not of length 1
        return rope_table(config, max_T);
    }
    std::vector<float> positions() const {
        std::vector<float> at(kWay == Way::at ? B * T : 0);
        for (size_t n = 0; n < at.size(); ++n) at[n] = float((n * 7 + 3) % (T + kFirst));
        return at;
    }
    Tensor<E> qkv_;
    Tensor<float> table_;
    Tensor<int> positions_;
};
template <class T>
using RopeForward = RopeCase<T, Way::forward>;
template <class T>
using RopeBackward = RopeCase<T, Way::backward>;
template <class T>
using RopeAt = RopeCase<T, Way::at>;

}  // namespace

void add_rope_families(std::vector<KernelFamily>& families) {
    // With 16-bit elements, half of a head of 36, 40 or 72 is not whole packs. A row of 64 heads of 256 needs more
    // threads than a block has.
    const std::vector<Shape> small = {
        sequences(1, 1, 1, 1, 32),   sequences(2, 3, 3, 1, 64), sequences(1, 5, 5, 5, 80), sequences(3, 2, 4, 2, 128),
        sequences(2, 1, 64, 8, 256), sequences(1, 7, 2, 1, 40), sequences(2, 2, 6, 3, 72), sequences(2, 5, 4, 2, 36)};
    // Llama 3 8B, Qwen2.5 0.5B, TinyLlama; and a step of decoding.
    const std::vector<Shape> real = {sequences(2, 8192, 32, 8, 128), sequences(16, 1024, 14, 2, 64),
                                     sequences(8, 2048, 32, 4, 64)};
    families.push_back({"rope_forward", kAllElements, small, real, make<RopeForward>});
    families.push_back({"rope_backward", kAllElements, small, {real[0]}, make<RopeBackward>});
    families.push_back({"rope_at", kAllElements, small, {sequences(256, 1, 32, 8, 128)}, make<RopeAt>});
}

}  // namespace kiln::test
