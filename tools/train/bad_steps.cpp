#include "tools/train/bad_steps.h"

#include <algorithm>
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/train/trainer_state.h"

namespace kiln {

namespace {

// More failures in a row mean that the weights or the learning rate are wrong, not the data.
constexpr int kMaxRollbacks = 3;
constexpr int64_t kMaxNonfinite = 50;

}  // namespace

void BadSteps::judge(StepReport& report, TrainProgress& progress) const {
    report.loss_z = progress.loss_window.add(report.loss);
    report.norm_z = progress.norm_window.add(report.norm);
    // Comparisons with NaN, which z is until its window is full, are false.
    if (report.overflow_scale > 0) {
        report.skipped = concat("the gradient overflows; the loss scale is now ", report.overflow_scale);
    } else if (!report.is_finite()) {
        report.skipped = concat(std::isfinite(report.loss) ? "gradient" : "loss", " is not finite");
    } else if (options_.skip_loss_z > 0 && report.loss_z > options_.skip_loss_z) {
        report.skipped = concat("loss is an outlier, above z ", options_.skip_loss_z);
    } else if (options_.skip_norm_z > 0 && report.norm_z > options_.skip_norm_z) {
        report.skipped = concat("norm is an outlier, above z ", options_.skip_norm_z);
    }
}

BadSteps::Verdict BadSteps::after(const StepReport& report) {
    // In an overflow only the scaled gradient is too large. The next step has a lower scale.
    if (report.overflow_scale > 0 || report.is_finite()) {
        nonfinite_in_a_row_ = 0;
        return {};
    }
    nonfinite_in_a_row_++;
    const std::string what = concat("step ", report.step + 1, ": loss ", report.loss, ", gradient norm ", report.norm,
                                    ": not finite, so not applied");
    if (options_.on_nonfinite == "rollback") return {Action::roll_back, what};
    const bool told_to = options_.on_nonfinite == "stop";
    if (!told_to && nonfinite_in_a_row_ < kMaxNonfinite) return {Action::next_step, what};
    return {Action::stop,
            concat(what, told_to ? " (--on-nonfinite stop)" : concat(", ", nonfinite_in_a_row_, " times in a row"),
                   "; try a lower --learning-rate, a longer warm-up, or --on-nonfinite rollback")};
}

TrainProgress BadSteps::roll_back(const TrainProgress& failed, const std::filesystem::path& run, Engine& engine,
                                  const std::function<void(const std::string&)>& note) {
    failed_at_ = std::max(failed_at_, failed.step);
    KILN_CHECK(++rollbacks_ <= kMaxRollbacks, "step ", failed.step, ": not finite again after ", kMaxRollbacks,
               " rollbacks; resume with a lower --learning-rate");
    const LossScale scale = engine.loss_scale();
    TrainProgress progress;
    const auto newest = newest_checkpoint(run, note, [&](const CheckpointRef& checkpoint) {
        progress = load_trainer_state(checkpoint, engine).progress;
    });
    KILN_CHECK(newest, "--on-nonfinite rollback: ", run.string(),
               " holds no checkpoint yet; try a lower --learning-rate");
    if (engine.loss_scale().scale > scale.scale) engine.set_loss_scale(scale);  // it was lowered for a reason
    progress.position = failed.position;
    note(concat("rolled back to ", newest->directory.string()));
    return progress;
}

}  // namespace kiln
