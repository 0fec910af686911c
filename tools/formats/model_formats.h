#pragma once
// The formats of models that `kiln import` reads and `kiln export` writes, one row each.
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tools/formats/stored_model.h"

namespace kiln {

struct ModelFormat {
    std::string name;  // in --from and --to
    StoredModel (*open)(const std::filesystem::path& path);
    // `type`: one of `types`; empty: that of the model, if the format has it. Throws Error if the format cannot hold
    // the model. If `path` exists, the user has allowed that it is replaced. Calls `progress` after each tensor or
    // part of one.
    void (*write)(const std::filesystem::path& path, const StoredModel& model, std::string_view type,
                  const ConversionProgress& progress);
    std::vector<std::string> types;  // of weights, in --type
};

const std::vector<ModelFormat>& model_formats();
std::vector<std::string> model_format_names();
const ModelFormat& model_format(std::string_view name);  // `name` must be one of model_format_names()

}  // namespace kiln
