// Cases of cuda/kernels/sample.cu.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cpu_reference/interface/sampler.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"

namespace kiln::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr SamplerOptions kOptions[] = {{.temperature = 0},
                                       {.temperature = 0.8f, .seed = 3},
                                       {.temperature = 1.3f, .top_k = 5, .vocab_size = 290, .seed = 4},
                                       {.top_p = 0.7f, .seed = 5},
                                       {.temperature = 2, .top_k = 40, .top_p = 0.9f, .seed = uint64_t(6) << 33},
                                       {.temperature = 1e-30f, .top_p = 0.5f}};

template <class T>
class Sample : public KernelCase {
public:
    explicit Sample(const Shape& shape)
        : N(dim(shape, "N")),
          V(dim(shape, "V")),
          Vp((V + 127) / 128 * 128),
          options(kOptions[dim(shape, "options")]),
          logits_(values()),
          tokens_(N),
          weights_(size_t(N) * Vp) {
        bytes = double(N) * V * sizeof(T);
        std::vector<uint64_t> samples(N);
        std::vector<int> positions(N);
        for (int n = 0; n < N; ++n) {
            samples[n] = sample_number(n);
            positions[n] = position(n);
        }
        samples_ = on_device(samples);
        positions_ = on_device(positions);
    }
    void launch(cudaStream_t stream) override {
        sample(tokens_.get(), weights_.get(), logits_.get(), options, samples_.get(), positions_.get(), N, V, Vp,
               stream);
    }
    void check() override {
        Sampler sampler(options);
        tokens_.expect_sentinel("tokens");
        const std::vector<int> tokens = tokens_.raw();
        for (int n = 0; n < N; ++n) {
            const std::span<const float> row(logits_.values().data() + size_t(n) * Vp, V);
            if (position(n) < 0) continue;
            const int expected = n % 8 == 7 ? -1 : sampler.sample(row, sample_number(n), position(n) + 1);
            ASSERT_EQ(tokens[n], expected) << "row " << n;
        }
    }

private:
    static int position(int n) { return n % 8 == 5 ? -1 : 3 * n; }
    static uint64_t sample_number(int n) { return (uint64_t(n) << 32) + 17 * n; }
    // Rows of distinct logits, of many equal ones with both zeros, and with minus infinities. Every eighth has a NaN, a
    // plus infinity, or only minus infinities. The padding has the largest values.
    std::vector<float> values() const {
        std::vector<float> all = random_values(size_t(N) * Vp, 1, 6);
        for (int n = 0; n < N; ++n) {
            float* const row = all.data() + size_t(n) * Vp;
            for (int v = 0; v < Vp; ++v) {
                if (v >= V)
                    row[v] = 1000;
                else if (n % 8 == 7)
                    row[v] = n % 3 == 0 ? -kInfinity : v == V / 2 ? (n % 3 == 1 ? NAN : kInfinity) : 0;
                else if (n % 4 == 1)
                    row[v] = row[v] > 5 ? 0.0f : -0.0f;
                else if (n % 4 == 2 && V > 3)
                    row[v] = v % 3 == 0 ? -kInfinity : std::round(row[v]);
            }
        }
        return all;
    }
    const int N, V, Vp;
    const SamplerOptions options;
    Tensor<T> logits_;
    Tensor<int> tokens_;
    DeviceBuffer<uint64_t> weights_, samples_;
    DeviceBuffer<int> positions_;
};

Shape shape(int N, int V, int options) {
    return {{"N", N}, {"V", V}, {"options", options}};
}

}  // namespace

void add_sample_families(std::vector<KernelFamily>& families) {
    families.push_back({"argmax",
                        kAllElements,
                        {shape(1, 1, 0), shape(9, 37, 0), shape(3, 9001, 0)},
                        {shape(1, 151936, 0), shape(512, 50257, 0)},
                        make<Sample>});
    families.push_back(
        {"sample",
         kAllElements,
         {shape(1, 1, 1), shape(8, 37, 1), shape(3, 300, 2), shape(3, 300, 3), shape(3, 3001, 4), shape(3, 70, 5)},
         {shape(1, 151936, 1), shape(1, 151936, 4), shape(64, 50257, 3)},
         make<Sample>});
    // Ids of more than one digit of the radix selection.
    families.push_back({"sample_large", {Element::float32}, {shape(2, 140001, 3)}, {}, make<Sample>});
}

}  // namespace kiln::test
