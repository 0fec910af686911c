#pragma once
// Warnings about options that are allowed but seldom meant, and models that fit where none is named.
#include <cstdint>
#include <string>
#include <vector>

#include "tools/train/plan.h"

namespace kiln {

// One sentence each, with what to do. `sequences`: those of the training data, above 0.
std::vector<std::string> warnings(const TrainPlan& plan, uint64_t sequences);

// Three lines, each with a --model for `tokens` of training data (0: not known) with a vocabulary of V (0: the model's
// own), its parameters, memory and, on a CPU, time: the largest ones that fit the device's memory, have not far more
// parameters than the data can teach, and on a CPU end within minutes. Fewer lines if the memory is too small.
std::string fitting_models(const TrainOptions& options, const Device& device, uint64_t tokens, int V);

}  // namespace kiln
