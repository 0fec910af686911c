// Writes, replaces and removes checkpoints.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/manifest.h"
#include "tools/checkpoint/names.h"
#include "tools/checkpoint/optimizer_state.h"
#include "tools/formats/huggingface.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Renames `fresh` to `target`, which may exist. At every moment a complete directory has the name or, if the file
// system cannot exchange two names, another name that list_checkpoints finds. What was there is removed only after the
// new name is on the disk.
void install(const fs::path& fresh, const fs::path& target) {
    const auto exchange = [&] {
        return ::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0;
    };
    fs::path old;
    if (!fs::exists(fs::symlink_status(target))) {
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
    if (!old.empty()) fs::remove_all(old);
}

fs::path write_checkpoint(const fs::path& run, int64_t step, const Engine& engine, const json& trainer_state,
                          const ModelFiles& files) {
    make_directories(run);
    const fs::path target = run / checkpoint_name(step);
    const fs::path temporary = run / (std::string(kTemporary) + checkpoint_name(step));
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

}  // namespace

fs::path save_checkpoint(const fs::path& run, int64_t step, const Engine& engine, const json& trainer_state,
                         const ModelFiles& files) {
    try {
        return write_checkpoint(run, step, engine, trainer_state, files);
    } catch (const fs::filesystem_error& error) {
        throw Error(concat(run.string(), ": the checkpoint of step ", step, " cannot be written: ", error.what()));
    }
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
    if (leftovers.empty()) return;
    sync_directory(run);  // the new names are on the disk before anything is removed
    for (const fs::path& leftover : leftovers) fs::remove_all(leftover);
}

}  // namespace kiln
