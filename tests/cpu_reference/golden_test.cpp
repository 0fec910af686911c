// The engine against PyTorch: dev/fixtures/make_golden.py stored the results of transformers in float64 for tiny
// models. The tests import the weights as a user does, so they also test names, transposes and config.json.
//
// Relative error of a vector: |a - b| / |b| in the 2-norm; of a scalar: |a - b| / |b|. The vectors are the logits of
// one position and the gradient of one tensor of the file. The project promises 1e-5 for logits and
// losses and 1e-4 for gradients; transformers in float32 reaches 6e-7, 4e-6 (losses of ten steps) and 2e-6.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "cpu_reference/interface/rope_table.h"
#include "cpu_reference/interface/tensors.h"
#include "tools/formats/huggingface.h"
#include "tools/formats/safetensors.h"

namespace kiln {
namespace {

constexpr double kLogitTolerance = 1e-5, kLossTolerance = 1e-5, kGradientTolerance = 1e-4;

const std::filesystem::path kGolden = std::filesystem::path(__FILE__).parent_path().parent_path() / "fixtures/golden";

nlohmann::json read_json(const std::filesystem::path& path) {
    std::ifstream file(path);
    return nlohmann::json::parse(file);
}

std::vector<float> read_tensor(const SafetensorsFile& file, const std::string& name) {
    const StoredTensor* tensor = file.find(name);
    if (!tensor) throw std::runtime_error(file.path().string() + " has no tensor " + name);
    std::vector<float> values(tensor->elems());
    file.read(*tensor, 0, values);
    return values;
}

double relative_error(double value, double reference) {
    return std::abs(value - reference) / std::abs(reference);
}

double relative_error(std::span<const float> values, std::span<const float> reference) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < reference.size(); i++) {
        const double d = double(values[i]) - reference[i];
        difference += d * d;
        size += double(reference[i]) * reference[i];
    }
    return std::sqrt(difference / size);
}

// One case of the fixtures: the model, its batches, and the reference.
class Golden : public testing::TestWithParam<const char*> {
protected:
    Golden()
        : directory_(kGolden / GetParam()),
          expected_(read_json(directory_ / "expected.json")),
          tensors_(directory_ / "expected.safetensors"),
          B_(expected_["B"]),
          T_(expected_["T"]),
          tokens_(expected_["tokens"].get<std::vector<int>>()),
          targets_(expected_["targets"].get<std::vector<int>>()) {
        const nlohmann::json config = read_json(directory_ / "config.json");
        model_type_ = config["model_type"];
        engine_ = make_engine(parse_hf_config(config, "config.json"), {.B = B_, .T = T_});
        engine_->init_weights(1);  // other weights, so that the test sees one that is not read
        read_hf_weights(ModelTensors(directory_), model_type_, *engine_);
    }

    Batch batch(int step) const {
        const size_t first = size_t(step) * B_ * T_;
        return {.tokens = &tokens_[first], .targets = &targets_[first]};
    }

    int64_t counted(int step) const {
        int64_t n = 0;
        for (int i = 0; i < B_ * T_; i++) n += batch(step).targets[i] >= 0;
        return n;
    }

    // Gradients of the mean loss of a step's batch; returns that loss.
    double mean_loss_and_gradients(int step) {
        engine_->zero_gradients();
        engine_->forward_backward(batch(step), 1.0f / float(counted(step)), 0);
        const LossSum loss = engine_->take_loss();
        EXPECT_EQ(loss.tokens, counted(step));
        return loss.sum / double(loss.tokens);
    }

    std::span<const float> expected_logits(const std::vector<float>& logits, int b, int t) const {
        const size_t V = engine_->config().V;
        return std::span(logits).subspan((size_t(b) * T_ + t) * V, V);
    }

    std::filesystem::path directory_;
    nlohmann::json expected_;
    SafetensorsFile tensors_;
    int B_, T_;
    std::vector<int> tokens_, targets_;  // (steps, B, T)
    std::string model_type_;
    std::unique_ptr<Engine> engine_;
};

TEST_P(Golden, logits_of_whole_prompts_match_pytorch) {
    const std::vector<float> reference = read_tensor(tensors_, "logits");
    std::vector<float> logits(engine_->config().V);
    engine_->open_cache(1, T_);
    for (int b = 0; b < B_; b++) {
        for (int t = 0; t < T_; t++) {
            engine_->clear_slot(0);
            engine_->prefill(0, std::span(tokens_).subspan(size_t(b) * T_, t + 1), logits.data());
            EXPECT_LE(relative_error(logits, expected_logits(reference, b, t)), kLogitTolerance)
                << "row " << b << ", " << t;
        }
    }
}

