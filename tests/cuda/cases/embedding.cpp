// Cases of cuda/kernels/embedding.cu.
#include <gtest/gtest.h>

#include <algorithm>

#include "cpu_reference/ops/ops.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"

namespace kiln::test {
namespace {

// Some tokens are much more frequent than others, as in text.
std::vector<int> random_tokens(int N, int V, unsigned salt) {
    std::vector<int> tokens;
    for (const float x : std::vector<float>(random_values(N, salt)))
        tokens.push_back(int(float(V - 1) * x * x * x * x));
    return tokens;
}

template <class T>
class EmbeddingForward : public KernelCase {
public:
    explicit EmbeddingForward(const Shape& shape)
        : B(dim(shape, "B")),
          time(dim(shape, "T")),
          C(dim(shape, "C")),
          V(dim(shape, "V")),
          position_(dim(shape, "position")),
          tokens_(random_tokens(B * time, V, 1)),
          tokens_on_device_(on_device(tokens_)),
          wte_(random_values(size_t(V) * C, 2)),
          wpe_(random_values(size_t(time + 3) * C, 3)),
          out_(size_t(B) * time * C) {
        bytes = (position_ < 0 ? 2.0 : 3.0) * B * time * C * sizeof(T);
    }
    void launch(cudaStream_t stream) override {
        embedding_forward(out_.get(), tokens_on_device_.get(), wte_.get(), position_ < 0 ? nullptr : wpe_.get(),
                          std::max(position_, 0), B, time, C, stream);
    }
    void check() override {
        std::vector<float> out(out_.size());
        kiln::embedding_forward(out.data(), tokens_.data(), wte_.values().data(),
                                position_ < 0 ? nullptr : wpe_.values().data(), std::max(position_, 0), B, time, C);
        expect_close("out", out_, out);
    }

private:
    const int B, time, C, V, position_;  // position of the first token; -1: without positions
    std::vector<int> tokens_;
    DeviceBuffer<int> tokens_on_device_;
    Tensor<T> wte_, wpe_, out_;
};

template <class T, class Grad>
class EmbeddingBackward : public KernelCase {
public:
    explicit EmbeddingBackward(const Shape& shape)
        : B(dim(shape, "B")),
          time(dim(shape, "T")),
          C(dim(shape, "C")),
          V(dim(shape, "V")),
          tokens_(random_tokens(B * time, V, 4)),
          order_(sort_tokens(tokens_.data(), B * time, V)),
          order_on_device_(on_device(order_.order)),
          chunks_(on_device(order_.chunks)),
          groups_(on_device(order_.groups)),
          counts_(on_device(std::vector<int>{int(order_.chunks.size()), int(order_.groups.size())})),
          partial_(size_t(TokenOrder::max_partials(B * time)) * C),
          dout_(random_values(size_t(B) * time * C, 5)),
          dwte_(random_values(size_t(V) * C, 6)),
          dwpe_(random_values(size_t(time) * C, 7)) {
        bytes = 2.0 * B * time * C * sizeof(T) + 2.0 * (double(order_.chunks.size()) + time) * C * sizeof(Grad);
    }
    void launch(cudaStream_t stream) override {
        const TokenRows rows{order_on_device_.get(), chunks_.get(), groups_.get(), counts_.get()};
        embedding_backward(dwte_.get(), dwpe_.get(), partial_.get(), dout_.get(), rows, 0, B, time, C, stream);
    }
    void check() override {
        std::vector<float> dwte = dwte_.values(), dwpe = dwpe_.values();
        for (int step = 0; step < 2; ++step) {
            kiln::embedding_backward(dwte.data(), dwpe.data(), dout_.values().data(), tokens_.data(), B, time, C);
            // Sums of up to B T terms; their order differs from the reference if a token has several chunks.
            const double terms = 4.0 + 2.0 * B * time;
            expect_close("dwte", dwte_, dwte, two_roundings(dwte, step), terms);
            expect_close("dwpe", dwpe_, dwpe, two_roundings(dwpe, step), terms);
            if (step == 1) break;
            launch_and_wait();  // adds a second time
        }
        EXPECT_TRUE(order_.groups.empty() == (B * time < 400)) << "no token is frequent enough to have several chunks";
    }

private:
    // Gradients are rounded to Grad after each step, so that the second step also has the error of the first.
    std::vector<float> two_roundings(const std::vector<float>& exact, int step) const {
        std::vector<float> naive = rounded<Grad>(exact);
        for (size_t i = 0; step == 1 && i < exact.size(); ++i) naive[i] += naive[i] - exact[i];
        return naive;
    }
    const int B, time, C, V;
    std::vector<int> tokens_;
    TokenOrder order_;
    DeviceBuffer<int> order_on_device_;
    DeviceBuffer<TokenChunk> chunks_, groups_;
    DeviceBuffer<int> counts_;
    DeviceBuffer<float> partial_;
    Tensor<T> dout_;
    Tensor<Grad> dwte_, dwpe_;
};

template <class T>
using EmbeddingBackwardFloat = EmbeddingBackward<T, float>;
template <class T>
using EmbeddingBackwardSame = EmbeddingBackward<T, T>;

}  // namespace

void add_embedding_families(std::vector<KernelFamily>& families) {
    const auto shape = [](int B, int time, int C, int V, int position) {
        return Shape{{"B", B}, {"T", time}, {"C", C}, {"V", V}, {"position", position}};
    };
    const std::vector<Shape> small = {shape(1, 1, 8, 3, -1), shape(2, 5, 72, 11, 0), shape(3, 7, 40, 50, 2),
                                      shape(4, 150, 16, 30, -1), shape(1, 3, 2056, 4, 1)};
    const std::vector<Shape> real = {shape(64, 1024, 768, 50257, 0), shape(16, 1024, 1600, 50257, 0),
                                     shape(4, 2048, 4096, 128256, -1)};
    families.push_back({"embedding_forward", kAllElements, small, real, make<EmbeddingForward>});
    families.push_back({"embedding_backward", kAllElements, small, real, make<EmbeddingBackwardFloat>});
    families.push_back({"embedding_backward_same", kNarrowElements, small, {}, make<EmbeddingBackwardSame>});
}

}  // namespace kiln::test
