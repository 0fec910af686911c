#include "tools/checkpoint/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/tensors.h"
#include "tokenizer/io/file.h"
#include "tools/formats/huggingface.h"
#include "tools/formats/json_file.h"
#include "tools/formats/safetensors.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::string_view kTemporary = ".saving-";  // a checkpoint that is being written
constexpr std::string_view kReplaced =
    ".replaced";  // one that is being replaced, if the file system cannot exchange names
constexpr size_t kChunkElems = size_t(1) << 20;

std::string directory_name(int64_t step) {
    char name[64];
    std::snprintf(name, sizeof(name), "checkpoint-%08lld", static_cast<long long>(step));
    return name;
}

// The step in "checkpoint-00000010", or nothing.
std::optional<int64_t> step_of(std::string_view name) {
    if (!name.starts_with(kPrefix)) return std::nullopt;
    name.remove_prefix(kPrefix.size());
    int64_t step = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
    if (error != std::errc() || end != name.data() + name.size() || step < 0) return std::nullopt;
    return step;
}

void write_synced(const fs::path& path, std::string_view content) {
    OutputFile file(path);
    file.write(content);
    file.sync();
    file.close();
}

std::string hex(uint64_t value) {
    char text[17];
    std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
    return text;
}

std::string hash_of(std::string_view text) {
    return hex(xxh3_64(text.data(), text.size()));
}

// Calls visit(name, arena, spec) for each tensor of the optimizer's file, in its order.
template <class Visit>
void for_each_state_tensor(const Engine& engine, Visit visit) {
    const std::vector<TensorSpec> table = param_table(engine.config());
    for (const std::string_view state : optimizer_info(engine.optimizer()).states) {
        for (const TensorSpec& spec : table) visit(concat(state, ".", spec.name), Arena{state}, spec);
    }
}

// Calls visit(chunk, offset in the arena) with a buffer for each chunk of the tensor.
template <class Visit>
void for_each_chunk(const TensorSpec& spec, Visit visit) {
    std::vector<float> buffer;
    for (size_t done = 0; done < spec.elems(); done += buffer.size()) {
        buffer.resize(std::min(kChunkElems, spec.elems() - done));
        visit(buffer, done);
    }
}

void write_optimizer(const fs::path& path, const Engine& engine) {
    std::vector<SafetensorsWriter::Declared> declared;
    for_each_state_tensor(engine, [&](const std::string& name, const Arena&, const TensorSpec& spec) {
        declared.push_back({name, {spec.shape[0], spec.shape[1]}});
    });
    SafetensorsWriter writer(path, declared);
    for_each_state_tensor(engine, [&](const std::string&, const Arena& arena, const TensorSpec& spec) {
        for_each_chunk(spec, [&](std::vector<float>& chunk, size_t begin) {
            engine.read(arena, spec.offset + begin, chunk);
            writer.append(chunk);
        });
    });
    writer.finish();
}

void read_optimizer(const fs::path& path, Engine& engine) {
    const SafetensorsFile file(path);
    size_t tensors = 0;
    for_each_state_tensor(engine, [&](const std::string& name, const Arena& arena, const TensorSpec& spec) {
        const StoredTensor* tensor = file.find(name);
        KILN_CHECK(tensor, path.string(), ": lacks '", name, "'");
        KILN_CHECK(tensor->shape == std::vector<uint64_t>({spec.shape[0], spec.shape[1]}), path.string(), ": tensor '",
                   name, "' has shape ", shape_text(tensor->shape), "; the model asks for (", spec.shape[0], ", ",
                   spec.shape[1], ")");
        for_each_chunk(spec, [&](std::vector<float>& chunk, size_t begin) {
            file.read(*tensor, begin, chunk);
            engine.write(arena, spec.offset + begin, chunk);
        });
        tensors++;
    });
    KILN_CHECK(file.tensors().size() == tensors, path.string(), ": holds ", file.tensors().size(),
               " tensors; the optimizer state of this model has ", tensors);
}

// A manifest has its files and a checksum of that list, so that a changed bit in the manifest is found too.
std::string manifest_text(int64_t step, const json& files) {
    json manifest = {{"format", "kiln-checkpoint"}, {"version", 1}, {"step", step}, {"files", files}};
    manifest["xxh3_64"] = hash_of(manifest.dump());
    return manifest.dump(1) + "\n";
}

// It reads the file instead of mapping it: mapped pages count as memory of this process, and the optimizer state would
// raise its peak by half.
json describe_file(const fs::path& path) {
    KILN_CHECK(fs::is_regular_file(path), path.string(), ": is missing or not a regular file");
    InputFile file(path);
    std::vector<char> buffer(size_t(1) << 20);
    Xxh3 hash;
    uint64_t bytes = 0;
    for (size_t n; (n = file.read(buffer.data(), buffer.size())) > 0; bytes += n) hash.update(buffer.data(), n);
    return {{"bytes", bytes}, {"xxh3_64", hex(hash.digest())}};
}

