#include "tools/commands/inspect_checkpoint.h"

#include <optional>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
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
        if (found == state.options.end() || found->second == value) continue;
        text += concat(text.empty() ? "" : " ", "--", name, " ", found->second);
    }
    return text.empty() ? "all have their defaults" : text;
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
        const auto use = [](const CheckpointRef& other) {
            read_trainer_state(other);
            verify_values(other.directory);
        };
        const auto whole = named ? newest_checkpoint(checkpoint.parent_path(), nullptr, use) : std::nullopt;
        throw Error(concat(error.what(), named ? "; the newest whole checkpoint of the run: " : "",
                           whole   ? whole->directory.string()
                           : named ? "none"
                                   : ""));
    }
}

}  // namespace kiln
