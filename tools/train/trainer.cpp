#include "tools/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/json_reader.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/names.h"
#include "tools/evaluate/loss.h"
#include "tools/train/run_directory.h"
#include "tools/train/sample.h"

namespace kiln {

namespace {

using Clock = std::chrono::steady_clock;

// Options that change no weight: a resumed run may change them without a note.
bool changes_nothing(const std::string& option) {
    static const char* const kNames[] = {"output", "resume", "overwrite", "gpu", "memory", "threads", "dry-run",
                                         "input", "model", "prompt", "val-input", "sample-tokens", "sample-every",
                                         "tokenizer", "top-k", "force", "top-p", "temperature", "eval-only",
                                         "log-gpu-every", "log-every", "async-save",
                                         // Of each start alone, and earlier ways to write them.
                                         "gpus", "num-processes", "process-rank", "devices-per-node", "init-method",
                                         "nccl-init-method", "server-ip", "fs-path", "launch-timeout", "rank-timeout"};
    return std::find(std::begin(kNames), std::end(kNames), option) != std::end(kNames);
}

}  // namespace

Trainer::Trainer(const TrainPlan& plan, Engine& engine, Communicator& communicator, const Hooks& hooks,
                 Communicator* saving)
    : plan_(plan),
      options_(plan.options),
      engine_(engine),
      communicator_(communicator),
      hooks_(hooks),
      loader_(train_loader_options(plan, communicator)),
      attempt_([this](const std::string& text) {
          const int rank = communicator_.rank();
          if (hooks_.notes) *hooks_.notes << (rank > 0 ? concat("rank ", rank, ": ") : "") << text << std::endl;
      }),
      schedule_{.peak = options_.learning_rate,
                .warmup_steps = options_.warmup_steps,
                .total_steps = total_steps(options_, loader_.num_sequences()),
                .final_fraction = options_.final_fraction,
                .decay_fraction = options_.decay_fraction,
                .rate = find_schedule(options_.schedule)},
      lines_(options_.log_every, columns() > 0),
      bad_steps_(plan.options),
      risen_loss_(plan.config.V) {
    if (engine.is_divided()) {
        saving_now_.emplace(engine, communicator);
        if (saving) saving_behind_.emplace(engine, *saving);
    }
    hooks_.stop_requested = [this, asked = hooks.stop_requested] { return data_error_ || (asked && asked()); };
    // The device decides alone what to skip only if nothing but a step that is not finite is skipped.
    if (engine.can_queue_updates() && communicator.size() == 1 && options_.on_nonfinite == "skip" &&
        options_.skip_loss_z == 0 && options_.skip_norm_z == 0) {
        run_ahead_.emplace(engine);
    }
    open_validation();
    if (options_.gpu_log_every > 0 && communicator_.rank() == 0) {
        gpu_ = make_gpu_monitor();
        if (!gpu_) note("--log-gpu-every (-lg): NVML is missing or does not know this GPU, so nothing is logged");
    }
    plan_.checkpoint.empty() ? start() : resume();
    loader_.seek(progress_.position);
}

void Trainer::open_logs() {
    if (options_.output.empty()) return;
    if (communicator_.rank() != 0) {
        if (saving_now_) open_saver();
        return;
    }
    if (options_.overwrite) {
        loader_.next();  // throws if the data does not fit the model
        loader_.seek(progress_.position);
        remove_run(options_.output);
    }
    // Before the logs: it tells whose they are.
    const std::filesystem::path config = std::filesystem::path(options_.output) / kConfigFile;
    if (!plan_.config_toml.empty()) write_file_atomic(config, plan_.config_toml);
    log_.emplace(options_.output, progress_.log);
    open_saver();
    find_logs();
    note_changes();
    if (plan_.checkpoint.empty()) return;
    try {
        curve_ = read_loss_curve(options_.output);
    } catch (const std::exception& error) {
        curve_.missing = error.what();
    }
    saver_->present(resumed_from_.directory, curve_);  // a killed process may have left it undone
}

void Trainer::open_saver() {
    if (saving_now_) saving_now_->check_shared(options_.output);
    saver_.emplace(
        plan_, saving_now_ ? saving_now_->state() : ModelState(engine_), log_ ? &*log_ : nullptr,
        [this](const std::string& text) { note(text); }, hooks_.on_progress,
        SaverRanks{saving_now_ ? &*saving_now_ : nullptr, saving_behind_ ? &*saving_behind_ : nullptr});
}

void Trainer::open_validation() {
    bool failed = false;
    try {
        const bool wanted = !plan_.data.val.empty() && options_.val_every > 0;
        if (wanted) val_loader_.emplace(val_loader_options(plan_, communicator_));
    } catch (const Error& error) {
        // Validation shards that were only found in the directory of the training data are no reason to refuse to
        // train.
        if (!options_.val_data.empty()) throw;
        failed = true;
        note(concat("no validation: ", error.what()));
    }
    // Each rank may have verified another part of them.
    const bool fails_on_any = kiln::stop_agreed(communicator_, [&] { return failed; });
    if (fails_on_any && !failed) note("no validation: the validation data of another rank cannot be used");
    if (fails_on_any) val_loader_.reset();
}

void Trainer::start() {
    engine_.init_weights(options_.seed);
    if (!plan_.weights.empty()) weights_hash_ = load_weights(plan_.weights, engine_);
}

void Trainer::resume() {
    const TrainerState& wanted = plan_.state;
    const uint64_t now = loader_.num_tokens(), then = wanted.train_tokens.value_or(now);
    if (then != now || wanted.train_data.value_or(loader_.fingerprint()) != loader_.fingerprint()) {
        throw UsageError(concat("--resume: the run was trained on ", then, " tokens, --input (-i) ", options_.data,
                                " holds ", now, then == now ? " other ones" : "",
                                ": not the same data; start a new run from it with -e ", plan_.checkpoint.string()));
    }
    const auto load = [&](const CheckpointRef& checkpoint) {
        const TrainerState state = load_trainer_state(checkpoint, engine_);
        KILN_CHECK(state.model == wanted.model && state.seed == wanted.seed && state.T == wanted.T &&
                       state.train_data == wanted.train_data,
                   checkpoint.directory.string(), ": belongs to another run than ", plan_.checkpoint.string());
        progress_ = state.progress, options_before_ = state.options;
    };
    const auto used = newest_checkpoint(
        options_.output, [&](const std::string& text) { note(text); }, load, plan_.checkpoint);
    KILN_CHECK(used, options_.output, ": no checkpoint can be resumed; start a new run with another --output");
    resumed_from_ = *used;
    last_saved_ = progress_.step;
    note(concat("resuming at step ", progress_.step, " from ", resumed_from_.directory.string()));
    if (progress_.step > schedule_.total_steps) {
        throw UsageError(concat("--resume: the run is at step ", progress_.step, ", which is past the last one, ",
                                schedule_.total_steps, "; set more with --max-steps (-x) or --epochs"));
    }
    if (progress_.step == schedule_.total_steps) {
        note("this is the last step of the run; to train further, set more steps with --max-steps (-x) or --epochs");
    }
}

// Logs the options that differ from those of the checkpoint.
void Trainer::note_changes() {
    for (const auto& [name, now] : plan_.values) {
        const auto found = options_before_.find(name);
        if (found == options_before_.end() || found->second == now || changes_nothing(name)) continue;
        const std::string before = excerpt(found->second);
        log([&](RunLog& log) { log.event(progress_.step, name, before + "->" + now); });
        note(concat("--", name, " is ", now, " from here on; it was ", before));
    }
}

void Trainer::note(const std::string& text) {
    if (hooks_.notes && communicator_.rank() == 0) *hooks_.notes << text << std::endl;
}

void Trainer::print(const std::string& text) {
    if (hooks_.results && communicator_.rank() == 0) *hooks_.results << text << std::endl;
}

TrainOutcome Trainer::run() {
    began_ = Clock::now();
    open_logs();
    while (true) {
        if (saver_) saver_->poll();
        const bool last = progress_.step >= schedule_.total_steps;
        const bool stopped = [&] {
            if (last) settle();
            const bool first = progress_.step == 0;
            if (val_loader_ && (last || is_due(options_.val_every)) && !validate()) return true;
            if (options_.sample_every > 0 && (last || (is_due(options_.sample_every) && !first)) && !sample())
                return true;
            if (last || (is_due(options_.checkpoint_every) && !first)) save(/*in_background=*/!last);
            if (last) return false;
            if (stop_agreed()) return true;
            if (gpu_ && is_due(options_.gpu_log_every) && !first) log_gpu();
            return !train_step();
        }();
        if (stopped && kiln::stop_agreed(communicator_, [this] { return data_error_ != nullptr; })) {
            if (progress_.step > 0) save();
            if (data_error_) std::rethrow_exception(data_error_);
            throw Error("the data of another rank cannot be read; its message says why");
        }
        if (stopped) save();
        if (stopped || last) return stopped ? TrainOutcome::stopped : TrainOutcome::finished;
    }
}

RunSummary Trainer::summary() const {
    const auto lower = [](const LossPoint& a, const LossPoint& b) { return a.loss < b.loss; };
    const auto best = std::ranges::min_element(curve_.val, lower);
    return {.step = progress_.step,
            .total_steps = schedule_.total_steps,
            .steps = steps_,
            .seconds = std::chrono::duration<double>(Clock::now() - began_).count(),
            .tokens_per_second = double(steps_) * double(options_.total_batch_tokens) / seconds_in_steps_,
            .validated_part = validated_part(),
            .best = best == curve_.val.end() ? std::nullopt : std::optional(*best)};
}

std::string Trainer::validated_part() const {
    return val_loader_ ? part_of_data(*val_loader_, options_.B, communicator_.size(), options_.val_max_batches) : "";
}

// False if a stop was requested; validation and samples are then done again after the run is resumed.
bool Trainer::validate() {
    if (progress_.validated_at == progress_.step) return true;
    settle();
    enter("validation");
    std::optional<double> loss;
    try {
        loss = mean_loss(engine_, communicator_, options_.val_max_batches, hooks_.stop_requested, *val_loader_,
                         options_.B, options_.T);
    } catch (const DataError&) {
        data_error_ = std::current_exception();
    }
    if (!loss) return false;
    progress_.validated_at = progress_.step;
    if (std::isfinite(*loss)) curve_.val.push_back({double(progress_.step), *loss});
    log([&](RunLog& log) { log.validation(progress_.step, *loss); });
    print(concat("val  ", progress_.step, "/", schedule_.total_steps, " | loss ", *loss, " | perplexity ",
                 std::exp(*loss), validated_part()));
    return true;
}

bool Trainer::sample() {
    if (progress_.sampled_at == progress_.step) return true;
    settle();
    enter("sampling");
    std::optional<std::string> text;
    // If the ranks have parts of the weights, all of them compute the sample, and all stop at the same token.
    const bool together = engine_.is_divided(), takes_part = together || communicator_.rank() == 0;
    std::exception_ptr failure;
    bool begun = false;
    const auto stop = [&] {
        begun = true;
        if (hooks_.on_progress) hooks_.on_progress();
        if (!together) return hooks_.stop_requested();
        return kiln::stop_agreed(communicator_, [&] { return failure || hooks_.stop_requested(); });
    };
    if (takes_part) {
        attempt_("sample", [&] {
            try {
                text = sample_text(plan_, engine_, uint64_t(progress_.step), stop);
            } catch (...) {
                failure = std::current_exception();
                throw;
            }
        });
    }
    if (together && failure) {
        if (begun) std::rethrow_exception(failure);  // the others wait for this rank's part of the weights
        stop();                                      // so the others do not begin
    }
    const bool failed = kiln::stop_agreed(communicator_, [&] { return failure != nullptr; });
    const bool stopped = takes_part && !failed && !text;
    if (stop_agreed() || stopped) return false;
    progress_.sampled_at = progress_.step;
    if (!text) return true;
    log([&](RunLog& log) { log.sample(progress_.step, *text); });
    print(concat("--- sample at step ", progress_.step, "\n", *text, "\n---"));
    return true;
}

nlohmann::json Trainer::state() const {
    TrainerState state{.progress = progress_,
                       .model = describe(plan_.config),
                       .seed = options_.seed,
                       .T = options_.T,
                       .loss_scale = {},
                       .train_tokens = loader_.num_tokens(),
                       .train_data = loader_.fingerprint(),
                       .options = plan_.values};
    if (const LossScale scale = engine_.loss_scale(); scale.scale > 0) state.loss_scale = scale;
    return state.to_json();
}

void Trainer::log(const std::function<void(RunLog&)>& write) {
    if (!log_) return;
    find_logs();
    attempt_("line in the logs", [&] { write(*log_); });
}

// They may be moved or removed while the run trains.
void Trainer::find_logs() {
    attempt_("log in one piece", [&] { log_->reopen(saver_->descriptor()); });
}

// Returns when the checkpoint is on the disk or, with `in_background`, when training may change the state again.
void Trainer::save(bool in_background) {
    settle();
    if (options_.output.empty()) return;
    enter("save");
    if (saver_ && last_saved_ != progress_.step) {
        if (log_) {
            find_logs();
            progress_.log = log_->position();
        }
        const SaveRequest saved{progress_.step, state(), curve_};
        in_background ? saver_->save_in_background(saved) : saver_->save(saved);
    }
    last_saved_ = progress_.step;
    bad_steps_.saved(progress_.step);
    if (in_background) return;
    if (saver_) saver_->wait();
    communicator_.barrier();
}

// Accumulates the gradient of a whole step. False if a stop was requested: then the step has not happened.
bool Trainer::accumulate() {
    enter("forward and backward");
    if (options_.overfit_one_batch) loader_.seek(0);
    const int64_t micro_tokens = int64_t(options_.B) * options_.T * communicator_.size();
    const float grad_scale = 1.0f / float(options_.total_batch_tokens);  // the loader gives no ignored targets
    engine_.zero_gradients();
    for (int64_t done = 0; done < options_.total_batch_tokens; done += micro_tokens) {
        DataLoader::Rows rows{};
        try {
            rows = loader_.next();
        } catch (const DataError&) {
            data_error_ = std::current_exception();
        }
        // Before the ranks sum their gradients: one that left would let the others wait forever.
        if (stop_agreed()) {
            engine_.take_loss();
            loader_.seek(progress_.position);
            return false;
        }
        const bool last = done + micro_tokens >= options_.total_batch_tokens;
        engine_.forward_backward({rows.tokens, rows.targets, rows.first_sample, last}, grad_scale, options_.seed);
    }
    return true;
}

bool Trainer::train_step() {
    const auto began = Clock::now();
    if (!accumulate()) return false;
    StepReport report;
    report.step = progress_.step;
    report.total_steps = schedule_.total_steps;
    report.learning_rate = learning_rate(schedule_, progress_.step);
    if (run_ahead_) {
        engine_.queue_update(optimizer_step(report.learning_rate), float(options_.grad_clip));
        count_step();
        finish_queued(run_ahead_->push(report));
        return true;
    }
    enter("reduction of gradients");
    const LossSum loss = engine_.take_loss();
    double sums[2] = {loss.sum, double(loss.tokens)};
    communicator_.all_reduce(sums, 2);
    const float scale = engine_.loss_scale().scale;
    report.loss = sums[0] / sums[1];
    report.norm = engine_.gradient_norm();
    if (const float now = engine_.loss_scale().scale; std::isfinite(report.loss) && now < scale) {
        report.overflow_scale = now;
    }
    bad_steps_.judge(report, progress_);
    enter("update");
    if (report.skipped.empty()) {
        OptimizerStep step = optimizer_step(report.learning_rate);
        if (options_.grad_clip > 0 && report.norm > options_.grad_clip) {
            step.grad_scale = float(options_.grad_clip / report.norm);
        }
        engine_.update(step);
    }
    count_step();
    report.ms = std::chrono::duration<double, std::milli>(Clock::now() - began).count();
    finish(report);
    return true;
}

// Of the next update. Where the device decides whether it is applied, the updates that it skips are counted too.
OptimizerStep Trainer::optimizer_step(float rate) {
    return {.lr = rate,
            .beta1 = options_.beta1,
            .beta2 = options_.beta2,
            .eps = options_.eps,
            .weight_decay = options_.weight_decay,
            .t = ++progress_.updates};
}

void Trainer::count_step() {
    progress_.step++;
    progress_.position = loader_.position();
}

// Waits for the queued step, if there is one. Everything that depends on that step calls this first.
void Trainer::settle() {
    if (run_ahead_) finish_queued(run_ahead_->settle());
}

void Trainer::finish_queued(std::optional<StepReport> report) {
    if (!report) return;
    bad_steps_.judge(*report, progress_);
    finish(*report);
}

// Logs a step, and acts on it if it was not finite.
void Trainer::finish(StepReport& report) {
    const double seconds = report.ms / 1e3;
    steps_++;
    seconds_in_steps_ += seconds;
    seconds_per_step_ = seconds_per_step_ == 0 ? seconds : 0.95 * seconds_per_step_ + 0.05 * seconds;
    report.tokens_per_second = double(options_.total_batch_tokens) / seconds;
    const double reached = double(flops_per_token(plan_.config, options_.T)) * report.tokens_per_second /
                           double(communicator_.size());  // on each device
    const double peak = engine_.peak_flops(reached);
    if (peak > 0) report.mfu = reached / peak;
    report.memory_bytes = engine_.memory_in_use_bytes();
    report.seconds_left = seconds_per_step_ * double(schedule_.total_steps - report.step - 1);
    if (std::isfinite(report.loss)) curve_.add_train({double(report.step), report.loss});
    log([&](RunLog& log) { log.train(report); });
    if (lines_.due(report)) print(step_line(report, columns() > 0 ? std::min(columns(), kMaxColumns) : kMaxColumns));
    if (hooks_.on_step) hooks_.on_step(report);
    if (risen_loss_.add(report.loss)) {
        note(concat(
            "warning: for ", RisenLoss::kSteps, " steps the loss has been above the first one and above ",
            formatted("%.2f", std::log(double(plan_.config.V))), ", that of a model that knows nothing (ln of ",
            "the vocabulary size): the learning rate is too high; start again with a lower --learning-rate (-l) ",
            "such as ", options_.learning_rate / 10, ", or a longer --warmup-steps (-u)"));
    }

    const BadSteps::Verdict verdict = bad_steps_.after(report);
    if (verdict.action == BadSteps::Action::stop) {
        save();
        throw Error(verdict.message);
    }
    if (!verdict.message.empty()) note(verdict.message);
    if (verdict.action == BadSteps::Action::roll_back) roll_back();
}

void Trainer::roll_back() {
    const int64_t failed_step = progress_.step;
    enter("rollback");
    if (saver_) saver_->wait();
    communicator_.barrier();  // the newest checkpoint is whole
    progress_ = bad_steps_.roll_back(progress_, saver_ ? saver_->run() : std::filesystem::path(options_.output),
                                     engine_, [&](const std::string& text) { note(text); });
    last_saved_ = progress_.step;
    log([&](RunLog& log) { log.event(failed_step, "rollback", concat("step-", progress_.step)); });
    communicator_.barrier();  // until all ranks have read the checkpoint, none may remove it
}

// Called between two steps, while the device is busy or was busy a moment ago.
void Trainer::log_gpu() {
    const GpuSample sample = gpu_->sample();
    log([&](RunLog& log) { log.gpu(progress_.step, sample); });
    note(concat("gpu  ", progress_.step, "/", schedule_.total_steps, " | ", gpu_text(sample)));
}

}  // namespace kiln
