#pragma once
// Saves a run. It writes checkpoints, in the background if there is memory for a copy of the weights and the optimizer
// state, updates the links and the loss curve, and prunes old checkpoints.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/model_state.h"
#include "tools/train/logger.h"
#include "tools/train/loss_curve.h"
#include "tools/train/plan.h"
#include "tools/train/run_directory.h"
#include "tools/train/saving_ranks.h"

namespace kiln {

using Note = std::function<void(const std::string&)>;

// Runs an action on which training does not depend, such as writing a log line or a link, and returns whether it
// succeeded. A failure is reported, but not again until the action has succeeded.
class Attempts {
public:
    explicit Attempts(Note note) : note_(std::move(note)) {}
    bool operator()(const char* what, const std::function<void()>& make);

private:
    Note note_;
    std::set<std::string> failing_;
};

// What a save writes, at a step.
struct SaveRequest {
    int64_t step = 0;
    nlohmann::json trainer_state;
    LossCurve curve;  // of the whole run
};

// The ranks that have a part of the state each. All of them have a saver, and call its functions together.
struct SaverRanks {
    SavingRanks* now = nullptr;     // of the thread that trains; null: this process has the whole state
    SavingRanks* behind = nullptr;  // of the one that saves in the background
};

class Saver {
public:
    // All references must outlive the saver. `log` is null on the ranks that write no more than their part of a
    // checkpoint. `note` is called only within calls of the saver; `on_progress`, for each part of the state that is
    // written, also from another thread.
    Saver(const TrainPlan& plan, ModelState state, const RunLog* log, Note note, std::function<void()> on_progress = {},
          SaverRanks ranks = {});
    ~Saver();  // waits; a failure is noted

    // Writes a checkpoint; returns when it is on the disk. Throws Error. Two saves never overlap: waits for the one
    // before, and throws what that one threw.
    void save(const SaveRequest& state);
    // Waits for the save before, copies weights and optimizer state and returns; another thread writes the copy.
    // Without plan.async_save, does what save() does; if no thread can be started, it writes the copy before it
    // returns.
    void save_in_background(const SaveRequest& state);
    void poll();  // if the save in the background has ended, reports its notes and rethrows its error
    void wait();  // waits for its end, and then does the same

    // When a run is resumed: updates the links and the loss curve for `checkpoint`, the newest one, and prunes old
    // ones.
    void present(const std::filesystem::path& checkpoint, const LossCurve& curve);

    // Where the run directory is now: it may be moved while training.
    std::filesystem::path run() const { return directory_.now(); }
    int descriptor() const { return directory_.descriptor(); }

private:
    void update_copy();
    void write(const ModelState& whole, const SaveRequest& state, SavingRanks* ranks);
    void write_and_refresh(const ModelState& model, const SaveRequest& state, SavingRanks* ranks);
    void refresh(const std::filesystem::path& checkpoint, const LossCurve& curve);
    std::filesystem::path write_checkpoint(const ModelState& model, const SaveRequest& state,
                                           const WriteOptimizer& write_parts);
    [[noreturn]] void save_elsewhere(const ModelState& model, const SaveRequest& state,
                                     const WriteOptimizer& write_parts);
    std::optional<CheckpointRef> best(const std::filesystem::path& run, const LossCurve& curve) const;
    std::string way_on(const std::filesystem::path& run) const;
    void wait_with_others();
    void flush_notes();

    const TrainPlan& plan_;
    const ModelState state_;
    const RunLog* const log_;
    Note note_;
    std::function<void()> on_progress_;
    const SaverRanks ranks_;
    RunDirectory directory_;
    std::filesystem::path known_as_;
    std::vector<std::string> notes_;  // of the saving thread; then, when it has ended, of the training thread
    std::set<int64_t> damaged_;       // the steps of checkpoints to which `best` must not point
    Attempts attempt_;
    std::optional<StateCopy> copy_;  // with plan.async_save
    std::future<void> pending_;      // the last member, so that it ends before the others do
};

}  // namespace kiln
