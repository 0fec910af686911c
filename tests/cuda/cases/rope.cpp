// Cases of cuda/kernels/rope.cu.
#include "cpu_reference/ops/ops.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"
#include "tests/cuda/cases/heads.h"

namespace kiln::test {
namespace {

enum class Way { forward, backward, at };

template <class T, Way kWay>
class RopeCase : public KernelCase, Heads {
public:
    explicit RopeCase(const Shape& shape)
        : Heads(shape),
          B(dim(shape, "B")),
          row_T(dim(shape, "T")),
          qkv_(size_t(B) * row_T * QKV, random_values(size_t(B) * row_T * QKV, 1)),
          table_(size_t(row_T + kFirst) * HS, table(row_T + kFirst, HS)),
          positions_(kWay == Way::at ? B * row_T : 0, positions()) {
        bytes = 2.0 * B * row_T * (NH + NKV) * HS * sizeof(T) + 4.0 * row_T * HS;
    }
    void launch(cudaStream_t stream) override {
        if constexpr (kWay == Way::at) {
            rope_at(qkv_.get(), table_.get(), positions_.get(), B * row_T, NH, NKV, HS, stream);
        } else {
            rope(qkv_.get(), table_.get(), kFirst, B, row_T, NH, NKV, HS, kWay == Way::backward, stream);
        }
    }
    void check() override {
        std::vector<float> expected = qkv_.values();
        if constexpr (kWay == Way::at) {
            const std::vector<float> at = positions();
            for (int n = 0; n < B * row_T; ++n) {
                kiln::rope(expected.data() + size_t(n) * QKV, table_.values().data(), int(at[n]), 1, 1, NH, NKV, HS,
                           false);
            }
        } else {
            kiln::rope(expected.data(), table_.values().data(), kFirst, B, row_T, NH, NKV, HS, kWay == Way::backward);
        }
        expect_close("qkv", qkv_, expected, 4);  // v with it, which must stay as it was
    }

private:
    static constexpr int kFirst = 5;
    static std::vector<float> table(int max_T, int HS) {
        ModelConfig config;
        config.position = Position::rope;
        config.HS = HS;
        config.rope_theta = 10000;
        return rope_table(config, max_T);
    }
    std::vector<float> positions() const {
        std::vector<float> at(kWay == Way::at ? B * row_T : 0);
        for (size_t n = 0; n < at.size(); ++n) at[n] = float((n * 7 + 3) % (row_T + kFirst));
        return at;
    }
    const int B, row_T;
    Tensor<T> qkv_;
    Tensor<float> table_;
    Tensor<int> positions_;
};
template <class T>
using RopeForward = RopeCase<T, Way::forward>;
template <class T>
using RopeBackward = RopeCase<T, Way::backward>;
template <class T>
using RopeAt = RopeCase<T, Way::at>;

Shape shape_of(int B, int T, int NH, int NKV, int HS) {
    return with_heads({{"B", B}, {"T", T}}, NH, NKV, HS);
}

}  // namespace

void add_rope_families(std::vector<KernelFamily>& families) {
    // 36, 40 and 72: halves that are no whole number of packs of 16 bits. 64 heads of 256: more than a block in a row.
    const std::vector<Shape> small = {shape_of(1, 1, 1, 1, 32),  shape_of(2, 3, 3, 1, 64),   shape_of(1, 5, 5, 5, 80),
                                      shape_of(3, 2, 4, 2, 128), shape_of(2, 1, 64, 8, 256), shape_of(1, 7, 2, 1, 40),
                                      shape_of(2, 2, 6, 3, 72),  shape_of(2, 5, 4, 2, 36)};
    // Llama 3 8B, Qwen2.5 0.5B, TinyLlama; and a step of decoding.
    const std::vector<Shape> real = {shape_of(2, 8192, 32, 8, 128), shape_of(16, 1024, 14, 2, 64),
                                     shape_of(8, 2048, 32, 4, 64)};
    families.push_back({"rope_forward", kAllElements, small, real, make<RopeForward>});
    families.push_back({"rope_backward", kAllElements, small, {real[0]}, make<RopeBackward>});
    families.push_back({"rope_at", kAllElements, small, {shape_of(256, 1, 32, 8, 128)}, make<RopeAt>});
}

}  // namespace kiln::test
