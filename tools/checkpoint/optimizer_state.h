#pragma once
// optimizer.safetensors: the optimizer state by name, such as "m.wte" for AdamW's first moment, in float32.
#include <filesystem>

#include "cpu_reference/interface/engine.h"
#include "tools/checkpoint/model_state.h"
#include "tools/formats/safetensors.h"

namespace kiln {

FileDigest write_optimizer(const std::filesystem::path& path, const ModelState& model);
// Throws Error unless the file holds exactly the state of the engine's model and optimizer, with values that training
// can have left there.
void read_optimizer(const std::filesystem::path& path, Engine& engine);
// Throws Error if a value is not finite, or a second moment is negative.
void verify_optimizer(const std::filesystem::path& path);

}  // namespace kiln
