// train_gpt2 and train_gpt2cu: one source, linked against one backend or the other.
#include <sys/wait.h>
#include <unistd.h>

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
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
#include "tools/launch/control.h"
#include "tools/launch/spawn.h"
#include "tools/launch/watched_communicator.h"
#include "tools/launch/world.h"
#include "tools/train/device.h"
#include "tools/train/plan.h"
#include "tools/train/rank_plan.h"
#include "tools/train/run_directory.h"
#include "tools/train/trainer.h"

namespace kiln {
namespace {

constexpr int kStopped = 3;
constexpr const char* kWeights = "the weights of --model (-e) (their hash)";
constexpr const char* kValidationData = "the validation data (lengths and checksums)";
constexpr const char* kOutOfMemory = "use a smaller model, -b or -t; --dry-run says how much memory is needed";

void report(const std::string& text) {
    std::cerr << text << std::endl;
}

// Of this machine. Asked in a process of its own: the one that starts the ranks must not touch the driver.
int devices_here() {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(std::min(device_count(), 255));
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return 0;
    return WEXITSTATUS(status);
}

// This process among the others of its training.
struct Ranks {
    World world;
    std::unique_ptr<ControlCommunicator> control;  // null: there is one rank
    // By which they compute: CPUs by MPI if mpirun has started them. Null: by `control`. It ends first.
    std::unique_ptr<Communicator> communicator;
    std::string gpu;  // the one of this rank; empty: that of the launcher, or of the driver

