// The gradient of the whole model against finite differences, for each family.
#include <gtest/gtest.h>

#include <cmath>

#include "cpu_reference/interface/tensors.h"
#include "tests/support/tiny_models.h"

using namespace kiln;
using namespace kiln::testing;

namespace {

constexpr int kB = 3, kT = 7;

class DecoderGradient : public ::testing::TestWithParam<TinyModel> {};

double loss_at(Engine& engine, const std::vector<float>& params, const Batch& batch) {
    engine.write(Arena::params, 0, params);
    return engine.evaluate(batch).sum;
}

// d(loss)/dh at 0 along `direction`, by Richardson's extrapolation of two central differences: error O(h^4).
double derivative_along(Engine& engine, const std::vector<float>& params, const std::vector<double>& direction,
                        double h, const Batch& batch) {
    const auto central = [&](double step) {
        std::vector<float> up = params, down = params;
        for (size_t i = 0; i < params.size(); i++) {
            up[i] = float(params[i] + step * direction[i]);
            down[i] = float(params[i] - step * direction[i]);
        }
        return (loss_at(engine, up, batch) - loss_at(engine, down, batch)) / (2 * step);
    };
    return (4 * central(h) - central(2 * h)) / 3;
}

}  // namespace

TEST_P(DecoderGradient, every_tensor_matches_finite_differences) {
    const ModelConfig config = parse_model(GetParam().descriptor);
    const auto engine = make_engine(config, {.B = kB, .T = kT});
    randomise(*engine, 5);
    const TinyBatch data(kB, kT, config.V);
    const std::vector<float> params = read_all(*engine, Arena::params);
    engine->zero_gradients();
    engine->forward_backward(data.batch(), 1.0f, 0);
    const std::vector<float> gradients = read_all(*engine, Arena::gradients);

    for (const TensorSpec& spec : param_table(config)) {
        // Two random directions of length 1: a wrong element changes the derivative along at least one of them.
        for (uint32_t trial = 0; trial < 2; trial++) {
            std::vector<double> direction(params.size(), 0.0);
            double expected = 0, gradient_norm = 0;
            for (size_t i = 0; i < spec.elems(); i++) {
                const bool positive = philox4x32(3, uint32_t(i), trial, 0, 0).v[0] & 1;
                direction[spec.offset + i] = (positive ? 1 : -1) / std::sqrt(double(spec.elems()));
                expected += direction[spec.offset + i] * gradients[spec.offset + i];
                gradient_norm += std::pow(double(gradients[spec.offset + i]), 2);
            }
            gradient_norm = std::sqrt(gradient_norm);
            ASSERT_GT(gradient_norm, 0) << spec.name;
            const double h = 0.02;
            const double measured = derivative_along(*engine, params, direction, h, data.batch());
            // A loss of some 4 nats is rounded to 2^-22, through a chain of ~100 roundings; the sum of 21 of them
            // differs by 21 * 100 * 2^-24 * 4 / sqrt(100) ~ 5e-5 at most; over 2 h and Richardson's 5/3: 2e-3. And h^4
            // terms.
            EXPECT_NEAR(measured, expected, 2e-3 + 2e-3 * gradient_norm) << spec.name << ", direction " << trial;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Families, DecoderGradient, ::testing::ValuesIn(tiny_models()),
                         [](const auto& info) { return info.param.name; });
