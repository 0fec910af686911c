#pragma once
// The training loop, written once for all backends: it uses the model through Engine and the other ranks through
// Communicator. Step s first validates, samples and saves, where due, and then makes update s, counted from 0.
#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "cpu_reference/interface/backend.h"
#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/engine.h"
#include "tokenizer/data/dataloader.h"
#include "tools/cli/stop_signal.h"
#include "tools/train/bad_steps.h"
#include "tools/train/plan.h"
#include "tools/train/progress.h"
#include "tools/train/risen_loss.h"
#include "tools/train/run_ahead.h"
#include "tools/train/saver.h"
#include "tools/train/saving_ranks.h"
#include "tools/train/schedule.h"
#include "tools/train/summary.h"

namespace kiln {

enum class TrainOutcome : uint8_t { finished, stopped };

class Trainer {
public:
    struct Hooks {
        std::ostream* results = nullptr;  // step lines, validation losses, samples
        std::ostream* notes = nullptr;    // everything else that the user should know
        // Called after every micro-batch, also of a validation, and after every sampled token. If it returns true,
        // run() writes a checkpoint and returns.
        std::function<bool()> stop_requested = {};
        std::function<void(const StepReport&)> on_step = {};
        // What the trainer does from now on, for messages of other ranks: "save".
        std::function<void(const char* phase, int64_t step)> on_phase = {};
        // A part of a checkpoint has been written, or a token sampled: what takes long goes on. From any thread.
        std::function<void()> on_progress = {};
        // The width of the terminal that shows the results; null or 0: it is no terminal.
        std::function<int()> columns = {};
    };

    // Opens the data, and makes or loads the weights. It writes nothing. All references must outlive the trainer.
    // `saving`: a second communicator of the same ranks, of the threads that save in the background; without it, ranks
    // with a part of the state each wait for their saves.
    Trainer(const TrainPlan& plan, Engine& engine, Communicator& communicator, const Hooks& hooks,
            Communicator* saving = nullptr);

    // Only rank 0 writes. If the data cannot be read any more, writes a checkpoint of the steps so far and throws
    // Error.
    TrainOutcome run();
    const TrainProgress& progress() const { return progress_; }
    uint64_t data_fingerprint() const { return loader_.fingerprint(); }
    uint64_t data_samples() const { return loader_.sample_fingerprint(); }
    // The checkpoint that the run goes on from; none: it began now.
    std::optional<std::filesystem::path> resumed_from() const {
        return resumed_from_.directory.empty() ? std::nullopt : std::optional(resumed_from_.directory);
    }
    std::optional<uint64_t> validation_fingerprint() const {
        return val_loader_ ? std::optional(val_loader_->fingerprint()) : std::nullopt;
    }
    // Of the weights that the run starts from; nothing: they are random, or the run is resumed.
    std::optional<uint64_t> weights_hash() const { return weights_hash_; }
    RunSummary summary() const;

private:
    void open_validation();
    void open_logs();
    void open_saver();
    void resume();
    void start();
    void note_changes();
    bool validate();
    std::string validated_part() const;
    bool sample();
    void save(bool in_background = false);
    void log(const std::function<void(RunLog&)>& write);
    void find_logs();
    nlohmann::json state() const;
    bool train_step();
    bool accumulate();
    OptimizerStep optimizer_step(float rate);
    void count_step();
    void settle();
    void finish_queued(std::optional<StepReport> report);
    void finish(StepReport& report);
    void roll_back();
    void log_gpu();
    bool stop_agreed() { return kiln::stop_agreed(communicator_, hooks_.stop_requested); }
    bool is_due(int64_t every) const { return every > 0 && progress_.step % every == 0; }
    void enter(const char* phase) {
        if (hooks_.on_phase) hooks_.on_phase(phase, progress_.step);
    }
    void note(const std::string& text);
    void print(const std::string& text);
    int columns() const { return hooks_.columns ? hooks_.columns() : 0; }

    const TrainPlan& plan_;
    const TrainOptions& options_;
    Engine& engine_;
    Communicator& communicator_;
    Hooks hooks_;
    std::optional<SavingRanks> saving_now_, saving_behind_;  // if the state is divided
    DataLoader loader_;
    std::optional<DataLoader> val_loader_;
    std::optional<uint64_t> weights_hash_;
    Attempts attempt_;
    std::optional<RunLog> log_;   // on rank 0, with an output directory
    std::optional<Saver> saver_;  // with a log, or of a part of the state
    Schedule schedule_;
    StepLines lines_;
    TrainProgress progress_;
    BadSteps bad_steps_;
    RisenLoss risen_loss_;
    std::optional<RunAhead> run_ahead_;                  // if it is possible
    CheckpointRef resumed_from_;                         // an empty path: the run began now
    std::map<std::string, std::string> options_before_;  // of that checkpoint
    // A failed read of the data. It requests a stop, so that all ranks stop at the same place, and run() rethrows it.
    std::exception_ptr data_error_;
    int64_t last_saved_ = -1;
    LossCurve curve_;  // of the whole run
    // Since this process started or resumed the run:
    std::chrono::steady_clock::time_point began_;
    int64_t steps_ = 0;
    double seconds_in_steps_ = 0;
    double seconds_per_step_ = 0;      // a moving mean; 0: no step yet
    std::unique_ptr<GpuMonitor> gpu_;  // with --log-gpu-every, if the GPU can be monitored
};

}  // namespace kiln
