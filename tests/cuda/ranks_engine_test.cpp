// The engine on several ranks, with each zero_stage, against one rank: norms, weights, optimizer state, memory.
#include <gtest/gtest.h>

#include <cmath>

#include "cuda/device/attributes.h"
#include "cuda/engine/cuda_engine.h"
#include "tests/cuda/ranks.h"
#include "tests/support/tiny_models.h"

namespace kiln::test {
namespace {

using testing::read_all;
using testing::TinyBatch;

constexpr int kB = 1, kT = 8, kSteps = 10, kMicroBatches = 2;

// The blocks of all but one share windows in stage 3.
constexpr const char* kModels[] = {
    "gpt2:layers=4,dim=24,heads=3,ctx=16,vocab=37,init_std=0.2",
    "llama:layers=3,dim=24,heads=2,kv_heads=1,ffn=24,ctx=16,vocab=37,init_std=0.2,tied=false",
    "qwen2:layers=1,dim=32,heads=4,kv_heads=2,ffn=40,ctx=16,vocab=37,init_std=0.2",
    "qwen3:layers=4,dim=24,heads=3,kv_heads=1,head_size=24,ffn=40,ctx=16,vocab=37,init_std=0.2",
};

struct Trained {
    std::vector<double> losses, norms;
    std::vector<float> weights, first_moment;
};

// `shares`: into how many micro-batches, one of each rank or one after the other, the sequences are divided that the
// ranks compute at the same time.
Trained train(const ModelConfig& config, EngineOptions options, int size, int shares, Communicator* ranks,
              int steps = kSteps) {
    const int rank = ranks ? ranks->rank() : 0, here = ranks ? 1 : shares;
    options.B = kB * size / shares;
    options.ranks = ranks ? size : 1;
    options.T = kT;
    options.matmul_candidates = 1;
    const auto engine = make_cuda_engine(config, options, ranks);
    testing::randomise(*engine, 5);
    Trained trained;
    for (int step = 0; step < steps; step++) {
        engine->zero_gradients();
        for (int micro = 0; micro < kMicroBatches; micro++) {
            for (int share = 0; share < here; share++) {
                const uint64_t first = uint64_t((step * kMicroBatches + micro) * size + (rank + share) * options.B);
                const TinyBatch data(options.B, kT, config.V, first);
                Batch batch = data.batch();
                batch.last = micro + 1 == kMicroBatches && share + 1 == here;
                engine->forward_backward(batch, 1.0f / (kMicroBatches * size * kT), 3);
            }
        }
        double loss = engine->take_loss().sum;
        if (ranks) ranks->all_reduce(&loss, 1);
        trained.losses.push_back(loss);
        trained.norms.push_back(engine->gradient_norm());
        engine->update({.lr = 1e-2f, .eps = 1e-4f, .weight_decay = 0.1f, .t = step + 1});
    }
    trained.weights = read_all(*engine, Arena::params);
    const Arena moment{optimizer_info(options.optimizer).states[0]};
    trained.first_moment = read_all(*engine, moment);
    // What each rank has, read by itself, is all of it together, and nothing twice.
    std::vector<float> parts(trained.first_moment.size());
    for (const ArenaStretch& own : engine->own_state()) {
        engine->read_own_state(moment, own.offset, std::span(parts).subspan(own.offset, own.elems));
    }
    if (engine->is_divided()) ranks->all_reduce(parts.data(), parts.size());
    KILN_CHECK(parts == trained.first_moment, "the parts of the ranks are not the state as a whole");
    return trained;
}

template <class T>
double largest_difference(const std::vector<T>& a, const std::vector<T>& b) {
    EXPECT_EQ(a.size(), b.size());
    double largest = 0;
    for (size_t i = 0; i < a.size(); i++) {
        EXPECT_TRUE(std::isfinite(a[i]) && std::isfinite(b[i])) << i;
        largest = std::max(largest, std::abs(double(a[i]) - double(b[i])));
    }
    return largest;
}

void expect_near(const Trained& whole, const Trained& cut, const Trained& ranks) {
    // Sums in another order: on one rank too, micro-batches change them. Each of the four ways to sum (in a matmul,
    // over micro-batches, over ranks, of squares) errs as much.
    constexpr double kWays = 4;
    const auto near = [&](const auto& of, const char* what) {
        double magnitude = 0;
        for (const auto x : of(whole)) magnitude = std::max(magnitude, std::abs(double(x)));
        const double tolerance = kWays * largest_difference(of(whole), of(cut)) + 1e-6 * magnitude;
        EXPECT_LE(largest_difference(of(cut), of(ranks)), tolerance) << what << ", of at most " << magnitude;
    };
    near([](const Trained& t) { return t.losses; }, "loss");
    near([](const Trained& t) { return t.norms; }, "norm");
    near([](const Trained& t) { return t.weights; }, "weight");
    near([](const Trained& t) { return t.first_moment; }, "first moment");
}

class RanksEngine : public ::testing::TestWithParam<std::tuple<const char*, Precision>> {
protected:
    const ModelConfig config_ = parse_model(std::get<0>(GetParam()));
    const Precision precision_ = std::get<1>(GetParam());
};

TEST_P(RanksEngine, every_stage_trains_as_one_rank_does) {
    // Three ranks divide no bucket.
    for (const int size : {2, 3}) {
        if (size == 3 && (config_.L != 3 || !is_emulated())) continue;
        expect_ranks(size, [&](Communicator& host) {
            // Asked here, because a process that has used CUDA cannot fork.
            if (precision_ == Precision::bfloat16 && compute_capability() < 80) return;
            const Trained whole = train(config_, {.precision = precision_}, size, 1, nullptr);
            const Trained cut = train(config_, {.precision = precision_}, size, size, nullptr);
            for (const int stage : {0, 1, 2, 3}) {
                SCOPED_TRACE(concat("stage ", stage));
                const Trained ranks = train(config_, {.precision = precision_, .zero_stage = stage}, size, size, &host);
                expect_near(whole, cut, ranks);
                std::vector<float> of_rank_0 = ranks.weights;
                host.broadcast(of_rank_0.data(), of_rank_0.size() * sizeof(float), 0);
                EXPECT_EQ(of_rank_0, ranks.weights) << "the ranks have other bits";
            }
        });
    }
}

// Whatever order the emulator's streams work in, as long as their events allow it.
TEST(RanksEngineSchedules, change_no_bit) {
    const ModelConfig config = parse_model(kModels[1]);
    expect_ranks(2, [&](Communicator& host) {
        for (const int stage : {0, 1, 2, 3}) {
            std::vector<float> first;
            for_each_schedule([&] {
                const Trained ranks = train(config, {.zero_stage = stage}, 2, 2, &host, 3);
                if (first.empty()) first = ranks.weights;
                EXPECT_EQ(ranks.weights, first) << "stage " << stage;
            });
        }
    });
}

// Each gradient is rounded when it is sent and when it is summed, by 2^-9 of it at most.
TEST(RanksEngineNarrowReduce, rounds_gradients_and_no_more) {
    const ModelConfig config = parse_model(kModels[0]);
    expect_ranks(2, [&](Communicator& host) {
        if (compute_capability() < 80) return;
        for (const int stage : {0, 1, 2, 3}) {
            const Precision precision = Precision::bfloat16;
            const Trained wide = train(config, {.precision = precision, .zero_stage = stage}, 2, 2, &host, 1);
            const Trained narrow =
                train(config, {.precision = precision, .zero_stage = stage, .narrow_reduce = true}, 2, 2, &host, 1);
            EXPECT_NE(narrow.norms, wide.norms) << "stage " << stage;
            EXPECT_NEAR(narrow.norms[0] / wide.norms[0], 1, std::ldexp(1, -8)) << "stage " << stage;
        }
    });
}

// Of the state in bytes for each parameter: bfloat16 weights 2, float32 gradients 4, master weights and moments 12.
TEST(RanksEngineMemory, falls_with_the_stage_as_the_formula_says) {
    const ModelConfig config = parse_model("gpt2:layers=8,dim=256,heads=4,ctx=16,vocab=128");
    const double n = double(count_parameters(config));
    // The first bucket stays whole, and so do windows for two of the eight blocks. The last bucket is small.
    const double embeddings = double(config.V + config.max_T) * config.C, windows = embeddings + (n - embeddings) / 4;
    for (const int size : {2, 4}) {
        expect_ranks(size, [&](Communicator& host) {
            if (compute_capability() < 80) return;
            for (const auto& [stage, bytes] : {std::pair{0, 18 * n},
                                               {1, 6 * n + 12 * n / size},
                                               {2, 2 * n + 4 * windows + 16 * n / size},
                                               {3, 6 * windows + 18 * n / size}}) {
                EngineOptions options{.B = 1, .T = 8, .precision = Precision::bfloat16, .matmul_candidates = 1};
                options.ranks = size;
                options.zero_stage = stage;
                double planned = 0, exchanged = 0;
                for (const MemoryItem& item : plan_cuda_memory(config, options)) {
                    const bool of_state = item.kind == "parameters" || item.kind == "master weights" ||
                                          item.kind == "gradients" || item.kind == "optimizer state";
                    if (of_state) planned += double(item.bytes);
                    if (item.kind == "exchanged buckets") exchanged += double(item.bytes);
                }
                EXPECT_NEAR(planned / bytes, 1, 0.01) << "stage " << stage;  // padding, final norm
                size_t before = 0, after = 0, total = 0;
                CUDA_CHECK(cudaMemGetInfo(&before, &total));
                const auto engine = make_cuda_engine(config, options, &host);
                CUDA_CHECK(cudaMemGetInfo(&after, &total));
                if (!is_emulated()) continue;  // other processes take memory there
                options.ranks = 1;
                const auto alone = make_cuda_engine(config, options);
                size_t with_one = 0;
                CUDA_CHECK(cudaMemGetInfo(&with_one, &total));
                const double saved = double(after - with_one) - double(before - after);
                EXPECT_NEAR(saved, 18 * n - bytes - exchanged, 0.01 * 18 * n) << "stage " << stage;
            }
        });
    }
}

TEST(RanksEngineTraffic, is_what_the_plan_says) {
    // One block has a window of its own; three do not.
    for (const char* model : {kModels[0], kModels[2]}) {
        const ModelConfig config = parse_model(model);
        expect_ranks(3, [&](Communicator& host) {
            for (const int stage : {0, 1, 2, 3}) {
                EngineOptions options{.B = 1, .T = kT, .precision = Precision::float16, .matmul_candidates = 1};
                options.ranks = 3;
                options.zero_stage = stage;
                options.graphs = false;  // whose launches are not counted
                const auto engine = make_cuda_engine(config, options, &host);
                engine->init_weights(5);
                const TinyBatch data(1, kT, config.V);
                uint64_t before = 0;
                for (int step = 0; step < 3; step++) {
                    before = engine->bytes_sent();
                    engine->zero_gradients();
                    for (int micro = 0; micro < 2; micro++) {
                        Batch batch = data.batch();
                        batch.last = micro == 1;
                        engine->forward_backward(batch, 1e-3f, 3);
                    }
                    engine->gradient_norm();
                    engine->update({.lr = 1e-3f, .t = step + 1});
                }
                // The last step sums one number more, that of the norm.
                EXPECT_NEAR(double(engine->bytes_sent() - before), double(plan_cuda_bytes_sent(config, options, 2)), 64)
                    << "stage " << stage << " of " << model;
            }
        });
    }
}

INSTANTIATE_TEST_SUITE_P(All, RanksEngine,
                         ::testing::Combine(::testing::ValuesIn(kModels),
                                            ::testing::Values(Precision::float32, Precision::bfloat16)));

}  // namespace
}  // namespace kiln::test
