#include "tools/train/advice.h"

#include "cpu_reference/interface/error.h"

namespace kiln {

namespace {

std::string counted(int64_t n, const char* what) {
    return concat(n, " ", what, n == 1 ? "" : "s");
}

}  // namespace

std::vector<std::string> warnings(const TrainPlan& plan, uint64_t sequences) {
    const TrainOptions& o = plan.options;
    const int64_t steps = total_steps(o, sequences), a_step = o.total_batch_tokens / o.T, data = int64_t(sequences);
    std::vector<std::string> all;
    if (a_step > data) {
        const bool accumulates = a_step > o.B;
        all.push_back(
            concat("a step takes ", counted(a_step, "sequence"), ", but the data has only ", data,
                   ", so a step repeats some of them; give ",
                   accumulates ? concat("--total-batch-size (-d) ", data * o.T) : concat("--batch-size (-b) ", data),
                   " or less"));
    }
    if (plan.checkpoint.empty() && o.max_steps < 0 && steps < kFewSteps) {
        all.push_back(concat("the run has only ", counted(steps, "step"), ": ", o.epochs, " times ",
                             counted(data, "sequence"), ", ", a_step,
                             " in a step; set more with --epochs or --max-steps (-x), or give a smaller batch"));
    }
    if (steps > 0 && o.warmup_steps >= steps) {
        all.push_back(concat("--warmup-steps (-u) ", o.warmup_steps, " is not below the ", counted(steps, "step"),
                             " of the run, so the schedule never begins; give -u ", steps / 10, " or less"));
    }
    return all;
}

}  // namespace kiln
