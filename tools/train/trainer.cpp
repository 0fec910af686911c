#include "tools/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/train/loss_curve.h"
#include "tools/train/sample.h"

namespace kiln {

namespace {

// Failing so often in a row means that the weights or the rate are wrong, not the data.
constexpr int kMaxRollbacks = 3;
constexpr int kFewSteps = 50;  // too few to learn anything
constexpr int64_t kMaxNonfinite = 50;

using Clock = std::chrono::steady_clock;

// What a resumed run may change without a word, because it changes no weight.
bool changes_nothing(const std::string& option) {
    static const char* const kNames[] = {"output", "resume",      "threads",       "dry-run",      "input",     "model",
                                         "prompt", "val-input",   "sample-tokens", "sample-every", "tokenizer", "top-k",
                                         "top-p",  "temperature", "eval-only",     "log-gpu-every"};
    return std::find(std::begin(kNames), std::end(kNames), option) != std::end(kNames);
}

}  // namespace

Trainer::Trainer(const TrainPlan& plan, Engine& engine, Communicator& communicator, const Hooks& hooks)
    : plan_(plan), options_(plan.options), engine_(engine), communicator_(communicator), hooks_(hooks) {
    if (!plan.data.val.empty() && (options_.val_every > 0 || options_.eval_only)) {
        try {
            val_loader_.emplace(val_loader_options(plan, communicator));
        } catch (const Error& error) {
            // Validation shards that merely lie beside the training data are not worth refusing to train.
            if (options_.eval_only || !options_.val_data.empty()) throw;
            note(concat("no validation: ", error.what()));
        }
    }
    if (options_.eval_only) {
        if (plan.weights.empty()) {
            engine_.init_weights(options_.seed);
        } else {
            load_weights(plan.weights, engine_);
        }
        return;
    }
    run_ahead_ = engine.can_queue_updates() && communicator.size() == 1 && options_.on_nonfinite == "skip" &&
                 options_.skip_loss_z == 0 && options_.skip_norm_z == 0;
    loader_.emplace(train_loader_options(plan, communicator));
    schedule_ = {.kind = parse_schedule(options_.schedule),
                 .peak = options_.learning_rate,
                 .warmup_steps = options_.warmup_steps,
                 .total_steps = total_steps(options_, loader_->num_sequences()),
                 .final_fraction = options_.final_fraction,
                 .decay_fraction = options_.decay_fraction};
    if (options_.gpu_log_every > 0 && communicator_.rank() == 0) {
        gpu_ = make_gpu_monitor();
        if (!gpu_) note("--log-gpu-every (-lg): no NVML here that knows this GPU, so nothing is logged of it");
    }
    start();
}

void Trainer::start() {
    if (!plan_.checkpoint.empty()) {
        const uint64_t then = plan_.state.value("train_tokens", loader_->num_tokens());
        if (then != loader_->num_tokens() ||
            plan_.state.value("train_data", loader_->fingerprint()) != loader_->fingerprint()) {
            throw UsageError(
                concat("--resume: the run was trained on ", then, " tokens, --input (-i) ", options_.data, " holds ",
                       loader_->num_tokens(), then == loader_->num_tokens() ? " other ones" : "",
                       ": not the same data; start a new run from it with -e ", plan_.checkpoint.string()));
        }
        load_progress(plan_.checkpoint);
        last_saved_ = progress_.step;
        note(concat("resuming at step ", progress_.step, " from ", plan_.checkpoint.string()));
        if (progress_.step > schedule_.total_steps) {
            throw UsageError(concat("--resume: the run is at step ", progress_.step, " already, past the last one, ",
                                    schedule_.total_steps, "; give more by --max-steps (-x) or --epochs"));
        }
        if (progress_.step == schedule_.total_steps) {
            note("that is its last step already; to train on, give more by --max-steps (-x) or --epochs");
        }
    } else {
        if (options_.max_steps < 0 && schedule_.total_steps < kFewSteps) {
            note(concat("only ", schedule_.total_steps, " steps: ", options_.epochs, " times ",
                        loader_->num_sequences(), " sequences; --epochs or --max-steps (-x) make it more"));
        }
        engine_.init_weights(options_.seed);
        if (!plan_.weights.empty()) load_weights(plan_.weights, engine_);
    }
    loader_->seek(progress_.position);
    if (communicator_.rank() == 0 && !options_.output.empty()) {
        log_.emplace(options_.output, progress_.log);
        note_changes();
    }
}

void Trainer::load_progress(const std::filesystem::path& checkpoint) {
    const nlohmann::json state = load_training_state(checkpoint, engine_);
    progress_ = TrainProgress::from_json(state);
    if (const auto scale = state.find("loss_scale"); scale != state.end()) {
        KILN_CHECK(
            scale->is_array() && scale->size() == 2 && (*scale)[0].is_number() && (*scale)[1].is_number_integer(),
            checkpoint.string(), ": trainer_state.json: \"loss_scale\" is not a pair of numbers");
        engine_.set_loss_scale({(*scale)[0].get<float>(), (*scale)[1].get<int>()});
    }
}

// What differs from the options the checkpoint was trained with goes into the logs.
void Trainer::note_changes() {
    if (plan_.checkpoint.empty() || !plan_.state.contains("options")) return;
    const auto then = plan_.state["options"].get<std::map<std::string, std::string>>();
    for (const auto& [name, now] : plan_.values) {
        const auto found = then.find(name);
        if (found == then.end() || found->second == now || changes_nothing(name)) continue;
        log_->note(progress_.step, name, found->second + "->" + now);
        note(concat("--", name, " is ", now, " from here on, it was ", found->second));
    }
}

void Trainer::note(const std::string& text) {
    if (hooks_.notes && communicator_.rank() == 0) *hooks_.notes << text << std::endl;
}

// Every rank answers alike, or one would wait for ever in the next reduction.
bool Trainer::stop_agreed() {
    double requested = hooks_.stop_requested && hooks_.stop_requested() ? 1 : 0;
    if (communicator_.size() > 1) communicator_.all_reduce(&requested, 1);
    return requested > 0;
}

bool Trainer::is_due(int64_t every) const {
    return every > 0 && progress_.step % every == 0;
}

TrainOutcome Trainer::run() {
    while (true) {
        const bool last = progress_.step >= schedule_.total_steps;
        const bool go_on = [&] {
            if (last) settle();
            if ((last || is_due(options_.val_every)) && options_.val_every > 0 && !validate()) return false;
            if ((last || (is_due(options_.sample_every) && progress_.step > 0)) && options_.sample_every > 0 &&
                !sample()) {
                return false;
            }
            if (last || (is_due(options_.checkpoint_every) && progress_.step > 0)) save();
            if (last || stop_agreed()) return last;
            if (gpu_ && is_due(options_.gpu_log_every) && progress_.step > 0) log_gpu();
            return train_step();
        }();
        if (!go_on) {
            save();
            return TrainOutcome::stopped;
        }
        if (last) return TrainOutcome::finished;
    }
}

std::optional<double> Trainer::validation_loss() {
    const int B = options_.B, T = options_.T;
    const uint64_t N = val_loader_->num_sequences(), rows_a_batch = uint64_t(B) * communicator_.size();
    uint64_t batches = (N + rows_a_batch - 1) / rows_a_batch;
    if (options_.val_max_batches > 0) batches = std::min(batches, uint64_t(options_.val_max_batches));
    val_loader_->seek(0);
    std::vector<int> targets(size_t(B) * T);
    double sums[2] = {0, 0};  // losses, tokens
    for (uint64_t i = 0; i < batches; i++) {
        const DataLoader::Rows rows = val_loader_->next();
        // The loader begins anew after the last sequence; what comes round a second time does not count.
        std::copy(rows.targets, rows.targets + targets.size(), targets.begin());
        const uint64_t fresh = rows.first_sample < N ? std::min<uint64_t>(B, N - rows.first_sample) : 0;
        std::fill(targets.begin() + long(fresh * T), targets.end(), -1);
        if (fresh > 0) {
            const LossSum loss = engine_.evaluate({.tokens = rows.tokens, .targets = targets.data()});
            sums[0] += loss.sum;
            sums[1] += double(loss.tokens);
        }
        if (stop_agreed()) return std::nullopt;
    }
    communicator_.all_reduce(sums, 2);
    return sums[0] / sums[1];
}

bool Trainer::validate() {
    if (!val_loader_ || progress_.validated_at == progress_.step) return true;
    settle();
    const std::optional<double> loss = validation_loss();
    if (!loss) return false;
    progress_.validated_at = progress_.step;
    if (log_) log_->validation(progress_.step, *loss);
    if (hooks_.results && communicator_.rank() == 0) {
        *hooks_.results << concat("val  ", progress_.step, "/", schedule_.total_steps, " | loss ", *loss,
                                  " | perplexity ", std::exp(*loss))
                        << std::endl;
    }
    return true;
}

bool Trainer::sample() {
    if (progress_.sampled_at == progress_.step) return true;
    settle();
    std::optional<std::string> text = std::string();
    if (communicator_.rank() == 0) {
        text = sample_text(plan_, engine_, uint64_t(progress_.step), hooks_.stop_requested);
    }
    if (stop_agreed() || !text) return false;
    progress_.sampled_at = progress_.step;
    if (log_) log_->sample(progress_.step, *text);
    if (hooks_.results && communicator_.rank() == 0) {
        *hooks_.results << "--- sample at step " << progress_.step << "\n" << *text << "\n---" << std::endl;
    }
    return true;
}

void Trainer::save() {
    settle();
    if (options_.output.empty() || last_saved_ == progress_.step) return;
    if (log_) {
        progress_.log = log_->position();
        nlohmann::json state = progress_.to_json();
        state["model"] = describe(plan_.config);
        state["seed"] = options_.seed;
        state["T"] = options_.T;
        if (const LossScale scale = engine_.loss_scale(); scale.scale > 0) {
            state["loss_scale"] = {scale.scale, scale.good_steps};
        }
        state["train_tokens"] = loader_->num_tokens();
        state["train_data"] = loader_->fingerprint();
        state["options"] = plan_.values;
        const std::filesystem::path run = options_.output;
        const auto path = save_checkpoint(run, progress_.step, engine_, state, plan_.tokenizer);
        prune_checkpoints(run, options_.keep, options_.major_every);
        try {
            write_file_atomic(run / "loss.svg", loss_svg(read_loss_curve(run), run.filename().string()));
        } catch (const Error& error) {
            // A log that was damaged since is no reason to end the training, which is saved already.
            note(concat("no loss.svg: ", error.what()));
        }
        note("checkpoint " + path.string());
    }
    last_saved_ = progress_.step;
    if (progress_.step > failed_at_) rollbacks_ = 0;
    communicator_.barrier();
}

// Adds up the gradient of a whole step. False if a stop was requested: the step has not happened then.
bool Trainer::accumulate() {
    if (options_.overfit_one_batch) loader_->seek(0);
    const int64_t micro_tokens = int64_t(options_.B) * options_.T * communicator_.size();
    const float grad_scale = 1.0f / float(options_.total_batch_tokens);  // no target of the loader's is ignored
    engine_.zero_gradients();
    for (int64_t done = 0; done < options_.total_batch_tokens; done += micro_tokens) {
        const DataLoader::Rows rows = loader_->next();
        engine_.forward_backward({rows.tokens, rows.targets, rows.first_sample}, grad_scale, options_.seed);
        if (stop_agreed()) {
            engine_.take_loss();
            loader_->seek(progress_.position);
            return false;
        }
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
        const auto before = std::exchange(queued_, report);
        if (before) take_queued(*before);  // the device has this step to go on with meanwhile
        return true;
    }
    const LossSum loss = engine_.take_loss();
    double sums[2] = {loss.sum, double(loss.tokens)};
    communicator_.all_reduce(sums, 2);
    engine_.reduce_gradients(communicator_);
    const float scale = engine_.loss_scale().scale;
    BatchResult batch{.loss = sums[0] / sums[1], .norm = engine_.gradient_norm()};
    // Only the scaled gradient is too large: the next step's is not, and nothing is wrong with this one.
    batch.overflow = std::isfinite(batch.loss) && engine_.loss_scale().scale < scale;
    judge(batch, report);
    if (report.skipped.empty()) {
        OptimizerStep step = optimizer_step(report.learning_rate);
        if (options_.grad_clip > 0 && batch.norm > options_.grad_clip) {
            step.grad_scale = float(options_.grad_clip / batch.norm);
        }
        engine_.update(step);
    }
    count_step();
    finish(batch, report, std::chrono::duration<double>(Clock::now() - began).count());
    return true;
}

// Waits for the step that is queued, if one is.
void Trainer::settle() {
    if (const auto last = std::exchange(queued_, std::nullopt)) take_queued(*last);
}

// Waits for the oldest queued step, `report` as far as it was known, and reports it.
void Trainer::take_queued(StepReport report) {
    const StepResult result = engine_.take_update();
    const BatchResult batch{.loss = result.loss.sum / double(result.loss.tokens), .norm = result.norm};
    judge(batch, report);
    finish(batch, report, result.seconds);
}

// Of the next update. Where the device decides whether it is applied, those that it passes over count too.
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
    progress_.position = loader_->position();
}

