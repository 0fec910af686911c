#pragma once
// Turns options into a plan of the run: model, data, batch, starting point. Options that are wrong by themselves are
// refused here, before memory is allocated or a file is written. What depends on the device, the run directory or the
// data of a resumed run is checked in device.h, run_directory.h and trainer.h.
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/engine.h"
#include "tokenizer/data/dataloader.h"
#include "tokenizer/tokenizer.h"
#include "tools/checkpoint/model_files.h"
#include "tools/train/device.h"
#include "tools/train/options.h"
#include "tools/train/trainer_state.h"

namespace kiln {

struct TrainPlan {
    // As given, with T, total_batch_tokens and prompt filled in; `model` is the descriptor of `config`, or a directory.
    TrainOptions options = {};
    ModelConfig config = {};
    std::filesystem::path weights = {};     // model directory to start from; empty: random weights
    std::filesystem::path checkpoint = {};  // to resume from; empty: from the beginning
    TrainerState state = {};                // its trainer_state.json
    DataPaths data = {};
    std::filesystem::path tokenizer = {};            // directory, or empty
    ModelFiles files = {};                           // of every checkpoint
    std::optional<Tokenizer> sample_tokenizer = {};  // if samples are wanted; its files may change while training runs
    std::map<std::string, std::string> values = {};  // every option as text, to find what a resumed run changes
    std::string config_toml = {};                    // the same, as the run directory keeps it
    bool async_save = false;                         // --async-save, and there is memory for it
    int verify_part = 0, verify_parts = 1;           // of the data, by this rank
    EngineOptions engine_options() const { return kiln::engine_options(options); }
};

// Throws UsageError or Error. `model_given`: the user gave --model; else options.model is that of the resumed run. The
// caller sets `values` and `config_toml`. `report` gets notes for the user. `device` has the memory that --batch-size
// auto may use.
TrainPlan make_plan(const TrainOptions& options, bool model_given, int world,
                    const std::function<void(const std::string&)>& report, const Device& device = {});

// The memory of the device that the run needs, by kind.
std::vector<MemoryItem> plan_memory(const TrainPlan& plan);

DataLoaderOptions train_loader_options(const TrainPlan& plan, const Communicator& communicator);
DataLoaderOptions val_loader_options(const TrainPlan& plan, const Communicator& communicator);

inline constexpr int kFewSteps = 50;  // a shorter run hardly learns anything

// The number of steps of the whole run on `num_sequences` sequences of data.
int64_t total_steps(const TrainOptions& options, uint64_t num_sequences);

// The text of --dry-run.
std::string describe_plan(const TrainPlan& plan, const Device& device);

}  // namespace kiln
