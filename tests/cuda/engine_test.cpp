// The whole engine against the CPU engine: losses, every gradient, ten optimizer steps, generation. Also options that
// must not change a bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cpu_reference/cpu_engine.h"
#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/tensors.h"
#include "cuda/engine/cuda_engine.h"
#include "cuda/engine/engine_shape.h"
#include "tests/cuda/needs.h"
#include "tests/cuda/schedules.h"
#include "tests/support/tiny_models.h"

namespace kiln::testing {
namespace {

constexpr int kB = 2, kT = 11;

struct Param {
    TinyModel model;
    Precision precision;
};
std::string name_of(Precision precision) {
    return precision == Precision::float32 ? "float32" : precision == Precision::bfloat16 ? "bfloat16" : "float16";
}
std::vector<Param> params() {
    std::vector<Param> all;
    for (const TinyModel& model : tiny_cuda_models()) {
        for (const auto precision : {Precision::float32, Precision::bfloat16, Precision::float16}) {
            // In float32 the models for flash attention would test the plain one again. float16 has the shapes of
            // bfloat16, so one model of each attention will do.
            const bool repeats =
                precision == Precision::float32
                    ? model.name.ends_with("_flash")
                    : precision == Precision::float16 && model.name != "gpt2" && model.name != "gpt2_flash";
            if (!repeats) all.push_back({model, precision});
        }
    }
    return all;
}

// The types and both attentions, each model once in float32.
std::vector<Param> some_params() {
    std::vector<Param> some = params();
    std::erase_if(some, [](const Param& p) {
        const bool narrow = p.precision != Precision::float32;
        const bool chosen =
            (p.precision == Precision::bfloat16 && (p.model.name == "gpt2" || p.model.name == "qwen3_flash")) ||
            (p.precision == Precision::float16 && p.model.name == "gpt2_flash");
        return narrow && !chosen;
    });
    return some;
}

class CudaEngine : public ::testing::TestWithParam<Param> {
protected:
    void SetUp() override { KILN_SKIP_BELOW(GetParam().precision == Precision::bfloat16 ? 80 : 0); }

    const ModelConfig config_ = parse_model(GetParam().model.descriptor);
    EngineOptions options_{.B = kB, .T = kT, .precision = GetParam().precision, .matmul_candidates = 1};

