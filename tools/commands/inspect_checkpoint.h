#pragma once
// What kiln inspect shows of a checkpoint besides its model: whether each file is whole, and how far the run was.
#include <filesystem>
#include <functional>
#include <string>

#include "tools/checkpoint/checkpoint.h"

namespace kiln {

using ShowRow = std::function<void(const std::string& name, const std::string& value)>;

// A row for each file of the manifest, and whether it is as the manifest says. Throws Error if one is not, with all
// that are not; also if the state of the training makes no sense, or weights or optimizer state hold what nothing can
// be computed from. The message says which checkpoint of the same run is whole.
void inspect_checkpoint(const std::filesystem::path& checkpoint, const ShowRow& row);

}  // namespace kiln
