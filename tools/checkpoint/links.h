#pragma once
// Links in a run directory give its checkpoints names that stay: <run>/model is the newest complete checkpoint, and
// <run>/best is the one with the lowest validation loss. from_pretrained("runs/mine/model") works.
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/checkpoint/checkpoint.h"

namespace kiln {

inline constexpr const char* kModelLink = "model";
inline constexpr const char* kBestLink = "best";

// Makes <run>/<name> a link to `checkpoint`, a directory in the run. The link is replaced
// atomically. Throws Error if the name belongs to something that is not a link, or if the file system has no links.
void link_checkpoint(const std::filesystem::path& run, const std::string& name,
                     const std::filesystem::path& checkpoint);

// The target of <run>/<name>; nothing if it is not a link to an existing directory.
std::optional<std::filesystem::path> linked_checkpoint(const std::filesystem::path& run, const std::string& name);

// The checkpoint of the run with the lowest validation loss, the earliest of equal ones. `losses` are pairs
// (step, loss); if a step occurs twice, its last loss counts. Returns nothing if no checkpoint that still exists is of
// a step with a validation.
std::optional<CheckpointRef> best_checkpoint(const std::filesystem::path& run,
                                             const std::vector<std::pair<int64_t, double>>& losses);

}  // namespace kiln
