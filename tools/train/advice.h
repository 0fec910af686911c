#pragma once
// Warnings about options that are allowed but seldom meant, and models that fit where none is named.
#include <cstdint>
#include <string>
#include <vector>

#include "tools/train/plan.h"

namespace kiln {

// Returns one sentence for each warning, with advice. `sequences`: the number of training sequences, above 0.
std::vector<std::string> warnings(const TrainPlan& plan, uint64_t sequences);

// Returns three lines, or fewer if the memory is too small. Each names a --model, its number of parameters, its memory
// and, on a CPU, its training time. They are the largest models that fit the device's memory, are not far too large for
// the data and, on a CPU, train within minutes. `tokens`: of training data; 0: not known. V: the size of the
// vocabulary; 0: the model's default.
std::string fitting_models(const TrainOptions& options, const Device& device, uint64_t tokens, int V);

}  // namespace kiln
