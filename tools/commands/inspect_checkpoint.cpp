#include "tools/commands/inspect_checkpoint.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tools/checkpoint/links.h"
#include "tools/checkpoint/manifest.h"
#include "tools/checkpoint/names.h"
#include "tools/train/options.h"
#include "tools/train/trainer_state.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

// Returns the step.
int64_t inspect_files(const fs::path& checkpoint, const ShowRow& row) {
    std::string faults;
    const CheckedFiles checked = check_files(checkpoint);
    for (const FileCheck& file : checked.files) {
        row("  " + file.name,
            concat(file.bytes, " bytes, ", file.fault.empty() ? "as the manifest says" : "not as the manifest says"));
        if (!file.fault.empty()) faults += concat(faults.empty() ? "" : "; ", file.fault);
    }
    KILN_CHECK(faults.empty(), faults);
    return checked.step;
}

// "--name value" for each option that is not at its default.
std::string changed_options(const TrainerState& state) {
    TrainOptions defaults;
    OptionSet set("train_gpt2", "", {});
    add_train_options(set, defaults);
    std::string text;
    for (const auto& [name, value] : set.values()) {
        const auto found = state.options.find(name);
        const bool of_one_start = name == "resume" || name == "overwrite";
        if (of_one_start || found == state.options.end() || found->second == value) continue;
        text += concat(text.empty() ? "" : " ", "--", name, " ", found->second);
    }
    return text.empty() ? "all have their defaults" : text;
}

// What a manifest does not tell: whether training can continue with what the files hold.
void check_content(const CheckpointRef& checkpoint) {
    read_trainer_state(checkpoint);
    verify_values(checkpoint.directory);
}

void inspect_state(const TrainerState& state, const ShowRow& row) {
    const TrainProgress& p = state.progress;
    row("step", concat(p.step, ", updates applied ", p.updates, ", skipped ", p.step - p.updates));
    const double sequences = state.train_tokens ? double(*state.train_tokens) / state.T : 0;  // in an epoch, about
    row("position", concat("sequence ", p.position, " of ", state.T, " tokens",
                           sequences > 0 ? formatted(", epoch %.3f", double(p.position) / sequences) : ""));
    row("seed", std::to_string(state.seed));
    if (state.loss_scale) {
        row("loss scale", concat(state.loss_scale->scale, ", for ", state.loss_scale->good_steps, " steps"));
    }
    if (p.validated_at >= 0) row("validated at", concat("step ", p.validated_at));
    if (p.sampled_at >= 0) row("sampled at", concat("step ", p.sampled_at));
    row("options", changed_options(state));
}

}  // namespace

void inspect_checkpoint(const fs::path& checkpoint, const ShowRow& row) {
    const std::optional<int64_t> named = step_of(checkpoint.filename().string());
    try {
        const int64_t step = inspect_files(checkpoint, row);
        inspect_state(read_trainer_state({checkpoint, step}), row);
        verify_values(checkpoint);
        row("values", "weights and optimizer state are finite");
    } catch (const Error& error) {
        const auto whole = named ? newest_checkpoint(checkpoint.parent_path(), nullptr, check_content) : std::nullopt;
        throw Error(concat(error.what(), named ? "; the newest whole checkpoint of the run: " : "",
                           whole   ? whole->directory.string()
                           : named ? "none"
                                   : ""));
    }
}

CheckedRun check_run(const fs::path& run, const ShowRow& row) {
    CheckedRun checked;
    std::vector<std::string> damaged;
    const std::vector<CheckpointRef> all = list_checkpoints(run);
    for (const CheckpointRef& checkpoint : all) {
        try {
            verify_checkpoint(checkpoint.directory);
            check_content(checkpoint);
            row("checkpoint", concat(checkpoint.directory.string(), ", whole"));
            if (!checked.newest) checked.newest = checkpoint;
        } catch (const Error& error) {
            row("checkpoint", concat(checkpoint.directory.string(), ", damaged: ", error.what()));
            damaged.push_back(checkpoint.directory.filename());
        }
    }
    for (const char* link : {kModelLink, kBestLink}) {
        const auto target = linked_checkpoint(run, link);
        if (!target || std::ranges::find(damaged, target->filename().string()) == damaged.end()) continue;
        row(link, concat("leads to ", target->string(), ", which is damaged"));
    }
    if (!damaged.empty()) {
        checked.damaged = concat(run.string(), ": ", damaged.size(), " of ", all.size(), " checkpoints ",
                                 damaged.size() == 1 ? "is" : "are", " damaged: ", join(damaged, ", "));
    }
    return checked;
}

}  // namespace kiln
