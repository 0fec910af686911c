#pragma once
// The code that kiln import and kiln export share.
#include <filesystem>
#include <functional>
#include <string>

#include "tools/cli/options.h"
#include "tools/formats/model_formats.h"

namespace kiln {

void add_conversion_output(OptionSet& set, std::string& output, bool& overwrite);

// Throws Error if `output` exists and is no empty directory, unless `overwrite` is true and, if it is a file,
// `open` reads it: only a file of this format is replaced.
void check_conversion_output(const std::filesystem::path& output, bool overwrite,
                             const std::function<void(const std::filesystem::path& output)>& open);

// Writes the model, with its progress on standard error. A stop signal removes what is written so far and ends the
// program.
void convert(const StoredModel& model, const ModelFormat& to, const std::filesystem::path& output,
             const std::string& type);
// The same for any file of a model. The message that counts parameters and bytes is about this file alone.
void write_with_progress(const ModelConfig& config, const std::filesystem::path& output,
                         const std::function<void(const ConversionProgress& progress)>& write);

// Writes a model of llm.c and its training state as a checkpoint of the run `output`. What the files do not hold starts
// again from its default: the order of the data, the random numbers, the options.
void import_llmc_checkpoint(const std::filesystem::path& model, const std::filesystem::path& state,
                            const ModelFiles& files, const std::filesystem::path& output);

}  // namespace kiln
