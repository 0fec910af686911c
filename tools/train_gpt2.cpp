// train_gpt2 and train_gpt2cu: one source, linked against one backend or the other.
#include <unistd.h>

#include <cctype>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cpu_reference/interface/backend.h"
#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/engine.h"
#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/names.h"
#include "tools/cli/openmp_wait.h"
#include "tools/cli/options.h"
#include "tools/cli/run_program.h"
#include "tools/cli/standard_streams.h"
#include "tools/cli/stop_signal.h"
#include "tools/cli/terminal.h"
#include "tools/cli/threads.h"
#include "tools/evaluate/loss.h"
#include "tools/train/device.h"
#include "tools/train/plan.h"
#include "tools/train/run_directory.h"
#include "tools/train/trainer.h"

namespace kiln {
namespace {

constexpr int kStopped = 3;

void report(const std::string& text) {
    std::cerr << text << std::endl;
}

int evaluate_only(const TrainPlan& plan, Engine& engine, Communicator& communicator) {
    if (plan.weights.empty()) {
        engine.init_weights(plan.options.seed);
    } else {
        load_weights(plan.weights, engine);
    }
    DataLoader loader(val_loader_options(plan, communicator));
    const TrainOptions& o = plan.options;
    const auto loss = mean_loss(engine, communicator, o.val_max_batches, nullptr, loader, o.B, o.T);
    const std::string part = part_of_data(loader, o.B, communicator.size(), o.val_max_batches);
    std::cout << formatted("loss %.6f\nperplexity %.4f\n", *loss, std::exp(*loss));
    if (!part.empty()) report("computed from" + part.substr(2) + "; -m 0 uses all of the validation data");
    return 0;
}

// Until the weights are there, a stop signal ends the program at once, however long it reads data or verifies
// checkpoints. config.toml is the run that --resume then starts, so that a script may always resume after exit code 3.
void end_at_signals_before_training(const TrainOptions& options, const std::string& config_toml) {
    const std::filesystem::path run = options.output;
    const bool resumable = !run.empty() && !options.overwrite;
    const bool fresh = resumable && !options.resume;
    end_at_stop_signals([=](int signal) {
        std::string next = resumable ? "resume with --resume -o " + run.string() : "the same command starts again";
        try {
            if (fresh && list_checkpoints(run).empty() && !std::filesystem::exists(run / kConfigFile)) {
                std::filesystem::create_directories(run);
                write_file_atomic(run / kConfigFile, config_toml);
            }
        } catch (const std::exception& error) {
            next = concat("the same command starts again (", error.what(), ")");
        }
        write_error_line(concat("stopped by ", signal_name(signal), " before the first step; ", next));
        ::_exit(kStopped);
    });
}

int train(const TrainPlan& plan, Engine& engine, Communicator& communicator, const ProgramNames& names) {
    Trainer trainer(plan, engine, communicator,
                    {.results = &std::cout,
                     .notes = &std::cerr,
                     .stop_requested = [] { return stop_signal() != 0; },
                     .columns = [] { return terminal_columns(STDOUT_FILENO); }});
    catch_stop_signals();
    std::cout.exceptions(std::ios::goodbit);  // the training is worth more than its lines; the end tells if any is lost
    const TrainOutcome outcome = trainer.run();
    report(summary_text(trainer.summary(), plan, names));
    if (outcome == TrainOutcome::finished) return 0;
    const std::string where = concat("stopped by ", signal_name(stop_signal()), " at step ", trainer.progress().step);
    KILN_CHECK(!plan.options.output.empty(), where, "; nothing was written, because --output (-o) is empty");
    report(where);  // the summary has the command that resumes it
    return kStopped;
}

std::string peak_text(const Engine& engine) {
    const double peak = engine.peak_flops();
    if (peak == 0) return "its peak is not known, so there is no MFU";
    std::string rate = count_text(peak);  // "989.40T"
    if (std::isalpha(static_cast<unsigned char>(rate.back())))
        rate = concat(rate.substr(0, rate.size() - 1), " ", rate.back());
    return concat("peak ", rate, "FLOP/s, ", engine.peak_is_measured() ? "measured" : "from its data sheet");
}

std::string memory_text(const TrainPlan& plan, const Device& device) {
    std::string parts;
    size_t planned = 0;
    for (const MemoryItem& item : plan_memory(plan)) {
        parts += concat(parts.empty() ? "" : ", ", item.kind, " ", bytes_text(double(item.bytes)));
        planned += item.bytes;
    }
    return concat("memory: ", parts, "; total ", bytes_text(double(planned)),
                  device.free_bytes > 0 ? concat(", ", bytes_text(double(device.free_bytes)), " free") : "");
}

struct CommandLine {
    TrainOptions options;
    OptionSet set;

