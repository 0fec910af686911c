#pragma once
// The last lines of a run: what it reached, where it is, and what can be done next.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "tools/train/loss_curve.h"
#include "tools/train/plan.h"

namespace kiln {

struct RunSummary {
    int64_t step = 0, total_steps = 0;
    // Since this process started or resumed the run:
    int64_t steps = 0;
    double seconds = 0;               // from its first step to its end, with validations and checkpoints
    double tokens_per_second = 0;     // within the steps
    std::string validated_part = {};  // as in part_of_data()
    std::optional<LossPoint> best;    // the lowest validation loss of the whole run
};

// The programs as the user can start them: with "./" if this one was started as ./train_gpt2.
struct ProgramNames {
    std::string trainer, kiln;  // "./train_gpt2", "./kiln"
};

// `plan` is that of the run. Commands are only named if a checkpoint was written.
std::string summary_text(const RunSummary& summary, const TrainPlan& plan, const ProgramNames& names);

}  // namespace kiln