    bool first() const { return world.rank == 0; }
    std::function<void(const std::string&)> reporter() const {
        return first() ? report : [](const std::string&) {};
    }
    // Before the driver is called.
    void connect(const LaunchOptions& options, std::map<std::string, std::string> values) {
        if (world.size == 1) return;
        if (!backend_is_gpu() && world.launcher == "mpirun" && std::getenv("PMIX_RANK") && built_with_mpi()) {
            communicator = make_mpi_communicator();
            KILN_CHECK(communicator->size() == world.size, "MPI has started ", communicator->size(),
                       " processes, but its environment says ", world.size,
                       "; use the mpirun of the MPI that this program was built with");
            find_rank_0();
        }
        control = std::make_unique<ControlCommunicator>(world, control_options(options));
        control->watch().set_phase("the start", -1);
        if (communicator) {
            communicator = std::make_unique<WatchedCommunicator>(std::move(communicator), control->watch());
        }
        // After the other ranks can be told that there is none, and before the driver is called.
        gpu = backend_is_gpu() ? own_gpu(world, this_environment()) : "";
        if (!gpu.empty()) ::setenv("CUDA_VISIBLE_DEVICES", gpu.c_str(), 1);
        // A host may have the same files elsewhere; their content is compared later.
        for (const char* own : {"config", "input", "log-every", "threads", "tokenizer", "val-input"}) values.erase(own);
        std::map<std::string, std::string> spelled;
        for (const auto& [name, value] : values) spelled.emplace("--" + name, value);
        spelled.emplace("--rank-timeout", std::to_string(options.rank_timeout_s));
        control->agree(spelled);
    }
    // MPI tells all ranks where it listens.
    void find_rank_0() {
        struct {
            char host[256];
            int port;
        } at{};
        if (first()) {
            Socket listening = listen_at(0, world.on_one_host());
            at.port = port_of(listening);
            host_name().copy(at.host, sizeof at.host - 1);
            world.listen_fd = ::dup(listening.fd());
        }
        communicator->broadcast(&at, sizeof at, 0);
        if (!world.on_one_host()) world.master_addr = at.host;
        world.master_port = at.port;
    }
    Communicator& all() {
        if (!control && !communicator) communicator = make_single_communicator();
        return communicator ? *communicator : *control;
    }
};

// Until the weights are there, a stop signal ends the program at once, however long it reads data or verifies
// checkpoints. config.toml is the run that --resume then starts, so that a script may always resume after exit code 3.
void end_at_signals_before_training(const TrainOptions& options, const std::string& config_toml, const Ranks& ranks) {
    const std::filesystem::path run = options.output;
    const bool resumable = !run.empty() && !options.overwrite;
    const bool fresh = resumable && !options.resume && ranks.first();
    end_at_stop_signals([=, control = ranks.control.get()](int signal) {
        std::string next = resumable ? "resume with --resume -o " + run.string() : "the same command starts again";
        try {
            if (fresh && list_checkpoints(run).empty() && !std::filesystem::exists(run / kConfigFile)) {
                std::filesystem::create_directories(run);
                write_file_atomic(run / kConfigFile, config_toml);
            }
        } catch (const std::exception& error) {
            next = concat("the same command starts again (", error.what(), ")");
        }
        const std::string stopped = concat("stopped by ", signal_name(signal), " before the first step");
        write_error_line(concat(stopped, "; ", next));
        if (control) control->watch().end_others(kStopped, stopped);
        ::_exit(kStopped);
    });
}

int evaluate_only(const TrainPlan& plan, Engine& engine, Ranks& ranks) {
    Communicator& communicator = ranks.all();
    std::map<std::string, std::string> inputs;
    if (plan.weights.empty()) {
        engine.init_weights(plan.options.seed);
    } else {
        inputs.emplace(kWeights, std::to_string(load_weights(plan.weights, engine)));
    }
    DataLoader loader(val_loader_options(plan, communicator));
    inputs.emplace(kValidationData, std::to_string(loader.fingerprint()));
    if (ranks.control) ranks.control->agree(inputs);
    const TrainOptions& o = plan.options;
    const auto loss = mean_loss(engine, communicator, o.val_max_batches, nullptr, loader, o.B, o.T);
    if (communicator.rank() != 0) return 0;
    const std::string part = part_of_data(loader, o.B, communicator.size(), o.val_max_batches);
    std::cout << formatted("loss %.6f\nperplexity %.4f\n", *loss, std::exp(*loss));
    if (!part.empty()) report("computed from" + part.substr(2) + "; -m 0 uses all of the validation data");
    return 0;
}

// What each rank has read by itself.
std::map<std::string, std::string> inputs(const TrainPlan& plan, const Trainer& trainer) {
    std::map<std::string, std::string> all{
        {"the model", describe(plan.config)},
        {"the data (lengths and checksums)", std::to_string(trainer.data_fingerprint())},
        {"the data (samples of its tokens)", std::to_string(trainer.data_samples())},
        {"the step to begin with", std::to_string(trainer.progress().step)}};
    if (const auto weights = trainer.weights_hash()) all.emplace(kWeights, std::to_string(*weights));
    if (const auto val = trainer.validation_fingerprint()) all.emplace(kValidationData, std::to_string(*val));
    if (const auto checkpoint = trainer.resumed_from()) {
        const std::string manifest = read_file(*checkpoint / "manifest.json");  // with the checksums of all files
        all.emplace("the checkpoint", concat(xxh3_64(manifest.data(), manifest.size())));
    }
    for (const auto& [name, content] : plan.files.files) {
        all.emplace("the hash of " + name, std::to_string(xxh3_64(content.data(), content.size())));
    }
    return all;
}

int train(const TrainPlan& plan, Engine& engine, Ranks& ranks, const ProgramNames& names) {
    const auto report = ranks.reporter();
    Trainer trainer(plan, engine, ranks.all(),
                    {.results = &std::cout,
                     .notes = &std::cerr,
                     .stop_requested = [] { return stop_signal() != 0; },
                     .on_phase =
                         [control = ranks.control.get()](const char* phase, int64_t step) {
                             if (control) control->watch().set_phase(phase, step);
                         },
                     .on_progress =
                         [control = ranks.control.get()] {
                             if (control) control->watch().progress();
                         },
                     .columns = [] { return terminal_columns(STDOUT_FILENO); }},
                    ranks.control ? &ranks.control->background() : nullptr);
    if (ranks.control) ranks.control->agree(inputs(plan, trainer));
    catch_stop_signals();
    std::cout.exceptions(std::ios::goodbit);  // the training is worth more than its lines; the end tells if any is lost
    const TrainOutcome outcome = trainer.run();
    report(summary_text(trainer.summary(), plan, names));
    if (outcome == TrainOutcome::finished) return 0;
    const std::string by = stop_signal() ? signal_name(stop_signal()) : "a signal to another rank";
    const std::string where = concat("stopped by ", by, " at step ", trainer.progress().step);
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

int run_rank(std::unique_ptr<CommandLine> line, const ConfigText& own, bool model_given, const LaunchOptions& launch,
             Ranks& ranks, std::unique_ptr<Engine>& engine, const std::string& program,
             const std::filesystem::path& folder) {
    const auto report = ranks.reporter();
    TrainOptions& o = line->options;
    const auto end_at_signals = [&] {
        if (!o.dry_run && !o.eval_only) end_at_signals_before_training(o, line->set.to_toml(), ranks);
    };
    end_at_signals();
    if (!o.dry_run) ranks.connect(launch, line->set.values());
    if (!line->set.given("output") && !o.resume) {
        o.output = shared_text(default_run_directory(), 0, ranks.all());
    }
    end_at_signals();
    set_threads(o.threads);

    Device device = [&] {
        try {
            return choose_device(o, program, report);
        } catch (const Error& error) {
            if (ranks.gpu.empty()) throw;
            throw Error(concat("this rank computes on GPU ", ranks.gpu, " of this machine, since its local rank is ",
                               ranks.world.local_rank, ": ", error.what(),
                               "; start as many ranks on each machine as it has GPUs (with -pn, -pg says how many)"));
        }
    }();
    if (!o.dry_run) device = weakest_device(device, ranks.all());
    const auto inherited = [&](const std::string& name) {
        return !own.text.empty() && line->set.source(name).starts_with(own.file + ":");
    };
    fit_to_device(o, device, program, inherited, report);

    TrainPlan plan = make_plan(o, model_given, ranks.world.size, report, device);
    if (o.dry_run) {
        if (ranks.first()) std::cout << describe_plan(plan, device);
        check_memory(plan.config, plan.options, device);
        return 0;
    }
    check_memory(plan.config, plan.options, device);
    if (ranks.control) ranks.control->agree(resolved_options(plan));
    divide_verification(plan, ranks.all());
    o = plan.options;
    plan.values = line->set.values();
    std::optional<RunLock> lock;
    if (!o.output.empty() && !o.eval_only) {
        catch_stop_signals();  // it creates and removes files, and does not take long
        if (ranks.first()) lock.emplace(prepare_run_directory(plan));
        ranks.all().barrier();
        end_at_signals();
    } else if (!o.eval_only) {
        report("--output (-o) is empty: no logs and no checkpoints will be written");
    }
    report(concat(describe(plan.config), ", ", count_text(double(count_parameters(plan.config))), " parameters"));
    engine = make_engine(plan.config, plan.engine_options(), &ranks.all());
    report(concat("on ", ranks.world.size > 1 ? concat(ranks.world.size, " x ") : "", engine->device_name(), " in ",
                  o.dtype, ", ", peak_text(*engine)));
    if (!engine->attention().empty()) report(concat("attention: ", engine->attention()));
    report(memory_text(plan, device));
    if (o.eval_only) return evaluate_only(plan, *engine, ranks);

    o.resume = o.overwrite = false;  // they belong to this start, not to the run
    plan.config_toml = line->set.to_toml();
    const std::string prefix = folder.empty() ? "" : folder.string() + "/";
    const bool supervised = ranks.world.launcher == "--gpus";
    const std::string trainer = concat(prefix, program, supervised ? concat(" --gpus ", ranks.world.size) : "");
    return train(plan, *engine, ranks, {trainer, prefix + (backend_is_gpu() ? "kilncu" : "kiln")});
}

int run(const std::string& program, const std::vector<std::string>& args, const std::filesystem::path& folder) {
    auto line = std::make_unique<CommandLine>(program);
    if (!line->set.parse(args)) return 0;
    Ranks ranks;
    const bool model_given = line->set.given("model"), batches_given = line->set.given("val-max-batches");
    if (line->options.resume) end_at_signals_before_training(line->options, "", ranks);
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
    const Environment environment = this_environment();
    LaunchOptions launch = std::exchange(o.launch, {});  // it belongs to this start, not to the run
    if (launch.rank_timeout_s > 0 && launch.rank_timeout_s < 1) {
        throw UsageError(
            concat("--rank-timeout ", launch.rank_timeout_s, ": give at least 1 second, or 0 for no limit"));
    }
    // Under --gpus all ranks start at the same time on this machine.
    if (environment.contains(kSupervisorVariable) && !line->set.given("launch-timeout")) launch.launch_timeout_s = 25;
    if (!environment.contains(kSupervisorVariable)) {
        if (!launch.gpus.empty() && !backend_is_gpu()) {
            throw UsageError(concat("--gpus: ", program,
                                    " computes on the CPU; use train_gpt2cu, or start several "
                                    "processes, each with -pn, -pr and -ps"));
        }
        // A plan needs no GPU.
        const bool any_number = o.dry_run && launch.gpus != "all";
        const int size = ranks_to_start(launch, environment, any_number ? [] { return kMaxRanks; } : devices_here);
        if (size > 1 && !o.dry_run) {
            std::vector<std::string> argv{(folder / program).string()};
            argv.insert(argv.end(), args.begin(), args.end());
            catch_stop_signals();
            return spawn_ranks({.args = argv, .size = size}, std::cout, std::cerr);
        }
        ranks.world.size = size;  // of the plan
    }
    if (ranks.world.size == 1) ranks.world = find_world(launch, environment);
    if (ranks.world.size > 1 && !o.dry_run) {
        name_rank_in_errors(concat("rank ", ranks.world.rank, " (", host_name(), ")"));
    }
    std::unique_ptr<Engine> engine;
    try {
        return run_rank(std::move(line), own, model_given, launch, ranks, engine, program, folder);
    } catch (const std::exception&) {
        if (!ranks.control) throw;
        const ErrorReport error = current_error(kOutOfMemory);
        print_error(error.message);
        ranks.control->watch().end_others(1, concat("failed", ranks.control->watch().place(), ": ", error.message));
        // The engine still lives: its end would wait for the GPU, which may wait for another rank for ever.
        ::_exit(error.code);
    }
}

}  // namespace
}  // namespace kiln

int main(int argc, char** argv) {
    kiln::block_signals();
    kiln::end_at_signals_before_training({}, "", {});
    kiln::sleep_when_threads_wait(argv);
    return kiln::run_program(argc, argv, "train_gpt2", kiln::kOutOfMemory,
                             [&](const std::string& program, const std::vector<std::string>& args) {
                                 const auto folder = std::filesystem::path(argc > 0 ? argv[0] : "").parent_path();
                                 return kiln::run(program, args, folder);
                             });
}
