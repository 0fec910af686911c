// Writes, replaces and removes checkpoints.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <map>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/links.h"
#include "tools/checkpoint/manifest.h"
#include "tools/checkpoint/names.h"
#include "tools/checkpoint/optimizer_state.h"
#include "tools/formats/huggingface.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Report = std::function<void(const std::string&)>;

// Renames `fresh` to `target`, which may exist. At every moment a complete directory has the name or, if the file
// system cannot exchange two names, another name that list_checkpoints finds. What was there is removed only after the
// new name is on the disk.
void install(const fs::path& fresh, const fs::path& target, const Report& report) {
    const auto exchange = [&] {
        return ::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0;
    };
    const auto taken = [](const fs::path& path) { return fs::exists(fs::symlink_status(path)); };
    fs::path old;
    if (taken(target) && !fs::exists(target / "manifest.json")) {  // it is the user's
        fs::path other = target.string() + ".other";
        while (taken(other)) other += ".other";
        fs::rename(target, other);
        if (report) report(concat(target.string(), ": is no checkpoint of Kiln; it was renamed to ", other.string()));
    }
    if (!taken(target)) {
        fs::rename(fresh, target);
    } else if (exchange()) {
        old = fresh;
    } else {
        old = target.string() + std::string(kReplaced);
        fs::remove_all(old);
        fs::rename(target, old);
        fs::rename(fresh, target);
    }
    try {
        sync_directory(target.parent_path());
    } catch (const Error&) {
        if (old == fresh) exchange();
        throw;
    }
    std::error_code ignored;  // the new one is there; prune_checkpoints tries again, and reports it
    if (!old.empty()) fs::remove_all(old, ignored);
}

fs::path write_checkpoint(const fs::path& run, int64_t step, const ModelState& model, const json& trainer_state,
                          const ModelFiles& files, const Report& report, const WriteOptimizer& write_optimizer) {
    make_directories(run);
    const fs::path target = run / checkpoint_name(step);
    const fs::path temporary = run / (std::string(kUnfinished) + checkpoint_name(step));
    fs::remove_all(temporary);
    fs::create_directory(temporary);
    std::error_code ignored;
    FileDigests written;
    const auto is_removed_from = [&](const fs::path& directory) {
        const auto is_there = [&](const auto& file) { return fs::exists(directory / file.first, ignored); };
        return !fs::exists(directory, ignored) || !std::ranges::all_of(written, is_there);
    };
    const RemovedError removed(concat(target.string(), ": was removed while it was written"));
    bool installing = false;
    try {
        const auto write = [&](const std::string& name, const std::string& content) {
            written[name] = write_synced(temporary / name, content);
        };
        write("config.json", hf_config(model.config, files.token_ids).dump(2) + "\n");
        write("generation_config.json", hf_generation_config(files.token_ids).dump(2) + "\n");
        for (const TokenizerKind::File& file : files.files) write(file.name, file.content);
        write("trainer_state.json", trainer_state.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
        written["model.safetensors"] = write_hf_weights(temporary / "model.safetensors", model);
        written.merge(write_optimizer(temporary));
        write_manifest(temporary, step, written);
        sync_directory(temporary);
        if (is_removed_from(temporary)) throw removed;
        installing = true;
        install(temporary, target, report);
    } catch (...) {
        const bool is_removed = !installing && is_removed_from(temporary);
        fs::remove_all(temporary, ignored);  // the first failure is the one to report
        if (is_removed) throw removed;
        throw;
    }
    if (is_removed_from(target)) throw removed;
    return target;
}

bool is_unfinished_checkpoint(const fs::path& path) {
    std::string name = path.filename().string();
    if (name.starts_with(kUnfinished)) return step_of(name.substr(kUnfinished.size())).has_value();
    if (!name.ends_with(kReplaced)) return false;
    name.resize(name.size() - kReplaced.size());
    std::error_code ignored;
    return step_of(name) && fs::exists(path.parent_path() / name, ignored);  // else it is the only one of its step
}

// A link or a file of the run that did not get its name. A process that runs may be `kiln plot`.
bool is_temporary(const fs::path& path) {
    const std::string name = path.filename().string();
    for (const char* link : {kModelLink, kBestLink}) {
        if (name == new_link_name(link)) return true;
    }
    const std::string target = target_of_temporary(name);
    if (target != kConfigFile && target != kLossCurve && target != kWriteTest) return name == kWriteTest;
    pid_t process = 0;
    const auto error = std::from_chars(&name[name.rfind('-') + 1], name.data() + name.size(), process).ec;
    return error == std::errc() && process > 0 && ::kill(process, 0) != 0 && errno == ESRCH;
}

// The entries of the directory for which `is_one` is true.
std::vector<fs::path> find_all(const fs::path& directory, bool (*is_one)(const fs::path&)) {
    std::vector<fs::path> found;
    std::error_code error;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
        if (is_one(entry->path())) found.push_back(entry->path());
    }
    return found;
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

}  // namespace

