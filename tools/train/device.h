#pragma once
// What the options ask of the device: whether it does it, and whether its memory holds it.
#include <functional>
#include <string>

#include "cpu_reference/interface/backend.h"
#include "cpu_reference/interface/engine.h"
#include "tools/train/options.h"

namespace kiln {

EngineOptions engine_options(const TrainOptions& options);

// "bfloat16" and its like; "auto" as float32.
Precision parse_precision(const std::string& dtype);
// What stands for "auto".
std::string default_dtype(const Device& device);

// Replaces "auto". What `device` does not do throws UsageError, unless `inherited` says of the option's name that the
// resumed run brought it along from another device: then it is left out and reported. Both functions may be null.
void fit_to_device(TrainOptions& options, const Device& device, const std::string& program,
                   const std::function<bool(const std::string& name)>& inherited,
                   const std::function<void(const std::string&)>& report);

size_t planned_bytes(const ModelConfig& config, const EngineOptions& options);

// The most rows of a micro-batch that fit in `bytes`; of those that divide `rows`, unless it is 0. At least 1.
int largest_batch(const ModelConfig& config, const EngineOptions& options, int64_t rows, size_t bytes);

// Throws Error naming what would make it fit, unless all of it does.
void check_memory(const ModelConfig& config, const TrainOptions& options, const Device& device);

}  // namespace kiln