// What the batch's loss and gradient say, and why it is skipped, if it is.
void Trainer::judge(const BatchResult& batch, StepReport& report) {
    report.loss = batch.loss;
    report.norm = batch.norm;
    report.loss_z = progress_.loss_window.add(batch.loss);
    report.norm_z = progress_.norm_window.add(batch.norm);
    // Comparisons with NaN, which z is until its window is full, are false.
    if (batch.overflow) {
        report.skipped = concat("gradient overflows, loss scale now ", engine_.loss_scale().scale);
    } else if (!std::isfinite(batch.loss) || !std::isfinite(batch.norm)) {
        report.skipped = concat(std::isfinite(batch.loss) ? "gradient" : "loss", " is not finite");
    } else if (options_.skip_loss_z > 0 && report.loss_z > options_.skip_loss_z) {
        report.skipped = concat("loss is an outlier, above z ", options_.skip_loss_z);
    } else if (options_.skip_norm_z > 0 && report.norm_z > options_.skip_norm_z) {
        report.skipped = concat("norm is an outlier, above z ", options_.skip_norm_z);
    }
}

// The step is done: its line in the logs, and what follows if it was not finite.
void Trainer::finish(const BatchResult& batch, StepReport& report, double seconds) {
    seconds_a_step_ = seconds_a_step_ == 0 ? seconds : 0.95 * seconds_a_step_ + 0.05 * seconds;
    report.ms = 1e3 * seconds;
    report.tokens_per_second = double(options_.total_batch_tokens) / seconds;
    const double peak = engine_.peak_flops() * communicator_.size();
    if (peak > 0) report.mfu = double(flops_per_token(plan_.config, options_.T)) * report.tokens_per_second / peak;
    report.memory_bytes = engine_.memory_in_use_bytes();
    report.seconds_left = seconds_a_step_ * double(schedule_.total_steps - report.step - 1);
    if (log_) log_->train(report);
    if (hooks_.results && communicator_.rank() == 0) *hooks_.results << step_line(report) << std::endl;
    if (hooks_.on_step) hooks_.on_step(report);
    if (batch.overflow || (std::isfinite(batch.loss) && std::isfinite(batch.norm))) {
        nonfinite_in_a_row_ = 0;
    } else {
        handle_nonfinite(batch, report.step);
    }
}

