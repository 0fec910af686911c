#pragma once
// What kiln import and kiln export share.
#include <filesystem>
#include <functional>
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
// The same for any file of a model.
void write_with_progress(const ModelConfig& config, const std::filesystem::path& output,
                         const std::function<void(const ConversionProgress& progress)>& write);

// A model of llm.c and its training state as a checkpoint in the run `output`. What the files do not tell begins anew:
// the order of the data, the random numbers, the options.
void import_llmc_checkpoint(const std::filesystem::path& model, const std::filesystem::path& state,
                            const ModelFiles& files, const std::filesystem::path& output);

}  // namespace kiln
