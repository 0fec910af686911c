#pragma once
// What kiln import and kiln export share.
#include <filesystem>
#include <string>

#include "tools/cli/options.h"
#include "tools/formats/model_formats.h"

namespace kiln {

void add_conversion_output(OptionSet& set, std::string& output, bool& overwrite);

// Throws Error if something is at `output` and is neither an empty directory nor to be replaced.
void check_conversion_output(const std::filesystem::path& output, bool overwrite);

// Writes the model, with its progress on standard error. A stop signal removes what is written so far and ends the
// program.
void convert(const StoredModel& model, const ModelFormat& to, const std::filesystem::path& output,
             const std::string& type);

}  // namespace kiln
