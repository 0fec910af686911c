#include "tools/train/saver.h"

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <system_error>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/links.h"
#include "tools/checkpoint/names.h"

namespace kiln {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

namespace {

// The lowest priority, so that saving takes the time that the threads that compute leave. On two cores, both computing,
// a save of 49 MiB costs training 58 ms so, 81 ms with 10 and 142 ms with 0.
constexpr int kNice = 19;

}  // namespace

bool Attempts::operator()(const char* what, const std::function<void()>& make) {
    try {
        make();
        failing_.erase(what);
        return true;
    } catch (const std::exception& error) {
        if (failing_.insert(what).second) note_(concat("no ", what, ": ", error.what()));
        return false;
    }
}

Saver::Saver(const TrainPlan& plan, ModelState state, const RunLog* log, Note note, std::function<void()> on_progress,
             SaverRanks ranks)
    : plan_(plan),
      state_(std::move(state)),
      log_(log),
      note_(std::move(note)),
      on_progress_(std::move(on_progress)),
      ranks_(ranks),
      directory_(plan.options.output),
      known_as_(directory_.now()),
      attempt_([this](const std::string& text) { notes_.push_back(text); }) {
    bool in_background = plan.async_save;
    if (ranks_.now) in_background = ranks_.now->all_of(in_background && ranks_.behind);
    if (in_background) copy_.emplace(state_, log_ != nullptr);
}

Saver::~Saver() {
    try {
        wait();
    } catch (const std::exception& error) {
        note_(error.what());
    }
}

void Saver::save(const SaveRequest& state) {
    wait();
    pending_ = std::async(std::launch::deferred, [&] { write(state_, state, ranks_.now); });
    wait();
}

void Saver::save_in_background(const SaveRequest& state) {
    if (!copy_) return save(state);
    const auto began = std::chrono::steady_clock::now();
    wait();
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - began;
    if (waited > 1s) {
        note_(concat("training waited ", formatted("%.1f", waited.count()), " s for the checkpoint before; ",
                     "--checkpoint-every (-n) is short for this disk"));
    }
    update_copy();
    const auto write_copy = [this, state] { write(copy_->state(), state, ranks_.behind); };
    try {
        pending_ = std::async(std::launch::async, [write_copy] {
            setpriority(PRIO_PROCESS, id_t(gettid()), kNice);  // of this thread alone
            write_copy();
        });
    } catch (const std::system_error&) {  // the system has no thread left
        pending_ = std::async(std::launch::deferred, write_copy);
        wait();
    }
}

void Saver::update_copy() {
    if (ranks_.now && !log_) ranks_.now->serve(state_);
    copy_->update(state_);
    if (ranks_.now && log_) ranks_.now->end("");
}

void Saver::poll() {
    if (pending_.valid() && pending_.wait_for(0s) == std::future_status::ready) wait();
}

void Saver::wait() {
    if (!pending_.valid()) return;
    if (ranks_.behind) wait_with_others();
    std::exception_ptr failure;
    try {
        pending_.get();
    } catch (...) {
        failure = std::current_exception();
    }
    flush_notes();
    if (failure) std::rethrow_exception(failure);
}

// Until the save in the background has ended. This rank counts as waiting only while its saving thread waits for other
// ranks: if its own disk hangs, it is the one that hangs.
void Saver::wait_with_others() {
    std::shared_ptr<void> waiting;
    while (pending_.wait_for(20ms) == std::future_status::timeout) {
        if (ranks_.behind->waits() != bool(waiting)) waiting = waiting ? nullptr : ranks_.now->waiting();
    }
}

void Saver::flush_notes() {
    for (const std::string& text : std::exchange(notes_, {})) note_(text);
}

void Saver::write(const ModelState& whole, const SaveRequest& state, SavingRanks* ranks) {
    ModelState model = whole;
    if (on_progress_) {
        model.read = [&](const Arena& arena, size_t offset, std::span<float> out) {
            on_progress_();
            whole.read(arena, offset, out);
        };
    }
    if (!log_) return ranks->serve(model);
    if (!ranks) return write_and_refresh(model, state, ranks);
    try {
        write_and_refresh(model, state, ranks);
    } catch (const std::exception& error) {
        ranks->end(error.what());
        throw;
    }
    ranks->end("");
}

void Saver::write_and_refresh(const ModelState& model, const SaveRequest& state, SavingRanks* ranks) {
    const WriteOptimizer write_parts = [&](const fs::path& directory) { return ranks->write_parts(directory, model); };
    attempt_("synced log", [&] { log_->sync(); });  // before the manifest that counts on its length
    const fs::path checkpoint = write_checkpoint(model, state, ranks ? write_parts : nullptr);
    damaged_.erase(state.step);
    notes_.push_back("checkpoint " + checkpoint.string());
    refresh(checkpoint, state.curve);
}

fs::path Saver::write_checkpoint(const ModelState& model, const SaveRequest& state, const WriteOptimizer& write_parts) {
    constexpr int kTries = 20;  // `rm -rf` may take a part of a save with it, but it ends
    for (int tries = 1;; tries++) {
        const fs::path run = directory_.now();
        if (run.empty()) save_elsewhere(model, state, write_parts);
        if (run != known_as_) notes_.push_back(concat(known_as_.string(), ": is now ", run.string()));
        known_as_ = run;
        try {
            const fs::path checkpoint = save_checkpoint(
                run, state.step, model, state.trainer_state, plan_.files,
                [this](const std::string& text) { notes_.push_back(text); }, write_parts);
            if (directory_.now() == run) return checkpoint;
        } catch (const RemovedError&) {
            if (directory_.now() == run && tries == kTries) throw;
        } catch (const Error& error) {
            if (directory_.now() == run) throw Error(error.what() + way_on(run));
        }  // it was moved or removed in the middle of the save
    }
}

// What is left when a checkpoint cannot be written.
std::string Saver::way_on(const fs::path& run) const {
    const double needed = double(state_bytes(plan_.config, plan_.engine_options().optimizer));
    std::error_code error;
    const double free = double(fs::space(run, error).available);
    std::string text;
    if (!error && free < needed) {
        text = concat("; a checkpoint needs ", bytes_text(needed), ", but only ", bytes_text(free), " are free there");
    }
    try {
        const auto whole = newest_checkpoint(run, nullptr);
        if (whole) text += concat("; ", whole->directory.string(), " is whole: resume with --resume -o ", run.string());
    } catch (const std::exception&) {
        // The disk may not be readable either. The failure of the save is the one to tell.
    }
    return text;
}

// The run directory was removed while training. Nothing there can be restored but its settings and this checkpoint; so
// they get a directory, and the training ends.
void Saver::save_elsewhere(const ModelState& model, const SaveRequest& state, const WriteOptimizer& write_parts) {
    fs::path run = plan_.options.output;
    if (!run.has_filename()) run = run.parent_path();
    while (make_directories(run).empty()) run += "-saved";  // the name may be that of another run by now
    const RunLock lock(run);
    if (!plan_.config_toml.empty()) write_file_atomic(run / kConfigFile, plan_.config_toml);
    save_checkpoint(run, state.step, model, state.trainer_state, plan_.files, nullptr, write_parts);
    throw Error(concat(plan_.options.output, ": was removed while the run trained in it. Step ", state.step,
                       " is saved; resume with --resume -o ", run.string()));
}

void Saver::present(const fs::path& checkpoint, const LossCurve& curve) {
    wait();
    while (const auto best = this->best(checkpoint.parent_path(), curve)) {
        try {
            verify_checkpoint(best->directory);
            break;
        } catch (const Error& error) {
            note_(concat(best->directory.string(), ": had the lowest validation loss, but is damaged: ", error.what()));
            damaged_.insert(best->step);
        }
    }
    refresh(checkpoint, curve);
    flush_notes();
}

std::optional<CheckpointRef> Saver::best(const fs::path& run, const LossCurve& curve) const {
    std::vector<std::pair<int64_t, double>> losses;
    for (const LossPoint& point : curve.val) {
        if (!damaged_.contains(int64_t(point.step))) losses.emplace_back(int64_t(point.step), point.loss);
    }
    return best_checkpoint(run, losses);
}

void Saver::refresh(const fs::path& checkpoint, const LossCurve& curve) {
    const fs::path run = checkpoint.parent_path(), config = run / kConfigFile;
    attempt_("settings of the run", [&] {
        if (plan_.config_toml.empty() || fs::exists(config)) return;
        write_file_atomic(config, plan_.config_toml);
        notes_.push_back(concat(config.string(), ": was removed while the run trained; it is written again"));
    });
    attempt_("link to the newest checkpoint", [&] { link_checkpoint(run, kModelLink, checkpoint); });
    attempt_("link to the best checkpoint", [&] {
        if (const auto best = this->best(run, curve)) {
            link_checkpoint(run, kBestLink, best->directory);
        } else if (!damaged_.empty() && fs::is_symlink(run / kBestLink)) {
            fs::remove(run / kBestLink);
        }
    });
    attempt_(kLossCurve, [&] {
        KILN_CHECK(curve.missing.empty(), curve.missing);
        const fs::path path = run / kLossCurve;
        const std::string svg = loss_svg(curve, run_title(run));
        KILN_CHECK(may_replace_curve(path, svg), path.string(),
                   ": is not a loss curve that Kiln has drawn; it stays as it is");
        write_file_atomic(path, svg);
    });
    attempt_("removal of old checkpoints",
             [&] { prune_checkpoints(run, plan_.options.keep, plan_.options.major_every, checkpoint); });
}

}  // namespace kiln
