// kiln plot: the loss curve of a run.
#include <filesystem>
#include <iostream>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tools/cli/options.h"
#include "tools/cli/stop_signal.h"
#include "tools/commands/commands.h"
#include "tools/train/loss_curve.h"

namespace kiln {

int command_plot(const std::vector<std::string>& args) {
    std::string run, output;
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
    if (!set.parse(args)) return 0;

    const std::filesystem::path path = output.empty() ? run + "/loss.svg" : output;
    const LossCurve curve = read_loss_curve(run);
    KILN_CHECK(!curve.train.empty() || !curve.val.empty(), run,
               "/metrics.jsonl: holds no loss yet; train a few steps first");
    catch_stop_signals();  // a signal waits until the file is whole
    write_file_atomic(path, loss_svg(curve, run_title(run)));
    std::cout << path.string() << "\n";
    return 0;
}

}  // namespace kiln