void write_manifest(const fs::path& directory, int64_t step) {
    json files = json::object();  // sorted by name: equal checkpoints have equal manifests
    for (const auto& entry : fs::directory_iterator(directory)) {
        files[entry.path().filename().string()] = describe_file(entry.path());
    }
    write_synced(directory / "manifest.json", manifest_text(step, files));
}

// The files of the manifest, after a check of the manifest itself.
json read_manifest(const fs::path& checkpoint) {
    const fs::path path = checkpoint / "manifest.json";
    const char* what = "; the checkpoint is incomplete or damaged, use another";
    const std::string text = read_file(path);
    const json manifest = parse_json(text, path.string());
    KILN_CHECK(manifest.is_object() && manifest.value("format", json()) == "kiln-checkpoint", path.string(),
               ": is not a manifest of a checkpoint", what);
    KILN_CHECK(manifest.value("version", json()) == 1, path.string(), ": has version ",
               manifest.value("version", json()).dump(), "; this program reads version 1");
    const json files = manifest.value("files", json()), step = manifest.value("step", json());
    KILN_CHECK(files.is_object() && step.is_number_integer() && manifest_text(step.get<int64_t>(), files) == text,
               path.string(), ": does not match its own checksum", what);
    return files;
}

// `all` false: without the optimizer state, which inference does not need and which is two thirds of the bytes.
void verify(const fs::path& checkpoint, bool all) {
    const json files = read_manifest(checkpoint);  // items() refers to it
    for (const auto& [name, entry] : files.items()) {
        KILN_CHECK(!name.empty() && name.find('/') == name.npos, checkpoint.string(), "/manifest.json: '", name,
                   "' is not the name of a file in the checkpoint");
        if (!all && name.starts_with("optimizer")) continue;
        const fs::path path = checkpoint / name;
        const json found = describe_file(path);
        KILN_CHECK(entry == found, path.string(), ": is ", found.dump(), " but manifest.json says ", entry.dump(),
                   "; the checkpoint is damaged, use another");
    }
}

// Renames `fresh` to `target`, which may exist. At every moment a complete directory has the name or, if the file
// system cannot exchange two names, another name that list_checkpoints finds.
void install(const fs::path& fresh, const fs::path& target) {
    const fs::path replaced = target.string() + std::string(kReplaced);
    if (!fs::exists(fs::symlink_status(target))) {
        fs::rename(fresh, target);
        return;
    }
    if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
        fs::remove_all(fresh);
        return;
    }
    fs::remove_all(replaced);
    fs::rename(target, replaced);
    fs::rename(fresh, target);
    sync_directory(target.parent_path());
    fs::remove_all(replaced);
}

fs::path write_checkpoint(const fs::path& run, int64_t step, const Engine& engine, const json& trainer_state,
                          const ModelFiles& files) {
    fs::create_directories(run);
    const fs::path target = run / directory_name(step);
    const fs::path temporary = run / (std::string(kTemporary) + directory_name(step));
    fs::remove_all(temporary);
    fs::create_directory(temporary);
    try {
        write_synced(temporary / "config.json", hf_config(engine.config(), files.token_ids).dump(2) + "\n");
        write_synced(temporary / "generation_config.json", hf_generation_config(files.token_ids).dump(2) + "\n");
        for (const TokenizerKind::File& file : files.files) write_synced(temporary / file.name, file.content);
        write_synced(temporary / "trainer_state.json",
                     trainer_state.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
        write_hf_weights(temporary / "model.safetensors", engine);
        write_optimizer(temporary / "optimizer.safetensors", engine);
        write_manifest(temporary, step);
        sync_directory(temporary);
        install(temporary, target);
    } catch (...) {
        std::error_code ignored;  // the first failure is the one to report
        fs::remove_all(temporary, ignored);
        throw;
    }
    sync_directory(run);
    return target;
}

// What the links in a directory point to.
std::vector<fs::path> link_targets(const fs::path& directory) {
    std::vector<fs::path> targets;
    std::error_code error, ignored;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
        if (entry->is_symlink(ignored)) targets.push_back(fs::read_symlink(entry->path(), ignored));
    }
    return targets;
}

// The same tensors and the same computation. Values that only training or naming uses may differ.
bool same_model(ModelConfig a, const ModelConfig& b) {
    a.family = b.family, a.init_std = b.init_std;
    a.dropout_embedding = b.dropout_embedding, a.dropout_residual = b.dropout_residual;
    a.dropout_attention = b.dropout_attention;
    if (a.uses_rope()) a.max_T = b.max_T;  // no tensor has this extent
    return a == b;
}

}  // namespace

