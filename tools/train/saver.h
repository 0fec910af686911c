#pragma once
// Saves a run: its checkpoints, behind training if there is memory for a copy of the state, and then what shows the
// newest one: the links and the loss curve. Removes the checkpoints that are too many.
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

namespace kiln {

using Note = std::function<void(const std::string&)>;

// Does what a training can do without: a file system without links, or a disk without room for a log, does not end it.
// A failure is noted once, and again when it has worked in between. Returns whether it was done.
class Attempts {
public:
    explicit Attempts(Note note) : note_(std::move(note)) {}
    bool operator()(const char* what, const std::function<void()>& make);

private:
    Note note_;
    std::set<std::string> failing_;
};

// What a save writes, at a step.
struct SavedState {
    int64_t step = 0;
    nlohmann::json trainer_state;
    LossCurve curve;  // of the whole run
};

class Saver {
public:
    // All references must outlive the saver. `note` is called only within calls of the saver.
    Saver(const TrainPlan& plan, const Engine& engine, const RunLog& log, Note note);
    ~Saver();  // waits; a failure is noted

    // Writes a checkpoint; returns when it is on the disk. Throws Error. Two saves never overlap: waits for the one
    // before, and throws what that one threw.
    void save(const SavedState& state);
    // Copies the state and returns; another thread writes. Without --async-save it does what save() does.
    void save_behind(const SavedState& state);
    void poll();  // reports a save that has ended, and throws what it threw
    void wait();  // the same after it has ended

    // Makes the links, the curve and the number of checkpoints right for the newest one, when a run is resumed.
    void present(const std::filesystem::path& checkpoint, const LossCurve& curve);

    // Where the run directory is now: it may be moved while training.
    std::filesystem::path run() const { return directory_.now(); }
    int descriptor() const { return directory_.descriptor(); }

private:
    void write(const ModelState& model, const SavedState& state);
    void refresh(const std::filesystem::path& checkpoint, const LossCurve& curve);
    std::filesystem::path write_checkpoint(const ModelState& model, const SavedState& state);
    [[noreturn]] void save_elsewhere(const ModelState& model, const SavedState& state);
    std::optional<CheckpointRef> best(const std::filesystem::path& run, const LossCurve& curve) const;
    std::string way_on(const std::filesystem::path& run) const;
    void flush_notes();

    const TrainPlan& plan_;
    const Engine& engine_;
    const RunLog& log_;
    Note note_;
    RunDirectory directory_;
    std::filesystem::path known_as_;
    std::vector<std::string> notes_;  // of the save in progress; then of this thread
    std::set<int64_t> damaged_;       // the steps of checkpoints that `best` must not be a link to
    Attempts attempt_;
    std::optional<StateCopy> copy_;  // with --async-save
    std::future<void> pending_;      // the last member, so that it ends before the others do
};

}  // namespace kiln
