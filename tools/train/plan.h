#pragma once
// Turns options into a plan of the run: model, data, batch, starting point. All wrong options are refused here, before
// memory is allocated or a file is written.
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/engine.h"
#include "tokenizer/data/dataloader.h"
#include "tools/checkpoint/model_files.h"
#include "tools/train/device.h"
#include "tools/train/options.h"

namespace kiln {

inline constexpr const char* kConfigFile = "config.toml";  // in a run directory: the options of the run

struct TrainPlan {
    // T, total_batch_tokens and prompt resolved; model: the descriptor of `config`, unless a directory
    TrainOptions options;
    ModelConfig config;
    std::filesystem::path weights;     // model directory to start from; empty: random weights
    std::filesystem::path checkpoint;  // to resume from; empty: from the beginning
    nlohmann::json state;              // its trainer_state.json
    DataPaths data;
    std::filesystem::path tokenizer;            // directory, or empty
    ModelFiles files;                           // of every checkpoint
    std::map<std::string, std::string> values;  // every option as text, to find what a resumed run changes
    EngineOptions engine_options() const { return kiln::engine_options(options); }
};

// Throws UsageError or Error. `model_given`: options.model was given by the user, it is not the default. `report` gets
// notes for the user. `device` has the memory that --batch-size auto may use.
TrainPlan make_plan(const TrainOptions& options, bool model_given, int world,
                    const std::function<void(const std::string&)>& report, const Device& device = {});

// Only one process may train in a run directory, and it holds this lock. The system releases the lock when the process
// ends, also after a crash.
class RunLock {
public:
    explicit RunLock(const std::filesystem::path& run);  // throws Error if another holds it
    RunLock(RunLock&& other) noexcept
        : created(std::move(other.created)), run_(std::move(other.run_)), fd_(std::exchange(other.fd_, -1)) {}
    RunLock& operator=(RunLock&&) = delete;
    // If the run has neither logged anything nor saved a checkpoint, removes what was created.
    ~RunLock();

    std::vector<std::filesystem::path> created;  // directories that this start has made, the deepest first

private:
    std::filesystem::path run_;
    int fd_;
};

// Creates the run directory and locks it. With --overwrite, removes the run that it holds. Throws Error if that is not
// possible, if the directory holds another run, or if the disk has no room for a checkpoint.
[[nodiscard]] RunLock prepare_run_directory(const TrainPlan& plan);

// The run directory without --output: runs/ and the current time.
std::string default_run_directory();

DataLoaderOptions train_loader_options(const TrainPlan& plan, const Communicator& communicator);
DataLoaderOptions val_loader_options(const TrainPlan& plan, const Communicator& communicator);

// The number of steps of the whole run on `num_sequences` sequences of data.
inline constexpr int kFewSteps = 50;  // too few to learn anything
int64_t total_steps(const TrainOptions& options, uint64_t num_sequences);

// The text of --dry-run.
std::string describe_plan(const TrainPlan& plan, const Device& device);

}  // namespace kiln