    // Both engines get weights that the narrow type holds exactly, so that both compute with the same weights.
    std::unique_ptr<Engine> engine(const EngineOptions& options) const {
        return filled(make_cuda_engine(config_, options));
    }
    std::unique_ptr<Engine> reference() const {
        return filled(make_cpu_engine(config_, {.B = kB, .T = kT, .optimizer = options_.optimizer}));
    }
    std::unique_ptr<Engine> filled(std::unique_ptr<Engine> made) const {
        const auto source = make_cpu_engine(config_, {.B = 1, .T = 1, .training = false});
        randomise(*source, 5);
        std::vector<float> values = read_all(*source, Arena::params);
        for (float& x : values) x = rounded(x);
        made->write(Arena::params, 0, values);
        return made;
    }
    // A micro-batch of samples from `first` on.
    void forward_backward(Engine& e, uint64_t first, float grad_scale = 0.05f) const {
        e.forward_backward(TinyBatch(kB, kT, config_.V, first).batch(), grad_scale, 3);
    }
    size_t planned_bytes(const EngineOptions& options, const std::string& kind = "") const {
        size_t bytes = 0;
        for (const MemoryItem& item : plan_cuda_memory(config_, options)) {
            if (kind.empty() || item.kind == kind) bytes += item.bytes;
        }
        return bytes;
    }
    int mantissa_bits() const {
        return options_.precision == Precision::float32 ? 23 : options_.precision == Precision::bfloat16 ? 7 : 10;
    }
    float rounded(float x) const {
        if (options_.precision == Precision::float32 || x == 0) return x;
        int exponent;
        const float m = std::ldexp(std::frexp(x, &exponent), mantissa_bits() + 1);
        return std::ldexp(std::nearbyint(m), exponent - mantissa_bits() - 1);
    }
    // The tolerance of a tensor after `roundings` roundings of whole tensors, each by at most half a unit in the last
    // place. The squares of independent errors add up. A naive run in this precision has all of these errors, and twice
    // its error is allowed.
    double tolerance(double roundings) const {
        return 2 * std::sqrt(roundings) * std::ldexp(1.0, -mantissa_bits() - 1);
    }
    // Of a forward and backward pass: one for each tensor; in float32 also those within its sums.
    double roundings() const {
        const int terms = std::max({config_.C, config_.F, config_.V, kB * kT});
        return (6.0 + 20.0 * config_.L) * (options_.precision == Precision::float32 ? terms : 1);
    }
};
// Compares two runs of the device's engine, bit by bit: which kernels compute does not matter much, only who calls
// them.
class CudaEngineBits : public CudaEngine {};

double norm(const float* x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += double(x[i]) * x[i];
    return std::sqrt(sum);
}

// Each tensor's error relative to its norm, in the L2 norm.
void expect_close(const Engine& a, const Engine& b, Arena arena, double tolerance) {
    const ModelConfig& c = a.config();
    std::vector<float> x = read_all(a, arena), y = read_all(b, arena);
    const double all = norm(y.data(), y.size());
    for (const TensorSpec& spec : param_table(c)) {
        // The bias of a key moves all scores of a query by the same amount. So its gradient is only rounding error,
        // which AdamW scales up to the size of other gradients.
        if (spec.name.ends_with("qkv_b")) std::fill_n(&x[spec.offset + c.NH * c.HS], c.NKV * c.HS, 0.0f);
        if (spec.name.ends_with("qkv_b")) std::fill_n(&y[spec.offset + c.NH * c.HS], c.NKV * c.HS, 0.0f);
        std::vector<float> difference(spec.elems());
        for (size_t i = 0; i < spec.elems(); i++) difference[i] = x[spec.offset + i] - y[spec.offset + i];
        const double error = norm(difference.data(), spec.elems()), scale = norm(&y[spec.offset], spec.elems());
        EXPECT_LE(error, tolerance * std::max(scale, 0.01 * all)) << spec.name << ": " << error / scale;
    }
}

}  // namespace

TEST_P(CudaEngine, losses_match_reference) {
    const auto a = engine(options_), b = reference();
    const TinyBatch data(kB, kT, config_.V);
    std::vector<float> x(kB * kT), y(kB * kT);
    const LossSum p = a->evaluate(data.batch(), x.data()), q = b->evaluate(data.batch(), y.data());
    EXPECT_EQ(p.tokens, q.tokens);
    EXPECT_NEAR(p.sum, q.sum, tolerance(roundings() / 2) * q.sum);
    // The error of a loss is that of its logits, which are about as large as the losses.
    for (size_t i = 0; i < x.size(); i++) {
        EXPECT_NEAR(x[i], y[i], tolerance(roundings() / 2) * std::max(y[i], 4.0f)) << i;
        if (data.targets[i] < 0) {
            EXPECT_EQ(x[i], 0);
        }
    }
}

// Two accumulated micro-batches. The gradients of an earlier one were cleared by zero_gradients.
TEST_P(CudaEngine, gradients_match_reference) {
    const auto a = engine(options_), b = reference();
    for (Engine* e : {a.get(), b.get()}) {
        forward_backward(*e, 20, 1.0f);
        e->take_loss();
        e->zero_gradients();
        forward_backward(*e, 0);
        forward_backward(*e, kB);
    }
    const LossSum p = a->take_loss(), q = b->take_loss();
    EXPECT_EQ(p.tokens, q.tokens);
    EXPECT_NEAR(p.sum, q.sum, tolerance(roundings() / 2) * q.sum);
    EXPECT_EQ(a->take_loss().tokens, 0);
    expect_close(*a, *b, Arena::gradients, tolerance(roundings()));
    EXPECT_NEAR(a->gradient_norm(), b->gradient_norm(), tolerance(roundings()) * b->gradient_norm());
}

TEST_P(CudaEngine, ten_steps_match_reference) {
    const auto a = engine(options_), b = reference();
    for (int step = 0; step < 10; step++) {
        LossSum loss[2];
        double norms[2];
        for (const int i : {0, 1}) {
            Engine& e = i == 0 ? *a : *b;
            e.zero_gradients();
            forward_backward(e, step % 3 * kB, 1.0f / (kB * kT));
            loss[i] = e.take_loss();
            norms[i] = e.gradient_norm();
            e.update({.lr = 1e-3f, .grad_scale = 0.5f, .t = step + 1});
        }
        // Each step adds its own rounding errors to those of the steps before.
        EXPECT_NEAR(loss[0].sum, loss[1].sum, tolerance(roundings() * (step + 1)) * loss[1].sum) << step;
        EXPECT_NEAR(norms[0], norms[1], tolerance(roundings() * (step + 1)) * norms[1]) << step;
    }
    expect_close(*a, *b, Arena::params, tolerance(roundings() * 10));
    expect_close(*a, *b, Arena{"moment1"}, tolerance(roundings() * 10));
}

// Queued updates give the same bits as updates that the host waits for. A step that is not finite changes nothing.
TEST_P(CudaEngineBits, queued_updates_equal_updates_with_a_wait) {
    if (options_.precision == Precision::float16) {
        EXPECT_FALSE(engine(options_)->can_queue_updates());
        return;
    }
    const auto a = engine(options_), b = engine(options_);
    std::vector<double> losses[2];
    const auto take = [&] {
        const StepResult result = a->take_update();
        losses[0].insert(losses[0].end(), {result.loss.sum, double(result.loss.tokens), result.norm});
    };
    for (int step = 0; step < 4; step++) {
        const OptimizerStep adamw{.lr = 1e-3f, .t = step + 1};
        for (Engine* e : {a.get(), b.get()}) {
            e->zero_gradients();
            for (const int first : {step, step + 7}) forward_backward(*e, first);
            if (step == 2) e->write(Arena::gradients, 5, std::vector<float>{INFINITY});
        }
        a->queue_update(adamw, 0);
        if (step > 0) take();
        const LossSum loss = b->take_loss();
        const double norm = b->gradient_norm();
        losses[1].insert(losses[1].end(), {loss.sum, double(loss.tokens), norm});
        if (std::isfinite(norm)) b->update(adamw);
    }
    take();
    EXPECT_EQ(losses[0], losses[1]);
    EXPECT_EQ(read_all(*a, Arena::params), read_all(*b, Arena::params));
    EXPECT_THROW(a->take_update(), Error);
    // Clipping on the device equals clipping on the host, except for the last bit of the factor.
    for (Engine* e : {a.get(), b.get()}) {
        e->zero_gradients();
        forward_backward(*e, 9);
    }
    const float norm = float(b->gradient_norm());
    a->queue_update({.lr = 1e-2f, .t = 9}, norm / 3);
    b->update({.lr = 1e-2f, .grad_scale = 1 / 3.0f, .t = 9});
    expect_close(*a, *b, Arena{"moment1"}, 1e-6);
}

// One batch of four sequences equals four micro-batches of one, with the same dropout masks. The order of sums differs,
// also within the matmuls: cuBLASLt takes other algorithms for other numbers of rows.
TEST_P(CudaEngine, micro_batches_accumulate_to_the_whole_batch) {
    ModelConfig config = config_;
    config.dropout_embedding = 0.1f, config.dropout_residual = 0.2f, config.dropout_attention = 0.3f;
    EngineOptions whole = options_, part = options_;
    whole.B = 4, part.B = 1;
    const auto a = filled(make_cuda_engine(config, whole)), b = filled(make_cuda_engine(config, part));
    a->forward_backward(TinyBatch(4, kT, config.V, 10).batch(), 1e-3f, 3);
    for (uint64_t i = 0; i < 4; i++) b->forward_backward(TinyBatch(1, kT, config.V, 10 + i).batch(), 1e-3f, 3);
    const LossSum p = a->take_loss(), q = b->take_loss();
    EXPECT_EQ(p.tokens, q.tokens);
    EXPECT_NEAR(p.sum, q.sum, tolerance(roundings() / 2) * p.sum);
    expect_close(*a, *b, Arena::gradients, tolerance(roundings()));
}

// Threads and the two streams may run in any order that the program allows.
TEST_P(CudaEngineBits, schedules_change_no_bit) {
    std::vector<float> first;
    test::for_each_schedule([&] {
        const auto e = engine(options_);
        for (int step = 0; step < 2; step++) {
            e->zero_gradients();
            for (int micro = 0; micro < 3; micro++) forward_backward(*e, 3 * step + micro, 1e-3f);
            e->update({.lr = 1e-2f, .t = step + 1});
        }
        const std::vector<float> params = read_all(*e, Arena::params);
        if (first.empty()) first = params;
        EXPECT_EQ(params, first);
    });
}

// Generation between two steps may need a longer RoPE table than training: captured steps must not keep the old table.
TEST_P(CudaEngineBits, generation_between_steps_changes_nothing) {
    EngineOptions options = options_;
    options.T = 5;
    const auto a = engine(options), b = engine(options);
    for (Engine* e : {a.get(), b.get()}) {
        for (int step = 0; step < 8; step++) {
            e->zero_gradients();
            e->forward_backward(TinyBatch(kB, 5, config_.V, step).batch(), 1e-3f, 3);
            if (step != 4 || e == b.get()) continue;
            e->open_cache(1, config_.max_T);
            std::vector<float> logits(config_.V);
            e->prefill(0, std::vector<int>{1, 2, 3, 4, 5, 6, 7, 8}, logits.data());
            e->open_cache(0, 0);
        }
    }
    EXPECT_EQ(a->take_loss().sum, b->take_loss().sum);
    EXPECT_EQ(read_all(*a, Arena::gradients), read_all(*b, Arena::gradients));
}

// A captured micro-step makes the same calls with the same addresses.
TEST_P(CudaEngineBits, graphs_change_no_bit) {
    EngineOptions options = options_;
    options.graphs = false;
    const auto a = engine(options_), b = engine(options);
    for (Engine* e : {a.get(), b.get()}) {
        for (int step = 0; step < 4; step++) {
            e->zero_gradients();
            for (int micro = 0; micro < 3; micro++) forward_backward(*e, 3 * step + micro);
            if (std::isfinite(e->gradient_norm())) e->update({.lr = 1e-2f, .t = step + 1});
        }
    }
    EXPECT_EQ(a->take_loss().sum, b->take_loss().sum);
    EXPECT_EQ(read_all(*a, Arena::gradients), read_all(*b, Arena::gradients));
    EXPECT_EQ(read_all(*a, Arena::params), read_all(*b, Arena::params));
}

// What the backward pass computes again has the same bits as before, also GELU that a matmul applies to its sums.
TEST_P(CudaEngineBits, recompute_changes_no_bit) {
    const int most_fused = GetParam().model.name.starts_with("gpt2") ? 2 : 0;
    for (int fused = 0; fused <= most_fused; fused++) {
        std::vector<std::vector<float>> gradients;
        size_t least = SIZE_MAX;
        for (const int recompute : {0, 1, 2, 3}) {
            EngineOptions options = options_;
            options.recompute = recompute;
            options.fused_gelu = fused;
            const size_t bytes = planned_bytes(options);
            EXPECT_TRUE(bytes < least || config_.L == 1) << "level " << recompute << " saves nothing";
            least = bytes;
            const auto e = engine(options);
            forward_backward(*e, 0);
            gradients.push_back(read_all(*e, Arena::gradients));
            EXPECT_EQ(gradients.back(), gradients.front()) << "level " << recompute << ", fused GELU " << fused;
        }
    }
}

// The LM head's matmul of fewer rows may add in another order, so each logit may be rounded differently. Its gradient
// is a sum over the chunks, so it is rounded once more for each chunk.
TEST_P(CudaEngine, lm_head_chunks_change_only_roundings) {
    const auto whole = engine(options_);
    EngineOptions options = options_;
    options.lm_head_chunks = 5;  // of 22 rows: 5, 5, 5, 5, 2
    const auto chunked = engine(options);
    const TinyBatch data(kB, kT, config_.V);
    std::vector<float> x(kB * kT), y(kB * kT);
    whole->evaluate(data.batch(), x.data());
    chunked->evaluate(data.batch(), y.data());
    const double one_matmul = tolerance(options_.precision == Precision::float32 ? config_.C : 1);
    for (size_t i = 0; i < x.size(); i++) EXPECT_NEAR(x[i], y[i], one_matmul * std::max(x[i], 4.0f)) << i;
    for (Engine* e : {whole.get(), chunked.get()}) e->forward_backward(data.batch(), 0.05f, 3);
    expect_close(*chunked, *whole, Arena::gradients, tolerance(roundings()));
}

// When the number of chunks does not change how many rows a matmul takes, not even the gradient of the LM head changes.
TEST_P(CudaEngineBits, fixed_lm_head_chunks_change_no_bit) {
    std::vector<float> first;
    size_t least = SIZE_MAX;
    for (const int chunks : {0, 3, 5, 100}) {  // 22 rows, 2 for each matmul: 22; 6, 6, 6, 4; 4, 4, 4, 4, 4, 2; 2, 2, ..
        EngineOptions options = options_;
        options.fixed_lm_head_chunks = true;
        options.lm_head_chunks = chunks;
        const size_t bytes = planned_bytes(options, "logits");
        EXPECT_LT(bytes, least) << chunks;
        least = bytes;
        const auto e = engine(options);
        for (int micro = 0; micro < 2; micro++) forward_backward(*e, micro);
        std::vector<float> gradients = read_all(*e, Arena::gradients);
        gradients.push_back(float(e->take_loss().sum));
        if (first.empty()) first = gradients;
        EXPECT_EQ(gradients, first) << chunks << " chunks";
    }
}

// Without master weights a step rounds stochastically, but in the same way each time.
TEST_P(CudaEngineBits, steps_without_master_weights_repeat) {
    EngineOptions options = options_;
    options.master_weights = false;
    options.narrow_gradients = options.narrow_moments = options_.precision != Precision::float32;
    std::vector<float> first;
    for (int run = 0; run < 2; run++) {
        const auto e = engine(options);
        for (int step = 0; step < 3; step++) {
            do {  // float16 repeats until the loss scale is low enough
                e->zero_gradients();
                forward_backward(*e, step);
            } while (!std::isfinite(e->gradient_norm()));
            e->update({.lr = 1e-2f, .t = step + 1});
        }
        const std::vector<float> params = read_all(*e, Arena::params);
        if (run > 0) {
            EXPECT_EQ(params, first);
        }
        first = params;
        for (const float x : params) ASSERT_EQ(x, rounded(x));
        EXPECT_NE(params, read_all(*engine(options), Arena::params));
    }
}

// A cache that is filled in several calls, and slots that are decoded together, give the probabilities of evaluate.
TEST_P(CudaEngine, cached_generation_matches_evaluation) {
    const int B = 3, T = 12, V = config_.V;
    EngineOptions options = options_;
    options.B = B, options.T = T, options.training = false;
    const auto e = engine(options);
    TinyBatch data(B, T, V);
    for (int b = 0; b < B; b++) {
        for (int t = 0; t < T; t++) data.targets[b * T + t] = t + 1 < T ? data.tokens[b * T + t + 1] : -1;
    }
    std::vector<float> losses(B * T), logits(size_t(B) * V);
    e->evaluate(data.batch(), losses.data());
    const auto expect_next = [&](int b, int t, const float* row) {
        double sum = 0;
        for (int v = 0; v < V; v++) sum += std::exp(double(row[v]));
        const double loss = std::log(sum) - row[data.targets[b * T + t]];
        EXPECT_NEAR(loss, losses[b * T + t], tolerance(roundings() / 2) * std::max(loss, 4.0)) << b << ", " << t;
    };
    e->open_cache(B, T);
    e->prefill(0, {&data.tokens[0], 5}, logits.data());
    e->clear_slot(0);  // the five tokens are forgotten
    for (int b = 0; b < B; b++) {
        e->prefill(b, {&data.tokens[b * T], size_t(b + 1)}, logits.data());
        expect_next(b, b, logits.data());
        e->prefill(b, {&data.tokens[b * T + b + 1], 2}, logits.data());
        expect_next(b, b + 2, logits.data());
    }
    for (int step = 0; step < 5; step++) {
        const std::vector<int> slots = step % 2 == 0 ? std::vector<int>{2, 0, 1} : std::vector<int>{1};
        std::vector<int> tokens, at;
        for (const int b : slots) {
            at.push_back(e->slot_length(b));
            tokens.push_back(data.tokens[b * T + at.back()]);
        }
        e->decode(slots, tokens, logits.data());
        for (size_t i = 0; i < slots.size(); i++) expect_next(slots[i], at[i], &logits[i * V]);
    }
    EXPECT_THROW(e->decode(std::vector<int>{1, 1}, std::vector<int>{0, 0}, logits.data()), Error);
    EXPECT_THROW(e->prefill(0, std::vector<int>(T, 1), logits.data()), Error);
}

// The dropout masks depend on the sample's number, as those of the CPU engine do.
TEST_P(CudaEngine, dropout_matches_reference) {
    ModelConfig config = config_;
    config.dropout_embedding = 0.1f, config.dropout_residual = 0.2f, config.dropout_attention = 0.3f;
    const auto a = filled(make_cuda_engine(config, options_)), b = filled(make_cpu_engine(config, {.B = kB, .T = kT}));
    for (Engine* e : {a.get(), b.get()}) e->forward_backward(TinyBatch(kB, kT, config.V, 7).batch(), 0.05f, 9);
    EXPECT_NEAR(a->take_loss().sum, b->take_loss().sum, tolerance(roundings() / 2) * kB * kT * 4);
    expect_close(*a, *b, Arena::gradients, tolerance(roundings()));
}

// All matmuls of the LM head take the same rows, whole tiles, so they share their plans.
TEST(DeviceShape, chunks_of_the_lm_head_are_equal_and_of_whole_tiles) {
    const auto rows = [](int B, int T, int chunks) {
        const EngineOptions options{.B = B, .T = T, .precision = Precision::bfloat16, .lm_head_chunks = chunks};
        return device_shape(parse_model("gpt2"), options).lm_head_rows;
    };
    EXPECT_EQ(rows(64, 1024, 0), 8192);   // 1 GiB would allow 7 chunks of 9363
    EXPECT_EQ(rows(64, 1024, 3), 16384);  // 3 chunks would not be equal
    EXPECT_EQ(rows(64, 1000, 0), 6400);
    EXPECT_EQ(rows(61, 1021, 0), 10240);  // no equal chunks; the last is smaller
    EXPECT_EQ(rows(1, 300, 0), 300);
    EXPECT_EQ(rows(2, 11, 5), 5);
}

std::string name_of_test(const ::testing::TestParamInfo<Param>& p) {
    return p.param.model.name + "_" + name_of(p.param.precision);
}
INSTANTIATE_TEST_SUITE_P(All, CudaEngine, ::testing::ValuesIn(params()), name_of_test);
INSTANTIATE_TEST_SUITE_P(All, CudaEngineBits, ::testing::ValuesIn(some_params()), name_of_test);

}  // namespace kiln::testing
