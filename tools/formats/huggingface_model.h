#pragma once
// A model directory of Hugging Face, as `kiln import` and `kiln export` convert it. It is also Kiln's own format.
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "tools/formats/stored_model.h"

namespace kiln {

// The largest size of a file with weights. A larger model has several files and an index, as Hugging Face's libraries
// split it too.
inline constexpr uint64_t kMaxWeightFileBytes = 5'000'000'000;

StoredModel open_hf(const std::filesystem::path& directory);

// `type`: "f32", "f16" or "bf16"; empty: the type of the model, or f32 if it is none of these. Copies the tokenizer
// byte for byte. The directory appears under its name only when it is complete. Throws Error if it exists and is
// neither empty nor a model, or if a value is beyond the range of the type.
void write_hf(const std::filesystem::path& directory, const StoredModel& model, std::string_view type,
              const ConversionProgress& progress);
void write_hf_divided(const std::filesystem::path& directory, const StoredModel& model, std::string_view type,
                      const ConversionProgress& progress, uint64_t max_file_bytes);

}  // namespace kiln
