#pragma once
// What kiln inspect shows of a checkpoint besides its model: whether each file is whole, and how far the run was.
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "tools/checkpoint/checkpoint.h"

namespace kiln {

using ShowRow = std::function<void(const std::string& name, const std::string& value)>;

// A row for each file of the manifest, and whether it is as the manifest says. Throws Error if one is not, with all
// that are not; also if the state of the training makes no sense, or weights or optimizer state hold what nothing can
// be computed from. The message says which checkpoint of the same run is whole.
void inspect_checkpoint(const std::filesystem::path& checkpoint, const ShowRow& row);

// Of all checkpoints of a run:
struct CheckedRun {
    std::optional<CheckpointRef> newest;  // that is whole
    std::string damaged;                  // says which ones are damaged; empty: none
};
// A row for each checkpoint, the newest first, and for each link to a damaged one.
CheckedRun check_run(const std::filesystem::path& run, const ShowRow& row);

}  // namespace kiln