fs::path save_checkpoint(const fs::path& run, int64_t step, const ModelState& model, const json& trainer_state,
                         const ModelFiles& files, const Report& report, const WriteOptimizer& write_parts) {
    const auto write_alone = [&](const fs::path& directory) {
        return FileDigests{{optimizer_file(0, 1), write_optimizer(directory, model)}};
    };
    try {
        return write_checkpoint(run, step, model, trainer_state, files, report,
                                write_parts ? write_parts : WriteOptimizer(write_alone));
    } catch (const fs::filesystem_error& error) {
        const std::string message =
            concat(run.string(), ": the checkpoint of step ", step, " cannot be written: ", error.what());
        if (error.code() == std::errc::no_such_file_or_directory) throw RemovedError(message);
        throw Error(message);
    }
}

void prune_checkpoints(const fs::path& run, int keep, int64_t major_every, fs::path complete) {
    const std::vector<CheckpointRef> all = kiln_checkpoints(run);
    // If the newest ones are damaged, an older one must stay.
    if (complete.empty() && keep > 0 && all.size() > size_t(keep)) {
        if (const auto newest = newest_checkpoint(run, nullptr)) complete = newest->directory;
    }
    const std::vector<fs::path> linked = link_targets(run);
    std::string failure;  // the first one, which does not keep the others from being removed
    const auto attempt = [&](const fs::path& path, const auto& remove) {
        std::error_code error;
        remove(error);
        if (error && failure.empty()) failure = concat(path.string(), ": cannot be removed: ", error.message());
    };
    for (size_t i = 0; i < all.size(); i++) {
        const bool major = major_every > 0 && all[i].step % major_every == 0;
        const bool named = std::ranges::find(linked, all[i].directory.filename()) != linked.end();
        const bool surplus =
            keep > 0 && i >= size_t(keep) && !major && !named && !complete.empty() && all[i].directory != complete;
        if (!surplus) continue;
        // Renamed first: if the process is killed now, no incomplete checkpoint has the name.
        const fs::path doomed = run / (std::string(kUnfinished) + all[i].directory.filename().string());
        attempt(doomed, [&](std::error_code& error) { fs::remove_all(doomed, error); });
        attempt(all[i].directory, [&](std::error_code& error) { fs::rename(all[i].directory, doomed, error); });
    }
    const std::vector<fs::path> leftovers = find_all(run, is_unfinished_checkpoint);
    if (!leftovers.empty()) sync_directory(run);  // the new names are on the disk before anything is removed
    for (const fs::path& leftover : leftovers) {
        attempt(leftover, [&](std::error_code& error) { fs::remove_all(leftover, error); });
    }
    KILN_CHECK(failure.empty(), failure);
}

void remove_leftovers(const fs::path& run) {
    std::error_code ignored;
    for (const auto is_leftover : {is_unfinished_checkpoint, is_temporary}) {
        for (const fs::path& leftover : find_all(run, is_leftover)) fs::remove_all(leftover, ignored);
    }
}

}  // namespace kiln
