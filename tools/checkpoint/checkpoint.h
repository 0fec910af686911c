#pragma once
// A checkpoint directory, <run>/checkpoint-<step>: what Hugging Face's tools load (model.safetensors, config.json,
// generation_config.json, tokenizer files), what training needs besides (optimizer.safetensors, trainer_state.json),
// and manifest.json, written last, with the size and XXH3-64 of every file. Written to a temporary directory, fsynced,
// renamed, parent fsynced: what bears the name and passes its manifest is whole.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cpu_reference/interface/engine.h"

namespace kiln {

struct CheckpointRef {
    std::filesystem::path directory;
    int64_t step = 0;
};

// Writes <run>/checkpoint-<step, 8 digits> and returns it. tokenizer_dir may be empty. Throws Error (disk full, not
// writable); then nothing under that name has changed.
std::filesystem::path save_checkpoint(const std::filesystem::path& run, int64_t step, const Engine& engine,
                                      const nlohmann::json& trainer_state, const std::filesystem::path& tokenizer_dir);

// Named checkpoints of a run, newest first; not verified. Leftover temporary directories are not among them.
std::vector<CheckpointRef> list_checkpoints(const std::filesystem::path& run);

// Throws Error naming the first file that is missing, has another size, or another checksum.
void verify_checkpoint(const std::filesystem::path& checkpoint);

// The newest checkpoint that verifies. `report` is told why each newer one was passed over.
std::optional<CheckpointRef> newest_checkpoint(const std::filesystem::path& run,
                                               const std::function<void(const std::string&)>& report);

// A checkpoint (or any Hugging Face model) directory, or a run directory: then its newest whole checkpoint. Throws
// Error.
std::filesystem::path resolve_model_directory(const std::filesystem::path& path);

ModelConfig read_model_config(const std::filesystem::path& model_directory);      // config.json
void load_weights(const std::filesystem::path& model_directory, Engine& engine);  // model*.safetensors -> Arena::params
// Weights and moments into the engine; returns trainer_state.json.
nlohmann::json load_training_state(const std::filesystem::path& checkpoint, Engine& engine);

// Keeps the newest `keep` (0: all) and every checkpoint whose step is a multiple of `major_every` (0: none); removes
// leftover temporary directories. Never removes the newest whole one.
void prune_checkpoints(const std::filesystem::path& run, int keep, int64_t major_every);

}  // namespace kiln
