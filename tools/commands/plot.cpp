// kiln plot: the loss curve of a run.
#include <filesystem>
#include <iostream>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/names.h"
#include "tools/cli/options.h"
#include "tools/cli/stop_signal.h"
#include "tools/commands/commands.h"
#include "tools/train/loss_curve.h"
#include "tools/train/run_directory.h"

namespace kiln {

int command_plot(const std::vector<std::string>& args) {
    std::string run, output;
    bool overwrite = false;
    OptionSet set("kiln plot", "Writes the loss curve of a run as an SVG file.",
                  {"--run runs/mine", "--run runs/mine --output loss.svg"});
    set.add(run, {.name = "run",
                  .unit = "DIR",
                  .help = "a run directory, as train_gpt2 -o writes it",
                  .required = true,
                  .nameless = true});
    set.add(output, {.name = "output",
                     .short_name = "o",
                     .unit = "FILE",
                     .help = "the file to write",
                     .default_help = "loss.svg in the run"});
    set.add(overwrite, {.name = "overwrite",
                        .former_names = {"force"},
                        .help = "replace the file also if it is not a loss curve that Kiln has drawn"});
    if (!set.parse(args)) return 0;

    const std::filesystem::path path =
        output.empty() ? std::filesystem::path(run) / kLossCurve : std::filesystem::path(output);
    const LossCurve curve = read_loss_curve(run);
    KILN_CHECK(!curve.train.empty() || !curve.val.empty(), run,
               "/metrics.jsonl: holds no loss yet; train a few steps first");
    const std::string svg = loss_svg(curve, run_title(run));
    KILN_CHECK(overwrite || may_replace_curve(path, svg), path.string(),
               ": is not a loss curve that Kiln has drawn; choose another --output, or replace it with --overwrite");
    catch_stop_signals();  // a signal waits until the file is whole
    write_file_atomic(path, svg);
    std::cout << path.string() << "\n";
    return 0;
}

}  // namespace kiln
