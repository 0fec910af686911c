#include "tools/train/plan.h"

#include <algorithm>
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/data/shard_tokenizer.h"
#include "tokenizer/tokenizer.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/names.h"
#include "tools/generate/prompt.h"
#include "tools/train/advice.h"
#include "tools/train/sample.h"

namespace kiln {

namespace fs = std::filesystem;
using Report = std::function<void(const std::string&)>;

namespace {

DataPaths find_all_data(const TrainOptions& o) {
    DataPaths data;
    if (!o.data.empty()) data = find_data(o.data);
    if (!o.val_data.empty()) {
        const DataPaths found = find_data(o.val_data);
        data.val = found.val.empty() ? found.train : found.val;
        if (data.tokenizer.empty()) data.tokenizer = found.tokenizer;
    }
    if (o.eval_only) {
        if (data.val.empty() && !o.dry_run) {
            throw UsageError(
                "--eval-only needs validation shards: give -j SHARDS, or a directory with validation shards as -i");
        }
    } else if (data.train.empty() && !o.dry_run) {
        if (!o.data.empty()) throw UsageError(concat("--input (-i) ", o.data, ": holds only validation shards"));
        throw UsageError(
            "--input (-i) is required: the training shards, which `kiln prepare` makes from text. See train_gpt2 "
            "--help");
    }
    return data;
}

// The vocabulary size of the data; 0 if neither shards nor a tokenizer tell it.
int vocabulary_of(const DataPaths& data, const fs::path& tokenizer) {
    int V = 0;
    for (const auto* shards : {&data.train, &data.val}) {
        for (const fs::path& path : *shards) V = std::max(V, Shard(path).info().vocab_size);
    }
    if (!tokenizer.empty()) V = std::max(V, Tokenizer::load(tokenizer).vocab_size());
    return V;
}

// Says which validation shard was made with another tokenizer than the training shards, which are checked as they are
// loaded; empty: none.
std::string other_shards(const DataPaths& data) {
    if (data.train.empty()) return "";
    const ShardInfo train = Shard(data.train.front()).info();
    for (const fs::path& path : data.val) {
        const ShardInfo val = Shard(path).info();
        if (train.ours && val.ours && train.tokenizer_sha256 != val.tokenizer_sha256) {
            return concat(path.string(), ": was made with another tokenizer than ", data.train.front().string());
        }
    }
    return "";
}

// A run can be resumed after the tokenizer that it began with is gone, since each of its checkpoints has a copy.
// Returns whether this is so.
bool use_own_tokenizer(TrainPlan& plan, const Report& report) {
    const fs::path given = plan.tokenizer;
    const bool gone = fs::is_directory(given) ? find_tokenizer(given).empty() : !fs::exists(given);
    if (!gone || plan.checkpoint.empty() || find_tokenizer(plan.checkpoint).empty()) return false;
    report(concat("--tokenizer ", given.string(), ": holds no tokenizer any more; the copy in ",
                  plan.checkpoint.string(), " is used"));
    plan.tokenizer = plan.checkpoint;
    return true;
}

// The ids of all data, of samples and of the run to resume must mean the same text.
void check_tokenizers(const TrainPlan& plan, const Report& report) {
    const auto check = [&](const std::string& other) {
        if (other.empty()) return;
        if (!plan.options.force) {
            throw UsageError(
                concat(other, "; make all shards again with one tokenizer, or use them anyway with --force"));
        }
        report("warning: " + other);
    };
    fs::path tokenizer = plan.tokenizer;
    if (!plan.checkpoint.empty() && !find_tokenizer(plan.checkpoint).empty()) tokenizer = plan.checkpoint;
    if (tokenizer.empty()) {
        check(other_shards(plan.data));
        return;
    }
    check(other_tokenizer(plan.data.train, tokenizer));
    check(other_tokenizer(plan.data.val, tokenizer));
    if (tokenizer != plan.tokenizer && !plan.tokenizer.empty() &&
        Tokenizer::load(plan.tokenizer).to_json() != Tokenizer::load(tokenizer).to_json()) {
        check(concat(tokenizer.string(), ": was trained with another tokenizer than the one in ",
                     plan.tokenizer.string()));
    }
}

void check_vocabulary(const ModelConfig& config, int data_V, const std::string& model) {
    if (data_V <= config.V) return;
    throw UsageError(concat("--model (-e) ", model, " has a vocabulary of ", config.V,
                            ", but the data and its tokenizer have one of ", data_V,
                            "; use a model with a larger vocabulary, or prepare the data with the model's tokenizer"));
}

// Reads the model that the options name: a preset, a descriptor or a directory.
void choose_model(TrainPlan& plan, int data_V, const Report& report) {
    TrainOptions& o = plan.options;
    std::error_code ignored;
    const bool looks_like_path = o.model.starts_with(".") || o.model.starts_with("/");
    if (fs::is_directory(o.model, ignored) || fs::is_regular_file(o.model, ignored) || looks_like_path) {
        plan.weights = resolve_model_directory(o.model, report);
        plan.config = read_model_config(plan.weights);
        check_vocabulary(plan.config, data_V, o.model);
        return;
    }
    plan.config = parse_model(o.model);
    if (o.model.find("vocab=") == std::string::npos && data_V > 0 && data_V != plan.config.V) {
        report(concat("the vocabulary size ", data_V, " is that of the data (the default of ", o.model, " is ",
                      plan.config.V, ")"));
        plan.config.V = data_V;
    }
    check_vocabulary(plan.config, data_V, o.model);
    o.model = describe(plan.config);
}

void check_same(const std::string& what, const std::string& then, const std::string& now, const fs::path& checkpoint) {
    if (then == now) return;
    throw UsageError(
        concat("--resume: ", checkpoint.string(), " was trained with ", what, " ", then, ", not ", now,
               "; leave the option out to resume the run, or start a new run (another --output) from it with -e ",
               checkpoint.string()));
}

// The directory beside `run` that has a checkpoint and the most similar name; empty: there is none.
std::string nearest_run(fs::path run) {
    if (!run.has_filename()) run = run.parent_path();  // runs/mine/
    const fs::path parent = run.has_parent_path() ? run.parent_path() : ".";
    std::vector<std::string> names;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(parent, none)) {
        const bool trained = entry.is_directory(none) && !list_checkpoints(entry.path()).empty();
        if (trained) names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());  // a directory has no order
    return names.empty() ? "" : (run.parent_path() / nearest(run.filename().string(), names)).string();
}

// Fills plan.checkpoint and plan.state if the run is to be resumed. Throws UsageError if it has no checkpoint.
void find_checkpoint(TrainPlan& plan, const Report& report) {
    const TrainOptions& o = plan.options;
    std::error_code ignored;
    if (!o.output.empty() && fs::exists(fs::path(o.output) / "manifest.json", ignored)) {
        const fs::path run = follow_link(o.output).parent_path();
        throw UsageError(concat("--output (-o) ", o.output, ": is itself a checkpoint; give its run: -o ",
                                run.empty() ? "." : run.string()));
    }
    if (!o.resume) return;
    if (o.output.empty()) throw UsageError("--resume (-y) needs --output (-o), the run to resume");
    const auto newest = newest_checkpoint(
        o.output, report, [&](const CheckpointRef& checkpoint) { plan.state = read_trainer_state(checkpoint); });
    if (!newest) {
        const bool none = list_checkpoints(o.output).empty();
        KILN_CHECK(none, o.output, ": no checkpoint is complete; start a new run with another --output");
        if (fs::exists(fs::path(o.output) / kConfigFile)) {
            report(concat(o.output, ": has no checkpoint yet; the run starts with its first step"));
            return;
        }
        const std::string meant = nearest_run(o.output);
        throw UsageError(concat("--resume: ", o.output,
                                fs::exists(o.output, ignored) ? " holds no checkpoint; " : " does not exist; ",
                                meant.empty() ? "to" : concat("did you mean ", meant, "? To"),
                                " start a new run there, leave out --resume"));
    }
    plan.checkpoint = newest->directory;
}

// The number of sequences that a loader makes of the shards.
int64_t count_sequences(const std::vector<fs::path>& shards, int T) {
    int64_t count = 0;
    for (const fs::path& path : shards) {
        const auto tokens = int64_t(Shard(path).info().num_tokens);
        count += tokens == 0 ? 0 : (tokens - 1) / T;
    }
    return count;
}

// The largest micro-batch that --batch-size auto may choose if there is enough memory: no sequence twice in it and, if
// it is the whole batch, many steps in a pass over the data.
int64_t most_sequences(const TrainPlan& plan, int world) {
    const TrainOptions& o = plan.options;
    const int64_t data = count_sequences(o.eval_only ? plan.data.val : plan.data.train, o.T) / world;
    if (data == 0) return kMaxBatch;  // unknown, in a dry run
    return o.eval_only || o.total_batch_tokens > 0 ? data : std::max<int64_t>(1, data / kFewSteps);
}

// Of the copy of the state that is saved while training continues, if it takes memory of the device.
size_t host_copy_bytes(const TrainPlan& plan) {
    return backend_is_gpu() ? 0 : state_bytes(plan.config, plan.engine_options().optimizer);
}

// Without memory for a copy of the state, training waits for each checkpoint.
void check_async_save(TrainPlan& plan, const Device& device, const Report& report) {
    if (!plan.async_save) return;
    const size_t copy = state_bytes(plan.config, plan.engine_options().optimizer);
    const size_t free = backend_is_gpu() ? available_memory_bytes() : device.free_bytes;
    const size_t engine = backend_is_gpu() ? 0 : planned_bytes(plan.config, plan.engine_options());
    plan.async_save = free == 0 || engine + copy <= free;
    if (plan.async_save || engine > free) return;
    report(concat("training will wait while a checkpoint is written: there is no memory for a copy of the state, ",
                  bytes_text(double(copy))));
}

void resolve_batch(TrainPlan& plan, int world, const Report& report, const Device& device) {
    TrainOptions& o = plan.options;
    if (o.T == 0) o.T = std::min(plan.config.max_T, 1024);
    if (o.T > plan.config.max_T) {
        throw UsageError(concat("--sequence-length (-t) ", o.T, " is longer than the model's context of ",
                                plan.config.max_T, "; give a smaller value, or a model with ctx=", o.T));
    }
    const int64_t step_tokens = int64_t(o.T) * world;  // of micro-batches of one sequence
    if (o.B == 0 && (o.total_batch_tokens == 0 || o.total_batch_tokens % step_tokens == 0)) {
        if (device.free_bytes == 0) {
            throw UsageError("--batch-size (-b) auto: the free memory of this device is not known; give a number");
        }
        const int64_t most = most_sequences(plan, world);
        const size_t copy = plan.async_save ? host_copy_bytes(plan) : 0;
        o.B = largest_batch(plan.config, plan.engine_options(), o.total_batch_tokens / step_tokens,
                            device.free_bytes > 2 * copy ? device.free_bytes - copy : device.free_bytes, most);
        report(concat("--batch-size auto: sequences in a micro-batch: ", o.B,
                      o.B == most && most < kMaxBatch ? "; the data has too few for more" : ""));
    }
    o.B = std::max(o.B, 1);
    const int64_t micro = int64_t(o.B) * o.T * world;
    if (o.total_batch_tokens == 0) o.total_batch_tokens = micro;
    if (o.total_batch_tokens % micro != 0) {
        const int64_t below = o.total_batch_tokens / micro * micro;
        throw UsageError(concat("--total-batch-size (-d) ", o.total_batch_tokens,
                                plan.checkpoint.empty() ? "" : ", which the run has if none is given,",
                                " is not a multiple of ", o.B, " sequences x ", o.T, " tokens",
                                world > 1 ? concat(" x ", world, " ranks") : "", " = ", micro, "; use ",
                                below > 0 ? concat(below, " or ") : "", below + micro));
    }
}

// Whether `path` is a checkpoint of the run or in one, by whatever name: with a slash at its end, through links.
bool lies_in_checkpoint(const fs::path& path, const fs::path& run) {
    const std::vector<CheckpointRef> checkpoints = list_checkpoints(run);
    std::error_code ignored;
    for (fs::path at = fs::canonical(path, ignored); at.has_relative_path(); at = at.parent_path()) {
        for (const CheckpointRef& checkpoint : checkpoints) {
            if (fs::equivalent(at, checkpoint.directory, ignored)) return true;
        }
    }
    return false;
}

// Throws UsageError if --overwrite would remove what the run begins with.
void check_overwrite(const TrainPlan& plan) {
    const TrainOptions& o = plan.options;
    if (!o.overwrite) return;
    if (o.resume) throw UsageError("--overwrite and --resume exclude each other: leave one of them out");
    const auto refuse = [&](const char* option, const std::string& given, const fs::path& used) {
        if (!lies_in_checkpoint(used, o.output)) return;
        throw UsageError(concat("--overwrite: ", option, " ", given, " is in the run that would be removed; give ",
                                "another --output"));
    };
    refuse("--model (-e)", o.model, plan.weights);
    refuse("--tokenizer", o.tokenizer, plan.tokenizer);
}

}  // namespace