    explicit CommandLine(const std::string& program)
        : set(program, "Trains a language model on shards of tokens.",
              {"-i shards -e llama:layers=4,dim=192,heads=6,kv_heads=3,ctx=128 -b 8 -x 300 -v 100 -o runs/mine",
               "-o runs/mine --resume -x 600", "-i shards -e models/qwen2.5-0.5b -l 0.00002 -x 500 -o runs/tuned",
               "-e gpt2 -b 4 -t 1024 --dry-run"}) {
        add_train_options(set, options);
    }
};

// The options of the run that is to be resumed or evaluated, whose values those keep that are not given: config.toml
// or, if it is lost, what the newest checkpoint holds. Empty: there is neither.
ConfigText own_config(const TrainOptions& o) {
    if (!(o.resume || o.eval_only) || o.output.empty()) return {};
    const std::filesystem::path path = std::filesystem::path(o.output) / kConfigFile;
    if (std::filesystem::exists(path)) return {path, read_file(path, kMaxConfigBytes)};
    TrainerState state;
    const auto newest = newest_checkpoint(
        o.output, nullptr, [&](const CheckpointRef& checkpoint) { state = read_trainer_state(checkpoint); });
    if (state.options.empty()) return {};
    const std::string file = newest->directory / "trainer_state.json";
    report(concat(path.string(), ": is missing; the options are taken from ", file));
    std::string text;
    for (const auto& [name, value] : state.options) {
        const bool of_one_start = name == "resume" || name == "overwrite";
        if (!of_one_start) text += concat(name, " = ", value, "\n");
    }
    return {concat(file, ": options"), text};
}

int run(const std::string& program, const std::vector<std::string>& args, const std::filesystem::path& folder) {
    auto line = std::make_unique<CommandLine>(program);
    if (!line->set.parse(args)) return 0;
    const bool model_given = line->set.given("model"), batches_given = line->set.given("val-max-batches");
    if (line->options.resume) end_at_signals_before_training(line->options, "");
    const ConfigText own = own_config(line->options);
    if (!own.text.empty()) {
        line = std::make_unique<CommandLine>(program);
        line->set.parse(args, own);
    }
    TrainOptions& o = line->options;
    if (o.eval_only) {  // of the run's newest checkpoint, unless another model is named
        o.resume = false;
        if (!batches_given) o.val_max_batches = 0;
        if (!model_given && !o.output.empty() && !list_checkpoints(o.output).empty()) o.model = o.output;
    }
    if (!line->set.given("output") && !o.resume) o.output = default_run_directory();
    const auto end_at_signals = [&, toml = line->set.to_toml()] {
        if (!o.dry_run && !o.eval_only) end_at_signals_before_training(o, toml);
    };
    end_at_signals();
    set_threads(o.threads);

    const Device device = choose_device(o, program, report);
    const auto inherited = [&](const std::string& name) {
        return !own.text.empty() && line->set.source(name).starts_with(own.file + ":");
    };
    fit_to_device(o, device, program, inherited, report);

    const auto communicator = make_single_communicator();
    TrainPlan plan = make_plan(o, model_given, communicator->size(), report, device);
    if (o.dry_run) {
        std::cout << describe_plan(plan, device);
        check_memory(plan.config, plan.options, device);
        return 0;
    }
    check_memory(plan.config, plan.options, device);
    o = plan.options;
    plan.values = line->set.values();
    std::optional<RunLock> lock;
    if (!o.output.empty() && !o.eval_only) {
        catch_stop_signals();  // it creates and removes files, and does not take long
        lock.emplace(prepare_run_directory(plan));
        end_at_signals();
    } else if (!o.eval_only) {
        report("--output (-o) is empty: no logs and no checkpoints will be written");
    }
    report(concat(describe(plan.config), ", ", count_text(double(count_parameters(plan.config))), " parameters"));
    const auto engine = make_engine(plan.config, plan.engine_options());
    report(concat("on ", engine->device_name(), " in ", o.dtype, ", ", peak_text(*engine)));
    if (!engine->attention().empty()) report(concat("attention: ", engine->attention()));
    report(memory_text(plan, device));
    if (o.eval_only) return evaluate_only(plan, *engine, *communicator);

    o.resume = o.overwrite = false;  // they belong to this start, not to the run
    plan.config_toml = line->set.to_toml();
    const std::string prefix = folder.empty() ? "" : folder.string() + "/";
    return train(plan, *engine, *communicator, {prefix + program, prefix + (backend_is_gpu() ? "kilncu" : "kiln")});
}

}  // namespace
}  // namespace kiln

int main(int argc, char** argv) {
    kiln::block_signals();
    kiln::end_at_signals_before_training({}, "");
    kiln::sleep_when_threads_wait(argv);
    return kiln::run_program(argc, argv, "train_gpt2",
                             "use a smaller model, -b or -t; --dry-run says how much memory is needed",
                             [&](const std::string& program, const std::vector<std::string>& args) {
                                 const auto folder = std::filesystem::path(argc > 0 ? argv[0] : "").parent_path();
                                 return kiln::run(program, args, folder);
                             });
}
