#include "tools/commands/conversion.h"

#include <algorithm>
#include <iostream>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tools/cli/progress_line.h"
#include "tools/cli/stop_signal.h"
#include "tools/formats/llmc_state.h"
#include "tools/train/options.h"
#include "tools/train/trainer_state.h"

namespace kiln {

namespace fs = std::filesystem;

void add_conversion_output(OptionSet& set, std::string& output, bool& overwrite) {
    set.add(output, {.name = "output",
                     .short_name = "o",
                     .unit = "PATH",
                     .help = "the file or directory to write; it appears only when it is complete",
                     .required = true});
    set.add(overwrite,
            {.name = "overwrite", .former_names = {"force"}, .help = "replace the model that exists at --output"});
}

void check_conversion_output(const fs::path& output, bool overwrite,
                             const std::function<void(const fs::path& output)>& open) {
    const bool exists = fs::exists(status_of(output));
    KILN_CHECK(exists || !fs::is_symlink(fs::symlink_status(output)), output.string(),
               ": is a link to a path that does not exist; choose another --output");
    if (!exists || (fs::is_directory(output) && fs::is_empty(output))) return;
    KILN_CHECK(overwrite, output.string(), ": exists already; choose another --output, or replace it with --overwrite");
    if (!fs::is_regular_file(output)) return;
    try {
        open(output);
    } catch (const Error& error) {
        throw Error(concat(output.string(), ": is not a file of this format, so it is not replaced (", error.what(),
                           "); choose another --output"));
    }
}

void convert(const StoredModel& model, const ModelFormat& to, const fs::path& output, const std::string& type) {
    write_with_progress(model.config, output,
                        [&](const ConversionProgress& progress) { to.write(output, model, type, progress); });
}

void write_with_progress(const ModelConfig& config, const fs::path& output,
                         const std::function<void(const ConversionProgress& progress)>& write) {
    struct Stopped {};
    ProgressLine line;
    catch_stop_signals();
    try {
        uint64_t bytes = 0;
        write([&](uint64_t done, uint64_t all) {
            if (stop_signal() != 0) throw Stopped();
            line.show("writing " + output.string(), double(done) * 1e-6, double(all) * 1e-6, "MB");
            bytes = all;
        });
        line.clear();
        std::cerr << "wrote " << count_text(double(count_parameters(config))) << " parameters ("
                  << bytes_text(double(bytes)) << ") to " << output.string() << "\n";
    } catch (const Stopped&) {
        line.clear();
        std::cerr << "stopped by " << signal_name(stop_signal()) << "; nothing was written\n";
        end_at_stop_signals([](int) {});  // at once
    }
}

void import_llmc_checkpoint(const fs::path& model, const fs::path& state, const ModelFiles& files,
                            const fs::path& output) {
    const LlmcModelFile file(model);
    const LlmcStateFile training(state, file);
    const TrainOptions options;
    TrainerState own;
    own.progress.step = own.progress.updates = training.step();
    own.progress.position = training.step() > 0 ? 1 : 0;
    own.model = describe(file.config());
    own.T = std::min(file.config().max_T, 1024);  // the default of --sequence-length
    own.seed = options.seed;
    catch_stop_signals();
    const fs::path checkpoint = save_checkpoint(output, training.step(), training.state(), own.to_json(), files);
    std::cerr << "wrote " << checkpoint.string() << "; resume the run with --output " << output.string()
              << " --resume\n";
}

}  // namespace kiln
