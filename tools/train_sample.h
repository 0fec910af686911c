#pragma once
// Text from a model in training, to be looked at.
#include <functional>
#include <optional>
#include <string>

#include "cpu_reference/engine.h"
#include "tools/train_plan.h"

namespace kiln {

// The prompt and what the model makes of it, up to the end of the document, --sample-tokens or the context. Depends on
// the weights, the seed and `number` only, and changes nothing of the training. Nothing if a stop was requested.
std::optional<std::string> sample_text(const TrainPlan& plan, Engine& engine, uint64_t number,
                                       const std::function<bool()>& stop_requested);

}  // namespace kiln
