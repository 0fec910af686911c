#pragma once
// The names of files, directories and links in a run directory.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kiln {

inline constexpr std::string_view kPrefix = "checkpoint-";
inline constexpr std::string_view kUnfinished = ".saving-";  // a checkpoint that is being written or removed
inline constexpr std::string_view kReplaced = ".replaced";   // one that is being replaced, if names cannot be exchanged

inline constexpr const char* kConfigFile = "config.toml";  // the options of the run
inline constexpr const char* kMainLog = "main.log";
inline constexpr const char* kMetrics = "metrics.jsonl";
inline constexpr const char* kLossCurve = "loss.svg";
inline constexpr const char* kWriteTest = ".write-test";  // shows that the directory can be written

std::string new_link_name(std::string_view link);  // of a link that is to replace `link`
std::string checkpoint_name(int64_t step);
// The step in "checkpoint-00000010", or nothing.
std::optional<int64_t> step_of(std::string_view name);

}  // namespace kiln