// Between two steps, when the device is at work or was just now.
void Trainer::log_gpu() {
    const GpuSample sample = gpu_->sample();
    if (log_) log_->gpu(progress_.step, sample);
    note(concat("gpu  ", progress_.step, "/", schedule_.total_steps, " | ", gpu_text(sample)));
}

void Trainer::handle_nonfinite(const BatchResult& batch, int64_t step) {
    const std::string what =
        concat("step ", step + 1, ": loss ", batch.loss, ", gradient norm ", batch.norm, ": not finite, not applied");
    nonfinite_in_a_row_++;
    if (options_.on_nonfinite == "rollback") {
        note(what);
        roll_back();
        return;
    }
    if (options_.on_nonfinite == "stop" || nonfinite_in_a_row_ >= kMaxNonfinite) {
        save();
        throw Error(concat(what,
                           options_.on_nonfinite == "stop" ? " (--on-nonfinite stop)"
                                                           : concat(", ", nonfinite_in_a_row_, " times in a row"),
                           "; try a lower --learning-rate, a longer warm-up, or --on-nonfinite rollback"));
    }
    note(what);
}

// Back to the newest checkpoint's weights, but on to the data after the batch that failed: the same batch after the
// same weights would fail again.
void Trainer::roll_back() {
    failed_at_ = std::max(failed_at_, progress_.step);
    KILN_CHECK(++rollbacks_ <= kMaxRollbacks, "step ", progress_.step, ": not finite again after ", kMaxRollbacks,
               " rollbacks; resume with a lower --learning-rate");
    const auto newest = newest_checkpoint(options_.output, [&](const std::string& text) { note(text); });
    KILN_CHECK(newest, "--on-nonfinite rollback: ", options_.output,
               " holds no checkpoint yet; try a lower --learning-rate");
    const uint64_t position = progress_.position;
    const int64_t failed_step = progress_.step;
    const LossScale scale = engine_.loss_scale();  // lowered for a reason
    load_progress(newest->directory);
    if (engine_.loss_scale().scale > scale.scale) engine_.set_loss_scale(scale);
    progress_.position = position;
    last_saved_ = progress_.step;
    if (log_) log_->note(failed_step, "rollback", concat("step-", progress_.step));
    note(concat("rolled back to ", newest->directory.string()));
    communicator_.barrier();  // nobody prunes what another still reads
}

