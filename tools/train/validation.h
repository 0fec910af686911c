#pragma once
// The validation set of a run, and the loss on it.
#include <functional>
#include <optional>
#include <vector>

#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/engine.h"
#include "tokenizer/data/dataloader.h"
#include "tools/train/plan.h"

namespace kiln {

class Validation {
public:
    // Throws Error if the shards are bad.
    Validation(const TrainPlan& plan, Communicator& communicator);

    // The mean loss over every sequence once, or over --val-max-batches micro-batches. Nothing if a stop was requested.
    std::optional<double> loss(Engine& engine, const std::function<bool()>& stop_requested);

private:
    std::optional<Batch> next();

    const TrainOptions& options_;
    Communicator& communicator_;
    DataLoader loader_;
    std::vector<int> targets_;
};

}  // namespace kiln
