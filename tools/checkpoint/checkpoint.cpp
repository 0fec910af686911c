#include "tools/checkpoint/checkpoint.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tools/checkpoint/manifest.h"
#include "tools/checkpoint/names.h"
#include "tools/checkpoint/optimizer_state.h"
#include "tools/formats/huggingface.h"
#include "tools/formats/json_file.h"
#include "tools/formats/llmc.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// The same tensors and the same computation. Values that only training or naming uses may differ.
bool same_model(ModelConfig a, const ModelConfig& b) {
    a.family = b.family, a.init_std = b.init_std;
    a.dropout_embedding = b.dropout_embedding, a.dropout_residual = b.dropout_residual;
    a.dropout_attention = b.dropout_attention;
    if (a.uses_rope()) a.max_T = b.max_T;  // no tensor has this extent
    return a == b;
}

uint64_t load_stored(const StoredModel& model, Engine& engine) {
    Xxh3 hash;
    std::vector<float> values;
    for (const TensorSpec& spec : param_table(model.config)) {
        values.resize(spec.elems());
        model.read(spec, values);
        hash.update(values.data(), values.size() * sizeof(float));
        engine.write(Arena::params, spec.offset, values);
    }
    return hash.digest();
}

}  // namespace

std::vector<CheckpointRef> list_checkpoints(const fs::path& run) {
    std::vector<CheckpointRef> found;
    std::error_code error;
    for (fs::directory_iterator entry(run, error), end; !error && entry != end; entry.increment(error)) {
        std::string name = entry->path().filename().string();
        // If the process was killed between the two renames of install(), the old one has only this name.
        if (name.ends_with(kReplaced)) {
            name.resize(name.size() - kReplaced.size());
            std::error_code ignored;
            if (fs::exists(run / name, ignored)) continue;
        }
        const std::optional<int64_t> step = step_of(name);
        std::error_code ignored;
        if (step && entry->is_directory(ignored)) found.push_back({entry->path(), *step});
    }
    std::error_code ignored;
    KILN_CHECK(!error || !fs::is_directory(run, ignored), run.string(),
               ": cannot be searched for checkpoints: ", error.message());
    std::ranges::sort(found, [](const CheckpointRef& a, const CheckpointRef& b) {
        return a.step != b.step ? a.step > b.step : a.directory < b.directory;
    });
    return found;
}

std::vector<CheckpointRef> kiln_checkpoints(const fs::path& run) {
    std::vector<CheckpointRef> own = list_checkpoints(run);
    std::error_code ignored;
    std::erase_if(own, [&](const CheckpointRef& one) { return !fs::exists(one.directory / "manifest.json", ignored); });
    return own;
}

void verify_checkpoint(const fs::path& checkpoint) {
    verify_manifest(checkpoint, true);
}

std::optional<CheckpointRef> newest_checkpoint(const fs::path& run,
                                               const std::function<void(const std::string&)>& report,
                                               const std::function<void(const CheckpointRef&)>& use,
                                               const fs::path& from) {
    bool begun = from.empty();
    for (const CheckpointRef& checkpoint : list_checkpoints(run)) {
        const bool verified = checkpoint.directory == from;
        begun = begun || verified;
        if (!begun) continue;
        try {
            if (!verified) verify_checkpoint(checkpoint.directory);
            if (use) use(checkpoint);
            return checkpoint;
        } catch (const std::bad_alloc&) {
            throw;  // which says nothing about the checkpoint
        } catch (const std::exception& error) {
            // A training process has removed it meanwhile, so it has written newer ones.
            if (std::error_code ignored; !fs::exists(checkpoint.directory, ignored))
                return newest_checkpoint(run, report, use);
            if (report) report(concat("ignoring ", checkpoint.directory.string(), ": ", error.what()));
        }
    }
    return std::nullopt;
}

fs::path follow_link(const fs::path& path) {
    constexpr int kMaxLinks = 40;  // as Linux
    std::error_code ignored;
    fs::path target = path;
    for (int links = 0; links <= kMaxLinks; links++) {
        if (!target.has_filename()) target = target.parent_path();  // "runs/mine/model/" too
        if (!fs::is_symlink(target, ignored)) break;
        target = target.parent_path() / fs::read_symlink(target, ignored);
    }
    return target;
}

fs::path resolve_model_directory(const fs::path& given, const std::function<void(const std::string&)>& report) {
    std::error_code ignored;
    const fs::path path = follow_link(given);
    KILN_CHECK(fs::exists(path, ignored), path.string(), ": there is no such directory; give a checkpoint or a run");
    if (is_llmc_model(path)) return path;
    KILN_CHECK(fs::is_directory(path, ignored), path.string(),
               ": is neither a directory nor a model file of llm.c; give the directory of a checkpoint or of a run");
    if (fs::exists(path / "manifest.json", ignored)) {
        verify_manifest(path, false);
        return path;
    }
    if (fs::exists(path / "config.json", ignored)) return path;
    std::vector<std::string> passed_over;
    const auto newest = newest_checkpoint(path, [&](const std::string& why) { passed_over.push_back(why); });
    KILN_CHECK(newest, path.string(), ": holds neither a model (config.json) nor a whole checkpoint",
               passed_over.empty() ? "" : "; ", join(passed_over, "; "));
    if (report) std::ranges::for_each(passed_over, [&](const std::string& why) { report("warning: " + why); });
    return newest->directory;
}

ModelConfig read_model_config(const fs::path& model_directory) {
    if (is_llmc_model(model_directory)) return LlmcModelFile(model_directory).config();
    const fs::path path = model_directory / "config.json";
    return parse_hf_config(read_json(path), path.string());
}

void check_model(const fs::path& model_directory, const ModelConfig& config) {
    const ModelConfig found = read_model_config(model_directory);
    KILN_CHECK(same_model(found, config), (model_directory / "config.json").string(), ": describes ", describe(found),
               ", not ", describe(config));
}

void verify_values(const fs::path& checkpoint) {
    const ModelTensors weights(checkpoint);
    for (const std::string& name : weights.names()) {
        const auto found = weights.find(name);
        found.file->verify_finite(*found.tensor);
    }
    verify_optimizer(checkpoint);
}

uint64_t load_weights(const fs::path& model_directory, Engine& engine) {
    check_model(model_directory, engine.config());
    if (is_llmc_model(model_directory)) return load_stored(open_llmc(model_directory), engine);
    const std::string type =
        read_json(model_directory / "config.json").at("model_type");  // a string, says the line above
    return read_hf_weights(ModelTensors(model_directory), type, engine);
}

void load_training_state(const fs::path& checkpoint, Engine& engine) {
    open_optimizer(checkpoint);  // nothing is loaded without it
    load_weights(checkpoint, engine);
    read_optimizer(checkpoint, engine);
}

}  // namespace kiln