TEST_P(Golden, logits_token_by_token_match_pytorch) {
    const int V = engine_->config().V;
    const std::vector<float> reference = read_tensor(tensors_, "logits");
    std::vector<float> logits(size_t(B_) * V);
    std::vector<int> slots(B_), next(B_);
    engine_->open_cache(B_, T_);
    for (int b = 0; b < B_; b++) slots[b] = b;
    for (int t = 0; t < T_; t++) {
        for (int b = 0; b < B_; b++) next[b] = tokens_[size_t(b) * T_ + t];
        engine_->decode(slots, next, logits.data());
        for (int b = 0; b < B_; b++) {
            const auto row = std::span(logits).subspan(size_t(b) * V, V);
            EXPECT_LE(relative_error(row, expected_logits(reference, b, t)), kLogitTolerance)
                << "row " << b << ", " << t;
        }
    }
}

TEST_P(Golden, losses_match_pytorch) {
    const std::vector<float> reference = read_tensor(tensors_, "losses");
    std::vector<float> losses(reference.size());
    const LossSum loss = engine_->evaluate(batch(0), losses.data());
    EXPECT_LE(relative_error(loss.sum / double(loss.tokens), expected_["loss"]), kLossTolerance);
    EXPECT_LE(relative_error(losses, reference), kLossTolerance);
    for (size_t i = 0; i < reference.size(); i++) {
        EXPECT_TRUE(targets_[i] >= 0 || losses[i] == 0) << "ignored target " << i << " has loss " << losses[i];
    }
    EXPECT_LE(relative_error(mean_loss_and_gradients(0), expected_["loss"]), kLossTolerance);
}

TEST_P(Golden, every_gradient_matches_pytorch) {
    mean_loss_and_gradients(0);
    EXPECT_LE(relative_error(engine_->gradient_norm(), expected_["gradient_norms"][0]), kGradientTolerance);
    const SafetensorsFile file(directory_ / "gradients.safetensors");
    const std::vector<HfTensor> tensors = hf_tensors(engine_->config(), model_type_);
    EXPECT_EQ(tensors.size(), file.tensors().size());
    for (const HfTensor& tensor : tensors) {
        const std::vector<float> stored = read_tensor(file, tensor.name);
        std::vector<float> gradient(stored.size()), reference(stored);
        ASSERT_EQ(stored.size(), tensor.rows * tensor.cols) << tensor.name;
        engine_->read(Arena::gradients, tensor.offset, gradient);
        if (tensor.transposed) {
            for (size_t r = 0; r < tensor.rows; r++) {
                for (size_t c = 0; c < tensor.cols; c++) reference[r * tensor.cols + c] = stored[c * tensor.rows + r];
            }
        }
        EXPECT_LE(relative_error(gradient, reference), kGradientTolerance) << tensor.name;
    }
}

TEST_P(Golden, ten_adamw_steps_match_pytorch) {
    const nlohmann::json& adamw = expected_["adamw"];
    const std::vector<double> losses = expected_["step_losses"], norms = expected_["gradient_norms"];
    ASSERT_EQ(losses.size(), 10u);
    for (int step = 0; step < int(losses.size()); step++) {
        EXPECT_LE(relative_error(mean_loss_and_gradients(step), losses[step]), kLossTolerance) << "step " << step;
        const double norm = engine_->gradient_norm(), max_norm = adamw["max_norm"];
        EXPECT_LE(relative_error(norm, norms[step]), kGradientTolerance) << "step " << step;
        engine_->update({.lr = adamw["lr"],
                         .beta1 = adamw["beta1"],
                         .beta2 = adamw["beta2"],
                         .eps = adamw["eps"],
                         .weight_decay = adamw["weight_decay"],
                         .grad_scale = norm > max_norm ? float(max_norm / norm) : 1.0f,
                         .t = step + 1});
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Golden,
                         testing::Values("gpt2", "gpt2_untied", "llama2", "llama3", "llama3_long", "qwen2",
                                         "qwen2_untied", "qwen3", "qwen3_untied", "llama_linear", "llama_yarn"),
                         [](const auto& info) { return std::string(info.param); });

// Also after config.json was written and read again.
TEST(GoldenRope, frequencies_match_transformers) {
    // The table's row 1 has cos and sin of each frequency, rounded to float32 as the numbers of the config are.
    constexpr double kTolerance = 2.5e-7;  // 2^-22
    const nlohmann::json cases = read_json(kGolden.parent_path() / "rope_frequencies.json");
    EXPECT_EQ(cases.size(), 25u);
    for (const nlohmann::json& expected : cases) {
        const ModelConfig read = parse_hf_config(expected["config"], "config.json");
        const ModelConfig config = parse_hf_config(hf_config(read, nullptr), "written config.json");
        EXPECT_TRUE(config == read);
        const std::vector<float> table = rope_table(config, 2);
        const std::vector<double> frequencies = expected["frequencies"];
        ASSERT_EQ(frequencies.size(), size_t(config.HS) / 2);
        for (size_t i = 0; i < frequencies.size(); i++) {
            const double cosine = table[config.HS + 2 * i], sine = table[config.HS + 2 * i + 1];
            EXPECT_LE(relative_error(std::atan2(sine, cosine), frequencies[i]), kTolerance) << expected["config"] << i;
            EXPECT_LE(relative_error(std::hypot(sine, cosine), expected["attention_factor"]), kTolerance)
                << expected["config"];
        }
    }
}

}  // namespace
}  // namespace kiln
