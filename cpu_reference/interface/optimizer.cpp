#include "cpu_reference/interface/optimizer.h"

#include <algorithm>
#include <cmath>

#include "cpu_reference/interface/error.h"

namespace kiln {

const OptimizerInfo& optimizer_info(Optimizer optimizer) {
    using enum ParamGroup;
    static const OptimizerInfo adamw = {
        "adamw", {"moment1", "moment2"}, {embedding, matrix, vector, lm_head}, {"moment2"}};
    switch (optimizer) {
        case Optimizer::adamw: return adamw;
    }
    throw Error("no such optimizer");
}

bool updates(Optimizer optimizer, ParamGroup group) {
    return std::ranges::count(optimizer_info(optimizer).groups, group) > 0;
}

size_t state_index(Optimizer optimizer, std::string_view state) {
    const OptimizerInfo& info = optimizer_info(optimizer);
    const auto found = std::ranges::find(info.states, state);
    KILN_CHECK(found != info.states.end(), "engine: there is no arena '", state, "' with the optimizer ", info.name);
    return size_t(found - info.states.begin());
}

AdamWStepSize adamw_step_size(const OptimizerStep& step) {
    KILN_CHECK(step.t >= 1, "engine: AdamW step ", step.t, "; the first is 1");
    return {.lr = step.lr,
            .beta1 = step.beta1,
            .beta2 = step.beta2,
            .eps = step.eps,
            .weight_decay = step.weight_decay,
            .correction1 = float(1 - std::pow(double(step.beta1), double(step.t))),
            .correction2 = float(1 - std::pow(double(step.beta2), double(step.t)))};
}

}  // namespace kiln
