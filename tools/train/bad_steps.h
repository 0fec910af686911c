#pragma once
// Handles steps whose loss or gradient cannot be used. With --skip-loss-zscore or --skip-norm-zscore, the update of an
// outlier is skipped. A loss or gradient that is not finite is never applied; --on-nonfinite says what follows.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "cpu_reference/interface/engine.h"
#include "tools/train/options.h"
#include "tools/train/progress.h"
#include "tools/train/step_report.h"

namespace kiln {

class BadSteps {
public:
    explicit BadSteps(const TrainOptions& options) : options_(options) {}

    // Adds the step's loss and norm to the windows of `progress`, and fills in their z-scores and, if the update must
    // be skipped, the reason.
    void judge(StepReport& report, TrainProgress& progress) const;

    enum class Action : uint8_t { next_step, stop, roll_back };
    struct Verdict {
        Action action = Action::next_step;
        std::string message = {};  // set if the step was not finite
    };
    Verdict after(const StepReport& report);

    // Loads the newest checkpoint, but keeps the position in the data, since the same batch with the same weights would
    // fail again. `run`: where the run directory is now. Returns the new progress. Throws Error after too many
    // rollbacks.
    TrainProgress roll_back(const TrainProgress& failed, const std::filesystem::path& run, Engine& engine,
                            const std::function<void(const std::string&)>& note);
    // A checkpoint of `step` was written. If it is past the last failed step, rollbacks count from 0 again.
    void saved(int64_t step) {
        if (step > failed_at_) rollbacks_ = 0;
    }

private:
    const TrainOptions& options_;
    int64_t nonfinite_in_a_row_ = 0;
    int rollbacks_ = 0;
    int64_t failed_at_ = -1;  // the latest step that failed
};

}  // namespace kiln