TrainPlan make_plan(const TrainOptions& options, bool model_given, int world, const Report& report,
                    const Device& device) {
    TrainPlan plan{.options = options,
                   .async_save = options.async_save && options.checkpoint_every > 0 && !options.output.empty() &&
                                 !options.eval_only};
    TrainOptions& o = plan.options;
    o.ranks = world;
    find_checkpoint(plan, report);
    plan.data = find_all_data(o);
    plan.tokenizer = o.tokenizer.empty() ? plan.data.tokenizer : fs::path(o.tokenizer);
    if (!o.tokenizer.empty() && !use_own_tokenizer(plan, report)) verify_tokenizer(plan.tokenizer);
    const int data_V = vocabulary_of(plan.data, plan.tokenizer);
    check_tokenizers(plan, report);

    if (plan.checkpoint.empty() && o.model.empty()) {
        uint64_t tokens = 0;
        for (const fs::path& path : plan.data.train) tokens += Shard(path).info().num_tokens;
        throw UsageError(concat("--model (-e) is required: the model to train. These fit ",
                                tokens > 0 ? concat(count_text(double(tokens)), " tokens of data and ") : "",
                                device.name, ":", fitting_models(o, device, tokens, data_V)));
    }
    if (plan.checkpoint.empty()) {
        choose_model(plan, data_V, report);
        resolve_batch(plan, world, report, device);
    } else {
        const std::string trained = plan.state.model;
        if (model_given && !fs::exists(o.model)) {
            choose_model(plan, data_V, [](const std::string&) {});
            check_same("the model", trained, o.model, plan.checkpoint);
        }
        plan.config = parse_model(trained);
        o.model = trained;
        check_vocabulary(plan.config, data_V, trained);
        resolve_batch(plan, world, report, device);
        check_same("--sequence-length", std::to_string(plan.state.T), std::to_string(o.T), plan.checkpoint);
        check_same("--seed", std::to_string(plan.state.seed), std::to_string(o.seed), plan.checkpoint);
    }
    check_async_save(plan, device, report);
    // A resumed run goes on with what its checkpoint holds.
    plan.files = ModelFiles(plan.tokenizer, plan.checkpoint.empty() ? plan.weights : plan.checkpoint);
    check_overwrite(plan);
    if (o.sample_every > 0) {
        if (plan.tokenizer.empty()) {
            throw UsageError(
                "--sample-every (-s) needs a tokenizer to decode the text: give --tokenizer DIR, or a directory with a "
                "tokenizer as -i");
        }
        o.prompt = prompt_text(o.prompt);
        plan.sample_tokenizer = Tokenizer::load(plan.tokenizer);
        sample_prompt(o, *plan.sample_tokenizer, plan.config.max_T);  // an error now is better than at the first sample
    }
    // Only a warning, since one may train an old model on a new tokenizer, whose ids then get a new meaning.
    if (!plan.weights.empty() && !find_tokenizer(plan.weights).empty()) {
        const std::string other = other_tokenizer(plan.data.train, plan.weights);
        if (!other.empty()) {
            report(concat("warning: ", other, " to the model; make the shards again with `kiln prepare --tokenizer ",
                          plan.weights.string(), "`"));
        }
    }
    if (world == 1 && o.zero_stage > 0) {
        report(concat("--zero-stage (-z) ", o.zero_stage, ": there is one process, so nothing is divided"));
    }
    if (o.reduce_dtype == "same" && o.dtype == "float32") {
        report("--reduce-dtype same: gradients and --dtype are float32, so this changes nothing");
    }
    const int64_t sequences = count_sequences(plan.data.train, o.T);
    if (sequences > 0 && !o.eval_only) {
        for (const std::string& warning : warnings(plan, uint64_t(sequences))) report("warning: " + warning);
    }
    if (o.on_nonfinite == "rollback" && (o.output.empty() || o.checkpoint_every == 0)) {
        throw UsageError(
            "--on-nonfinite rollback needs --output (-o) and --checkpoint-every (-n), so that there is a checkpoint to "
            "roll back to");
    }
    return plan;
}

