#pragma once
// The optimizer state in a checkpoint, in float32. One rank with all of it writes optimizer.safetensors, with tensors
// by name such as "moment1.wte". Ranks that have a part each write optimizer-00001-of-00004.safetensors and so on; such
// a file has stretches of the flattened tensors, "moment1.wte[1024:2048]" for elements 1024 to 2047.
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "tools/checkpoint/model_state.h"
#include "tools/formats/safetensors.h"

namespace kiln {

using FileDigests = std::map<std::string, FileDigest>;  // by file name

std::string optimizer_file(int part, int parts);
FileDigest write_optimizer(const std::filesystem::path& directory, const ModelState& model);

// The files of a checkpoint, by part. Throws Error if it has none, or not all.
std::vector<SafetensorsFile> open_optimizer(const std::filesystem::path& checkpoint);
// Throws Error unless the files together hold exactly the state of the engine's model and optimizer, with values that
// training can have left there.
void read_optimizer(const std::filesystem::path& checkpoint, Engine& engine);
// The same without an engine. `write` gets some values of one tensor, and the offset in the arena of the first.
void read_optimizer(const std::filesystem::path& checkpoint, const ModelConfig& config, Optimizer optimizer,
                    const std::function<void(const Arena& arena, size_t offset, std::span<const float> values)>& write);
// Throws Error if a value is not finite, or a second moment is negative.
void verify_optimizer(const std::filesystem::path& checkpoint);

}  // namespace kiln