nlohmann::json TrainProgress::to_json() const {
    return {{"format", 1},
            {"step", step},
            {"updates", updates},
            {"position", position},
            {"validated_at", validated_at},
            {"sampled_at", sampled_at},
            {"loss_window", loss_window.values()},
            {"norm_window", norm_window.values()},
            {"main_log_bytes", log.main_bytes},
            {"metrics_bytes", log.metrics_bytes}};
}

TrainProgress TrainProgress::from_json(const nlohmann::json& state) {
    try {
        TrainProgress p;
        state.at("step").get_to(p.step);
        state.at("updates").get_to(p.updates);
        state.at("position").get_to(p.position);
        state.at("validated_at").get_to(p.validated_at);
        state.at("sampled_at").get_to(p.sampled_at);
        p.loss_window = OutlierWindow(state.at("loss_window").get<std::vector<double>>());
        p.norm_window = OutlierWindow(state.at("norm_window").get<std::vector<double>>());
        state.at("main_log_bytes").get_to(p.log.main_bytes);
        state.at("metrics_bytes").get_to(p.log.metrics_bytes);
        return p;
    } catch (const nlohmann::json::exception& error) {
        throw Error(concat("trainer_state.json: ", error.what(), "; resume from an older checkpoint"));
    }
}

}  // namespace kiln
