#pragma once
// A checkpoint is a directory <run>/checkpoint-<step>. It has the files that Hugging Face's tools load
// (model.safetensors, config.json, generation_config.json, the tokenizer), those that training also needs
// (optimizer.safetensors, trainer_state.json), and manifest.json, written last, with the size and XXH3-64 of every
// file. It is written to a temporary directory, synced and renamed: a directory of this name that passes its manifest
// is complete.
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

// Writes <run>/checkpoint-<step, 8 digits> and returns it. If it throws Error (disk full,
// not writable), nothing under that name has changed. What had the name and is not Kiln's is kept as NAME.other, and
// `report` gets a line that says so.
std::filesystem::path save_checkpoint(const std::filesystem::path& run, int64_t step, const ModelState& model,
                                      const nlohmann::json& trainer_state, const ModelFiles& files,
                                      const std::function<void(const std::string&)>& report = nullptr);

// The checkpoints of a run, newest first, not verified and without temporary directories.
std::vector<CheckpointRef> list_checkpoints(const std::filesystem::path& run);

// Those of them that Kiln has written: they have a manifest.json, which need not be right. Hugging Face's Trainer gives
// its checkpoints such names too, and Kiln removes none of those.
std::vector<CheckpointRef> own_checkpoints(const std::filesystem::path& run);

// Throws Error with the first file that is missing or has another size or checksum.
void verify_checkpoint(const std::filesystem::path& checkpoint);

// The newest checkpoint that is complete and with which `use`, if given, does not throw. Calls `report` for each newer
// one, with the reason. `from`: the search begins with this one, which has been verified; empty: with the newest.
std::optional<CheckpointRef> newest_checkpoint(const std::filesystem::path& run,
                                               const std::function<void(const std::string&)>& report,
                                               const std::function<void(const CheckpointRef&)>& use = nullptr,
                                               const std::filesystem::path& from = {});

// What a link, or a chain of links, leads to, so that what is read stays the same model when the link is replaced.
// Without the slash at the end of a path, so that it ends with a name.
std::filesystem::path follow_link(const std::filesystem::path& path);

// `path`, or the target of this link, if it is a checkpoint or another Hugging Face model; if it is a run, its newest
// complete checkpoint, and `report` gets why newer ones are not. Throws Error.
std::filesystem::path resolve_model_directory(const std::filesystem::path& path,
                                              const std::function<void(const std::string&)>& report = nullptr);

ModelConfig read_model_config(const std::filesystem::path& model_directory);  // config.json
// Throws Error unless config.json describes the same tensors and the same computation as `config`.
void check_model(const std::filesystem::path& model_directory, const ModelConfig& config);
// Throws Error if weights or optimizer state hold a value from which nothing can be computed.
void verify_values(const std::filesystem::path& checkpoint);
void load_weights(const std::filesystem::path& model_directory, Engine& engine);  // model*.safetensors -> Arena::params
// Weights and optimizer state into the engine.
void load_training_state(const std::filesystem::path& checkpoint, Engine& engine);

// Of own_checkpoints, keeps the newest `keep` ones (0: all), those with a step that is a multiple of `major_every` (0:
// none), those that links in the run point to, and in any case `complete`, the newest complete one (empty: it is looked
// for). Removes what killed saves left, too. Throws Error if something cannot be removed, after it has removed the
// rest.
void prune_checkpoints(const std::filesystem::path& run, int keep, int64_t major_every,
                       std::filesystem::path complete = {});

// Removes what a killed process left in the run: checkpoints, links and files that have only a temporary name. Only
// the process that has locked the run may call it. What cannot be removed stays, since it does no harm.
void remove_leftovers(const std::filesystem::path& run);

}  // namespace kiln