fs::path save_checkpoint(const fs::path& run, int64_t step, const Engine& engine, const json& trainer_state,
                         const ModelFiles& files) {
    try {
        return write_checkpoint(run, step, engine, trainer_state, files);
    } catch (const fs::filesystem_error& error) {
        throw Error(concat(run.string(), ": the checkpoint of step ", step, " cannot be written: ", error.what()));
    }
}

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
    std::ranges::sort(found, [](const CheckpointRef& a, const CheckpointRef& b) {
        return a.step != b.step ? a.step > b.step : a.directory < b.directory;
    });
    return found;
}

void verify_checkpoint(const fs::path& checkpoint) {
    verify(checkpoint, true);
}

std::optional<CheckpointRef> newest_checkpoint(const fs::path& run,
                                               const std::function<void(const std::string&)>& report) {
    for (const CheckpointRef& checkpoint : list_checkpoints(run)) {
        try {
            verify_checkpoint(checkpoint.directory);
            return checkpoint;
        } catch (const std::exception& error) {
            if (report) report(concat("ignoring ", checkpoint.directory.string(), ": ", error.what()));
        }
    }
    return std::nullopt;
}

fs::path resolve_model_directory(const fs::path& given) {
    std::error_code ignored;
    const fs::path link = given.has_filename() ? given : given.parent_path();  // "runs/mine/model/" too
    const fs::path path = fs::is_symlink(link, ignored) ? link.parent_path() / fs::read_symlink(link, ignored) : given;
    KILN_CHECK(fs::exists(path, ignored), path.string(), ": there is no such directory; give a checkpoint or a run");
    KILN_CHECK(fs::is_directory(path, ignored), path.string(),
               ": is not a directory; give the directory of a checkpoint or of a run");
    if (fs::exists(path / "manifest.json", ignored)) {
        verify(path, false);
        return path;
    }
    if (fs::exists(path / "config.json", ignored)) return path;
    std::string passed_over;
    const auto newest = newest_checkpoint(path, [&](const std::string& why) { passed_over += "; " + why; });
    KILN_CHECK(newest, path.string(), ": holds neither a model (config.json) nor a whole checkpoint", passed_over);
    return newest->directory;
}

ModelConfig read_model_config(const fs::path& model_directory) {
    const fs::path path = model_directory / "config.json";
    return parse_hf_config(read_json(path), path.string());
}

void load_weights(const fs::path& model_directory, Engine& engine) {
    const fs::path path = model_directory / "config.json";
    const json file = read_json(path);
    const ModelConfig config = parse_hf_config(file, path.string());
    KILN_CHECK(same_model(config, engine.config()), path.string(), ": describes ", describe(config), ", not ",
               describe(engine.config()));
    read_hf_weights(ModelTensors(model_directory), file.at("model_type").get<std::string>(), engine);
}

json load_training_state(const fs::path& checkpoint, Engine& engine) {
    KILN_CHECK(fs::exists(checkpoint / "optimizer.safetensors"), checkpoint.string(),
               ": has no optimizer.safetensors, so training cannot resume from it; start from its weights instead");
    load_weights(checkpoint, engine);
    read_optimizer(checkpoint / "optimizer.safetensors", engine);
    return read_json(checkpoint / "trainer_state.json");
}

void prune_checkpoints(const fs::path& run, int keep, int64_t major_every) {
    const std::vector<CheckpointRef> all = list_checkpoints(run);
    // If the newest ones are damaged, an older one must stay.
    const auto whole = keep > 0 && all.size() > size_t(keep) ? newest_checkpoint(run, nullptr) : std::nullopt;
    const std::vector<fs::path> linked = link_targets(run);
    for (size_t i = 0; i < all.size(); i++) {
        const bool major = major_every > 0 && all[i].step % major_every == 0;
        const bool named = std::ranges::find(linked, all[i].directory.filename()) != linked.end();
        const bool surplus =
            keep > 0 && i >= size_t(keep) && !major && !named && whole && all[i].directory != whole->directory;
        if (!surplus) continue;
        // Renamed first: if the process is killed now, no incomplete checkpoint has the name.
        const fs::path doomed = run / (std::string(kTemporary) + all[i].directory.filename().string());
        fs::remove_all(doomed);
        fs::rename(all[i].directory, doomed);
    }
    std::vector<fs::path> leftovers;
    std::error_code error;
    for (fs::directory_iterator entry(run, error), end; !error && entry != end; entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        const bool replaced = name.ends_with(kReplaced) && step_of(name.substr(0, name.size() - kReplaced.size())) &&
                              fs::exists(run / name.substr(0, name.size() - kReplaced.size()));
        if (name.starts_with(std::string(kTemporary) + std::string(kPrefix)) || replaced) {
            leftovers.push_back(entry->path());
        }
    }
    for (const fs::path& leftover : leftovers) fs::remove_all(leftover);
}

}  // namespace kiln
