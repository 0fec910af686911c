#pragma once
// The model files of llama2.c, for models of Llama's architecture:
//   version 0 (f32), which its run.c reads: 7 int32 (C, F, L, NH, NKV, V or, if lm_head is not wte, -V, max_T); float32
//   version 1 (f32-v1): "ak42" as uint32, 1, the 7 int32, one byte (1: lm_head is wte), zeros up to byte 256; float32
//   version 2 (q8_0), which its runq.c reads: as 1, with the group size after that byte; matrices are int8 with a
//   float32 scale for each group, after all values of the matrix
// A tensor holds the values of all layers; q, k, v, gate and up are separate tensors.
#include <filesystem>
#include <string_view>

#include "tools/formats/stored_model.h"

namespace kiln {

inline constexpr const char* kLlama2cTokenizerName = "tokenizer.bin";  // beside a model

// The model's tokenizer is that of tokenizer.bin beside it, if there is one.
StoredModel open_llama2c(const std::filesystem::path& path);

// type: "f32", "f32-v1" or "q8_0"; empty: f32. If the model has a tokenizer, also writes tokenizer.bin beside `path`.
// Throws Error if the model is not one that run.c computes, or if another tokenizer would be replaced.
void write_llama2c(const std::filesystem::path& path, const StoredModel& model, std::string_view type,
                   const ConversionProgress& progress);

}  // namespace kiln
