#pragma once
// Warnings about options that are allowed but seldom meant.
#include <cstdint>
#include <string>
#include <vector>

#include "tools/train/plan.h"

namespace kiln {

// One sentence each, with what to do. `sequences`: those of the training data, above 0.
std::vector<std::string> warnings(const TrainPlan& plan, uint64_t sequences);

}  // namespace kiln
