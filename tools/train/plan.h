#pragma once
// From options to what is to be done: model, data, batch, where to start. Everything that can be refused is refused
// here, before memory is taken or a file is written.
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/engine.h"
#include "tokenizer/data/dataloader.h"
#include "tools/train/device.h"
#include "tools/train/options.h"

namespace kiln {

struct TrainPlan {
    TrainOptions options;  // T and total_batch_tokens resolved; model: the descriptor of `config`, unless a directory
    ModelConfig config;
    std::filesystem::path weights;     // model directory to start from; empty: random weights
    std::filesystem::path checkpoint;  // to resume from; empty: from the beginning
    nlohmann::json state;              // its trainer_state.json
    DataPaths data;
    std::filesystem::path tokenizer;            // directory, or empty
    std::map<std::string, std::string> values;  // every option as text, to tell what a resumed run changes
    EngineOptions engine_options() const { return kiln::engine_options(options); }
};

// Throws UsageError or Error. `model_given`: the user chose options.model, it is not the default. `report` is told what
// the user should know and need not act on. `device` has the memory that --batch-size auto fills.
TrainPlan make_plan(const TrainOptions& options, bool model_given, int world,
                    const std::function<void(const std::string&)>& report, const Device& device = {});

// Held by the one process that trains in a run directory; released with the process, however it ends.
class RunLock {
public:
    explicit RunLock(const std::filesystem::path& run);  // throws Error if another holds it
    RunLock(RunLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    RunLock& operator=(RunLock&&) = delete;
    ~RunLock();

private:
    int fd_;
};

// The run directory exists, is nobody else's, can be written and has room for a checkpoint; or throws Error saying what
// to do.
[[nodiscard]] RunLock prepare_run_directory(const TrainPlan& plan);

// Where a run goes that was given no --output: runs/ and the time it began.
std::string default_run_directory();

DataLoaderOptions train_loader_options(const TrainPlan& plan, const Communicator& communicator);
DataLoaderOptions val_loader_options(const TrainPlan& plan, const Communicator& communicator);

// Updates the whole run takes over `num_sequences` sequences of data.
int64_t total_steps(const TrainOptions& options, uint64_t num_sequences);

// What --dry-run prints.
std::string describe_plan(const TrainPlan& plan, const Device& device);

}  // namespace kiln