std::vector<MemoryItem> plan_memory(const TrainPlan& plan) {
    std::vector<MemoryItem> items = plan_memory(plan.config, plan.engine_options());
    if (plan.async_save && host_copy_bytes(plan) > 0) items.push_back({"copy for checkpoints", host_copy_bytes(plan)});
    return items;
}

DataLoaderOptions train_loader_options(const TrainPlan& plan, const Communicator& communicator) {
    return {.shards = plan.data.train,
            .B = plan.options.B,
            .T = plan.options.T,
            .rank = communicator.rank(),
            .world = communicator.size(),
            .seed = plan.options.seed,
            .vocab_size = plan.config.V,
            .verify_part = plan.verify_part,
            .verify_parts = plan.verify_parts};
}

DataLoaderOptions val_loader_options(const TrainPlan& plan, const Communicator& communicator) {
    DataLoaderOptions options = train_loader_options(plan, communicator);
    options.shards = plan.data.val;
    options.shuffle = false;
    return options;
}

int64_t total_steps(const TrainOptions& options, uint64_t num_sequences) {
    if (options.max_steps >= 0) return options.max_steps;
    const double sequences_a_step = double(options.total_batch_tokens) / options.T;
    return std::max<int64_t>(1, int64_t(options.epochs * double(num_sequences) / sequences_a_step));
}

