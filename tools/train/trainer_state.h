#pragma once
// trainer_state.json, the part of a checkpoint that only the trainer reads: how far the run is, and what must be the
// same when it is resumed. A matching checksum shows that a file is unchanged, not that its values are valid, so every
// field is checked.
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "cpu_reference/interface/engine.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/train/progress.h"

namespace kiln {

struct TrainerState {
    TrainProgress progress;
    std::string model;  // the descriptor
    uint64_t seed = 0;
    int T = 0;
    std::optional<LossScale> loss_scale;               // of float16
    std::optional<uint64_t> train_tokens, train_data;  // DataLoader::num_tokens and fingerprint
    std::map<std::string, std::string> options;        // all of them, as text

    nlohmann::json to_json() const;  // keeps every bit
};

// If to_json() cannot have written this text, throws Error that begins with `where` and names the field.
TrainerState parse_trainer_state(std::string_view text, const std::string& where);

// Throws Error also if it is the state of another step or of another model than the checkpoint's.
TrainerState read_trainer_state(const CheckpointRef& checkpoint);

// Reads weights, optimizer state and loss scale of a checkpoint into the engine. Throws Error if one of them is
// damaged.
TrainerState load_trainer_state(const CheckpointRef& checkpoint, Engine& engine);

}  // namespace kiln
