#pragma once
// The result of a step is read while the device computes the next step. This is possible where the device alone decides
// whether an update is applied (Engine::queue_update).
#include <optional>
#include <utility>

#include "cpu_reference/interface/engine.h"
#include "tools/train/step_report.h"

namespace kiln {

class RunAhead {
public:
    explicit RunAhead(Engine& engine) : engine_(engine) {}

    // Call it after queue_update, with the report of the step that was queued. Waits for the previous step and returns
    // that step's report with its results; nothing at the first call.
    std::optional<StepReport> push(const StepReport& report) { return take(std::exchange(queued_, report)); }
    // Waits for the last queued step, if there is one.
    std::optional<StepReport> settle() { return take(std::exchange(queued_, std::nullopt)); }

private:
    std::optional<StepReport> take(std::optional<StepReport> report) {
        if (!report) return report;
        const StepResult result = engine_.take_update();
        report->loss = result.loss.sum / double(result.loss.tokens);
        report->norm = result.norm;
        report->ms = 1e3 * result.seconds;
        return report;
    }

    Engine& engine_;
    std::optional<StepReport> queued_;
};

}  // namespace kiln
