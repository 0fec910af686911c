#pragma once
// The training loop, written once for every backend: it sees a model only through Engine, its peers only through
// Communicator. Step s is: validation and samples if due, a checkpoint if due, then update number s.
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>

#include "cpu_reference/interface/backend.h"
#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/engine.h"
#include "tokenizer/data/dataloader.h"
#include "tools/train/logger.h"
#include "tools/train/outlier.h"
#include "tools/train/plan.h"
#include "tools/train/schedule.h"

namespace kiln {

enum class TrainOutcome : uint8_t { finished, stopped };

// Where a run stands: with the weights and moments, all that the next step depends on. JSON keeps every bit of it.
struct TrainProgress {
    int64_t step = 0;                            // steps done
    int64_t updates = 0;                         // of them applied; AdamW's t
    uint64_t position = 0;                       // in the order of samples
    int64_t validated_at = -1, sampled_at = -1;  // the last step at which it was done
    OutlierWindow loss_window, norm_window;
    LogPosition log;

    nlohmann::json to_json() const;
    static TrainProgress from_json(const nlohmann::json& state);  // throws Error naming what is missing
};

class Trainer {
public:
    struct Hooks {
        std::ostream* results = nullptr;  // step lines, validation losses, samples
        std::ostream* notes = nullptr;    // what the user should know besides
        // Asked after every micro-batch and every sampled token; true: leave with a checkpoint.
        std::function<bool()> stop_requested = {};
        std::function<void(const StepReport&)> on_step = {};
    };

    // Everything but training itself: weights made or loaded, logs opened, data mapped. Rank 0 alone writes. All
    // references must outlive the trainer.
    Trainer(const TrainPlan& plan, Engine& engine, Communicator& communicator, const Hooks& hooks);

    TrainOutcome run();
    // The mean loss over the validation shards; nothing if a stop was requested meanwhile.
    std::optional<double> validation_loss();
    const TrainProgress& progress() const { return progress_; }

private:
    struct BatchResult {
        double loss, norm;
        bool overflow = false;  // of float16, for which the loss scale is lower by now
    };

    void start();
    void load_progress(const std::filesystem::path& checkpoint);
    void note_changes();
    bool validate();
    bool sample();
    void save();
    bool train_step();
    bool accumulate();
    void settle();
    void take_queued(StepReport report);
    OptimizerStep optimizer_step(float rate);
    void count_step();
    void judge(const BatchResult& batch, StepReport& report);
    void finish(const BatchResult& batch, StepReport& report, double seconds);
    void log_gpu();
    void handle_nonfinite(const BatchResult& batch, int64_t step);
    void roll_back();
    bool stop_agreed();
    bool is_due(int64_t every) const;
    void note(const std::string& text);

    const TrainPlan& plan_;
    const TrainOptions& options_;
    Engine& engine_;
    Communicator& communicator_;
    Hooks hooks_;
    std::optional<DataLoader> loader_, val_loader_;
    std::optional<RunLog> log_;  // rank 0 with an output directory
    Schedule schedule_;
    TrainProgress progress_;
    int64_t last_saved_ = -1;
    int64_t nonfinite_in_a_row_ = 0;
    int rollbacks_ = 0;  // since training last got past where it failed
    int64_t failed_at_ = -1;
    double seconds_a_step_ = 0;  // a moving mean; 0: none yet
    // The step's loss is read while the next one is computed, where the device alone decides what becomes of it. What
    // depends on it settles it first: validation, samples, checkpoints, the end.
    bool run_ahead_ = false;
    std::optional<StepReport> queued_;
    std::unique_ptr<GpuMonitor> gpu_;  // with --log-gpu-every, where the GPU tells
};

}  // namespace kiln