// Memory of a rank, and what it sends, for each stage that the backend has.
static std::string describe_stages(const TrainPlan& plan) {
    const TrainOptions& o = plan.options;
    const auto micro_batches = int(o.total_batch_tokens / (int64_t(o.B) * o.T * o.ranks));
    std::string text = concat("each of ", o.ranks, " ranks   memory, and bytes sent in a step of ", micro_batches,
                              micro_batches == 1 ? " micro-batch\n" : " micro-batches\n");
    for (int stage = 0; stage <= (backend_is_gpu() ? 3 : 0); stage++) {
        EngineOptions options = plan.engine_options();
        options.zero_stage = stage;
        text += concat("  -z ", stage, stage == o.zero_stage ? " (chosen)         " : "                  ",
                       padded(bytes_text(double(planned_bytes(plan.config, options))), 12),
                       bytes_text(double(plan_bytes_sent(plan.config, options, micro_batches))), "\n");
    }
    return text;
}

std::string describe_plan(const TrainPlan& plan, const Device& device) {
    const TrainOptions& o = plan.options;
    const int64_t parameters = count_parameters(plan.config), flops = flops_per_token(plan.config, o.T);
    std::string text = concat("model           ", describe(plan.config), "\nparameters      ", parameters, " (",
                              count_text(double(parameters)), ")\nFLOPs/token     ", flops, " (",
                              count_text(double(flops)), ")\nmicro-batch     ", o.B, " x ", o.T, " = ",
                              int64_t(o.B) * o.T, " tokens\nbatch           ", o.total_batch_tokens, " tokens\n");
    if (!plan.data.train.empty()) {
        DataLoaderOptions loader_options = train_loader_options(plan, *make_single_communicator());
        loader_options.prefetch = 0;
        const DataLoader loader(loader_options);
        text += concat("training data   ", loader.num_tokens(), " tokens in ", plan.data.train.size(),
                       plan.data.train.size() == 1 ? " shard" : " shards", "\nsteps           ",
                       total_steps(o, loader.num_sequences()), "\n");
    }
    text += "memory\n";
    size_t sum = 0;
    for (const MemoryItem& item : plan_memory(plan)) {
        text += concat("  ", padded(item.kind, 23), item.bytes, " (", bytes_text(double(item.bytes)), ")\n");
        sum += item.bytes;
    }
    text += concat("  total                  ", sum, " (", bytes_text(double(sum)), ")\n");
    if (o.ranks > 1) text += describe_stages(plan);
    if (device.free_bytes == 0) return text;
    return text + concat("  free                   ", device.free_bytes, " (", bytes_text(double(device.free_bytes)),
                         " of ", device.name, sum <= device.free_bytes ? "): it fits\n" : "): it does not fit\n");
}

}  // namespace kiln
