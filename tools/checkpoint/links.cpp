#include "tools/checkpoint/links.h"

#include <map>
#include <system_error>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/names.h"

namespace kiln {

namespace fs = std::filesystem;

void link_checkpoint(const fs::path& run, const std::string& name, const fs::path& checkpoint) {
    const fs::path link = run / name, fresh = run / new_link_name(name);
    std::error_code error;
    const fs::file_status now = fs::symlink_status(link, error);
    KILN_CHECK(!fs::exists(now) || fs::is_symlink(now), link.string(), ": is not a link; it stays as it is");
    fs::remove(fresh, error);  // of a killed process
    // Relative, so that it stays right when the run is moved or copied.
    fs::create_directory_symlink(checkpoint.filename(), fresh, error);
    if (!error) fs::rename(fresh, link, error);
    KILN_CHECK(!error, link.string(), ": cannot be linked to ", checkpoint.filename().string(), ": ", error.message());
    sync_directory(run);
}

std::optional<fs::path> linked_checkpoint(const fs::path& run, const std::string& name) {
    std::error_code error;
    const fs::path target = fs::read_symlink(run / name, error);
    if (error || !fs::is_directory(run / target, error)) return std::nullopt;
    return run / target;
}

std::optional<CheckpointRef> best_checkpoint(const fs::path& run,
                                             const std::vector<std::pair<int64_t, double>>& losses) {
    std::map<int64_t, double> loss_of;
    for (const auto& [step, loss] : losses) loss_of[step] = loss;
    std::optional<CheckpointRef> best;
    for (const CheckpointRef& checkpoint : list_checkpoints(run)) {  // newest first
        if (!loss_of.contains(checkpoint.step)) continue;
        if (!best || loss_of[checkpoint.step] <= loss_of[best->step]) best = checkpoint;
    }
    return best;
}

}  // namespace kiln
