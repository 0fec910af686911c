#include "tools/commands/conversion.h"

#include <iostream>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tools/cli/progress_line.h"
#include "tools/cli/stop_signal.h"

namespace kiln {

namespace fs = std::filesystem;

void add_conversion_output(OptionSet& set, std::string& output, bool& overwrite) {
    set.add(output, {.name = "output",
                     .short_name = "o",
                     .unit = "PATH",
                     .help = "what to write; it appears only when it is complete",
                     .required = true});
    set.add(overwrite, {.name = "overwrite", .former_names = {"force"}, .help = "replace a model at --output"});
}

void check_conversion_output(const fs::path& output, bool overwrite) {
    const bool is_free = !fs::exists(status_of(output)) || (fs::is_directory(output) && fs::is_empty(output));
    KILN_CHECK(is_free || overwrite, output.string(),
               ": exists already; choose another --output, or replace it with --overwrite");
}

void convert(const StoredModel& model, const ModelFormat& to, const fs::path& output, const std::string& type) {
    struct Stopped {};
    ProgressLine line;
    catch_stop_signals();
    try {
        uint64_t bytes = 0;
        to.write(output, model, type, [&](uint64_t done, uint64_t all) {
            if (stop_signal() != 0) throw Stopped();
            line.show("writing " + output.string(), double(done) * 1e-6, double(all) * 1e-6, "MB");
            bytes = all;
        });
        line.clear();
        std::cerr << "wrote " << count_text(double(count_parameters(model.config))) << " parameters ("
                  << bytes_text(double(bytes)) << ") to " << output.string() << "\n";
    } catch (const Stopped&) {
        line.clear();
        std::cerr << "stopped by " << signal_name(stop_signal()) << "; nothing was written\n";
        end_at_stop_signals([](int) {});  // at once
    }
}

}  // namespace kiln
