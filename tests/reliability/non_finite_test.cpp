// NaN and infinity in the loss, in a gradient, in a weight and in one that no loss depends on, at the first step, in
// the middle and at the last one, under each --on-nonfinite. They never reach weights, moments, outlier windows or
// checkpoints, and are counted.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/reliability/series.h"
#include "tests/support/train_run.h"

namespace kiln {
namespace {

constexpr int kSteps = 6;
enum class Place { loss, gradient, weight, unused_weight };
constexpr size_t kUsed = 7, kUnused = 16 * 16 + 7;  // the data has 16 tokens, the model an embedding of 16 for more

// Puts a value into one step.
class SpoiledEngine : public EngineProxy {
public:
    SpoiledEngine(std::unique_ptr<Engine> real, Place place, float value, int step)
        : EngineProxy(std::move(real)), place_(place), value_(value), step_(step) {}
    void forward_backward(const Batch& batch, float grad_scale, uint64_t seed) override {
        const bool now = calls_++ == step_;
        if (now && place_ == Place::weight) write(Arena::params, kUsed, {&value_, 1});
        if (now && place_ == Place::unused_weight) write(Arena::params, kUnused, {&value_, 1});
        EngineProxy::forward_backward(batch, grad_scale, seed);
        if (now && place_ == Place::gradient) write(Arena::gradients, kUsed, {&value_, 1});
    }
    LossSum take_loss() override {
        LossSum loss = EngineProxy::take_loss();
        if (place_ == Place::loss && calls_ == step_ + 1) loss.sum = value_;
        return loss;
    }

private:
    const Place place_;
    const float value_;
    const int step_;
    int calls_ = 0;
};

bool all_finite(const Engine& engine) {
    std::vector<float> values(size_t(count_parameters(engine.config())));
    std::vector<Arena> arenas{Arena::params};
    for (const std::string_view state : optimizer_info(engine.optimizer()).states) arenas.push_back({state});
    for (const Arena& arena : arenas) {
        engine.read(arena, 0, values);
        for (const float value : values) {
            if (!std::isfinite(value)) return false;
        }
    }
    return true;
}

std::string try_to_spoil(const std::filesystem::path& data, Place place, float value, int step,
                         const std::string& policy) {
    const TempDirectory directory;
    TrainRun run(data, directory / "run");
    run.options.model += ",vocab=20,tied=0";
    run.options.max_steps = kSteps;
    run.options.checkpoint_every = 1;
    run.options.on_nonfinite = policy;
    const bool spoils_weights = place == Place::weight || place == Place::unused_weight;
    bool finite = true;
    SpoiledEngine* engine = nullptr;
    run.wrap = [&](std::unique_ptr<Engine> real) {
        auto spoiled = std::make_unique<SpoiledEngine>(std::move(real), place, value, step);
        engine = spoiled.get();
        return spoiled;
    };
    run.hooks.on_step = [&](const StepReport&) {
        // The weight that was spoiled stays so until a rollback.
        finite = finite && (spoils_weights || all_finite(*engine));
    };
    const std::string error = error_of([&] { run.run(); });
    if (!finite) return "it reached the weights or the moments";
    int skipped = 0;
    for (const StepReport& report : run.steps) skipped += !report.skipped.empty();
    if ((skipped < 1) != (place == Place::unused_weight)) return concat(skipped, " steps were skipped");

    // Nothing can be rolled back to before the first checkpoint, and a spoiled weight is not saved. A loss that is
    // not finite rolls back before the next save.
    const bool refused = place == Place::unused_weight || (place == Place::weight && policy != "rollback");
    const bool ends = policy == "stop" || (policy == "rollback" && step == 0) || refused;
    const auto newest = newest_checkpoint(directory / "run", nullptr);
    if (refused) {
        if (error.find("' holds ") == error.npos) return "the spoiled weights are not named: " + error;
        if ((newest ? newest->step : 0) != step) return "the checkpoint before is not the newest one";
    }
    if (ends != !error.empty()) return ends ? "the run goes on" : "the run ends: " + error;
    if (place == Place::unused_weight) return "";
    if (policy != "skip" && skipped != 1) return concat(skipped, " steps were skipped");
    if (refused) return "";
    if (place == Place::weight && !ends &&
        !std::ranges::all_of(run.weights, [](float w) { return std::isfinite(w); })) {
        return "rolling back kept the weight";
    }
    if (policy == "stop" && (!newest || newest->step != step + 1)) return "no checkpoint was written";
    if (ends) return "";
    if (run.progress.updates != kSteps - (policy == "skip" ? 1 : 0)) return concat(run.progress.updates, " updates");
    for (const OutlierWindow* window : {&run.progress.loss_window, &run.progress.norm_window}) {
        for (const double entry : window->values()) {
            if (!std::isfinite(entry)) return "it reached an outlier window";
        }
    }
    return "";
}

TEST(NonFinite, values_in_loss_gradient_and_weight_never_reach_what_is_kept) {
    const TempDirectory data;
    write_markov_shards(data.path(), 4000, 600);
    Series series("not finite");
    for (const Place place : {Place::loss, Place::gradient, Place::weight, Place::unused_weight}) {
        for (const float value : {NAN, HUGE_VALF, -HUGE_VALF}) {
            for (const int step : {0, kSteps / 2, kSteps - 1}) {
                for (const char* policy : {"skip", "stop", "rollback"}) {
                    series.add(concat("place ", int(place), ", ", value, ", step ", step, ", ", policy),
                               [&] { return try_to_spoil(data.path(), place, value, step, policy); });
                }
            }
        }
    }
}

}  // namespace
}  // namespace kiln
