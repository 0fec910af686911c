#pragma once
// A checkpoint is a directory <run>/checkpoint-<step>. It has the files that Hugging Face's tools load
// (model.safetensors, config.json, generation_config.json, the tokenizer), those that training also needs
// (optimizer.safetensors or its parts, trainer_state.json), and manifest.json, written last, with the size and XXH3-64
// of every file. It is written to a temporary directory, synced and renamed: a directory of this name that passes its
// manifest is complete.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "cpu_reference/interface/error.h"
#include "tools/checkpoint/model_files.h"
#include "tools/checkpoint/model_state.h"
#include "tools/checkpoint/optimizer_state.h"

namespace kiln {

struct CheckpointRef {
    std::filesystem::path directory;
    int64_t step = 0;
};

// Somebody has removed the checkpoint, or a part of it, while it was written: it can be written again.
class RemovedError : public Error {
public:
    using Error::Error;
};

// Writes all files of the optimizer's state into a directory, some of them perhaps by other ranks.
using WriteOptimizer = std::function<FileDigests(const std::filesystem::path& directory)>;

// Writes <run>/checkpoint-<step, 8 digits> and returns it. If it throws Error (disk full, not writable), the former
// checkpoint of this step, if there was one, is still complete, under its name or as NAME.replaced; the new one may
// have the name if only the last fsync failed. If something that Kiln has not written has this name, it is renamed to
// NAME.other, and `report` is told. Without `write_parts`, the optimizer state of `model` is all of it.
std::filesystem::path save_checkpoint(const std::filesystem::path& run, int64_t step, const ModelState& model,
                                      const nlohmann::json& trainer_state, const ModelFiles& files,
                                      const std::function<void(const std::string&)>& report = nullptr,
                                      const WriteOptimizer& write_parts = nullptr);

// The checkpoints of a run, newest first, not verified. NAME.replaced is one of them if a kill has left no NAME.
std::vector<CheckpointRef> list_checkpoints(const std::filesystem::path& run);

// Those of them that Kiln has written: they have a manifest.json, valid or not. Hugging Face's Trainer gives its
// checkpoints such names too, and Kiln removes none of those.
std::vector<CheckpointRef> kiln_checkpoints(const std::filesystem::path& run);

// Throws Error with the first file that is missing or has another size or checksum.
void verify_checkpoint(const std::filesystem::path& checkpoint);

// The newest checkpoint that is complete and with which `use`, if given, does not throw. Calls `report` with the reason
// for each newer one that it passes over. The search starts at `from`, which the caller has verified; empty: at the
// newest.
std::optional<CheckpointRef> newest_checkpoint(const std::filesystem::path& run,
                                               const std::function<void(const std::string&)>& report,
                                               const std::function<void(const CheckpointRef&)>& use = nullptr,
                                               const std::filesystem::path& from = {});

// The final target of symbolic links, so that a link that is replaced meanwhile does not change which model is read. A
// slash at the end of a path is removed.
std::filesystem::path follow_link(const std::filesystem::path& path);

// Returns `path`, with links followed, if it is a checkpoint, a Hugging Face model or a model file of llm.c, which may
// then take the place of a model directory in what follows. If it is a run, returns its
// newest complete checkpoint, and tells `report` why newer ones were passed over. Throws Error if it is neither.
std::filesystem::path resolve_model_directory(const std::filesystem::path& path,
                                              const std::function<void(const std::string&)>& report = nullptr);

ModelConfig read_model_config(const std::filesystem::path& model_directory);  // config.json
// Throws Error unless config.json describes the same tensors and the same computation as `config`.
void check_model(const std::filesystem::path& model_directory, const ModelConfig& config);
// Throws Error if weights or optimizer state hold a value that is not finite, or a negative second moment.
void verify_values(const std::filesystem::path& checkpoint);
// model*.safetensors, or the file of llm.c -> Arena::params; returns a hash of the values
uint64_t load_weights(const std::filesystem::path& model_directory, Engine& engine);
// Weights and optimizer state into the engine.
void load_training_state(const std::filesystem::path& checkpoint, Engine& engine);

// Removes all kiln_checkpoints except the newest `keep` (0: removes none), those whose step is a multiple of
// `major_every` (0: no such rule), those that a link in the run points to, and the newest complete one: `complete` or,
// if that is empty, the one that is found. Removes what killed saves left, too. Throws Error if something cannot be
// removed, after it has removed the rest.
void prune_checkpoints(const std::filesystem::path& run, int keep, int64_t major_every,
                       std::filesystem::path complete = {});

// Removes what a killed process left in the run: unfinished checkpoints, links and files, by their temporary names.
// Only the process that has locked the run may call it. What cannot be removed stays, since it does no harm.
void remove_leftovers(const std::filesystem::path& run);

}  // namespace kiln
