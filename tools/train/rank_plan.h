#pragma once
// What the ranks of a training decide together before it begins. Without that, each would decide by its own device and
// its own files. All functions are called on all ranks together.
#include "cpu_reference/interface/backend.h"
#include "cpu_reference/interface/communicator.h"
#include "tools/train/plan.h"

namespace kiln {

// The text of one rank, on all.
std::string shared_text(std::string text, int from, Communicator& ranks);

// What the devices of all ranks can do, with the least free memory. The name is that of `own`.
Device weakest_device(const Device& own, Communicator& ranks);

// Ranks that read the same files verify a part of the shards each, and those with files of their own all of them.
void divide_verification(TrainPlan& plan, Communicator& ranks);

// What make_plan and the functions above have resolved, by name, for messages: it must be the same on all ranks.
std::map<std::string, std::string> resolved_options(const TrainPlan& plan);

}  // namespace kiln
