#pragma once
// Checks whether the device can do what the options ask for, and whether its memory is large enough.
#include <functional>
#include <string>

#include "cpu_reference/interface/backend.h"
#include "cpu_reference/interface/engine.h"
#include "tools/train/options.h"

namespace kiln {

// The device to compute on or, with --dry-run, to plan for: --gpu and --memory, or else what this machine has. Calls
// `report` if --dry-run has neither, and this machine has no device to plan for. Throws UsageError for wrong --gpu and
// --memory and, without --dry-run, Error if `program` cannot compute on this machine.
Device choose_device(TrainOptions& options, const std::string& program,
                     const std::function<void(const std::string&)>& report);

EngineOptions engine_options(const TrainOptions& options);

// The type with the name "bfloat16" or "float16"; else float32.
Precision parse_precision(const std::string& dtype);
// The type that --dtype auto selects on this device.
std::string default_dtype(const Device& device);

// Replaces "auto". Throws UsageError for an option that `device` does not support, unless `inherited` returns true
// for its name, because a resumed run began on another device: then the option is reset and reported. Both functions
// may be null.
void fit_to_device(TrainOptions& options, const Device& device, const std::string& program,
                   const std::function<bool(const std::string& name)>& inherited,
                   const std::function<void(const std::string&)>& report);

size_t planned_bytes(const ModelConfig& config, const EngineOptions& options);

// The largest micro-batch of at most `most` sequences that fits in `bytes` and divides `sequences` (if that is not 0).
// Returns 1 even if that does not fit.
int largest_batch(const ModelConfig& config, const EngineOptions& options, int64_t sequences, size_t bytes,
                  int64_t most = kMaxBatch);

// Throws Error if the memory is too small. The message names the options that would make it fit.
void check_memory(const ModelConfig& config, const TrainOptions& options, const Device& device);

}  // namespace kiln
