#pragma once
// Optimizers are rows of one table, with the states of each and the parameters that it updates.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace kiln {

enum class Optimizer : uint8_t { adamw };

// Every parameter is in one group (for_each_param decides). Weight decay applies to all groups but `vector`.
enum class ParamGroup : uint8_t { embedding, matrix, vector, lm_head };

struct OptimizerInfo {
    std::string_view name;
    std::vector<std::string_view> states;   // each has a value per parameter; a checkpoint stores "<state>.<parameter>"
    std::vector<ParamGroup> groups;         // that it updates; parameters of other groups are left alone
    std::vector<std::string_view> squares;  // the states that are never negative
};
const OptimizerInfo& optimizer_info(Optimizer optimizer);
bool updates(Optimizer optimizer, ParamGroup group);
// The number of the state within `states`. Throws Error if the optimizer has no state of this name.
size_t state_index(Optimizer optimizer, std::string_view state);

struct OptimizerStep {
    float lr, beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, weight_decay = 0.1f;
    float grad_scale = 1;  // every gradient is multiplied by it first (clipping)
    int64_t t = 1;         // 1 at the first update; bias correction
};

// The numbers of AdamW (arXiv:1711.05101), the same on every backend: m and v are moving averages of a
// gradient and its square, corrected for their start at 0; p -= lr * (m^ / (sqrt(v^) + eps) + weight_decay * p).
struct AdamWStepSize {
    float lr, beta1, beta2, eps, weight_decay, correction1, correction2;  // correction: 1 - beta^t
};
// Throws Error if step.t is below 1.
AdamWStepSize adamw_step_size(const OptimizerStep& step);

}  // namespace kiln
