// kiln export: writes a model in the format of another program.
#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "tools/checkpoint/manifest.h"
#include "tools/checkpoint/model_directory.h"
#include "tools/commands/commands.h"
#include "tools/commands/conversion.h"
#include "tools/formats/huggingface_model.h"
#include "tools/formats/llmc_state.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

// "hf: f32, f16, bf16"
std::string all_types() {
    std::vector<std::string> rows;
    for (const ModelFormat& format : model_formats()) {
        if (!format.types.empty()) rows.push_back(format.name + ": " + join(format.types, ", "));
    }
    return join(rows, "; ");
}

}  // namespace

int command_export(const std::vector<std::string>& args) {
    std::string model, to, output, type, state;
    bool overwrite = false;
    OptionSet set("kiln export", "Writes a model in the format of another program, with its tokenizer.",
                  {"--model runs/mine --to hf --output my-model --type bf16",
                   "--model runs/mine --to llama2c --output model.bin"});
    add_model_option(set, model);
    set.add(to, {.name = "to", .help = "the format to write", .choices = model_format_names(), .required = true});
    set.add(type, {.name = "type",
                   .unit = "TYPE",
                   .help = "the type of the weights. " + all_types(),
                   .default_help = "the type of the model, or f32 if the format lacks it"});
    set.add(state, {.name = "state",
                    .unit = "FILE",
                    .help = "also write the training state of the checkpoint for llm.c into this file"});
    add_conversion_output(set, output, overwrite);
    if (!set.parse(args)) return 0;
    const ModelFormat& format = model_format(to);
    if (!type.empty() && std::ranges::find(format.types, type) == format.types.end()) {
        throw UsageError(concat("--type ", type, ": the format ", to, " has ",
                                format.types.empty() ? "only one type" : join(format.types, ", ")));
    }
    if (!state.empty() && to != "llmc") throw UsageError("--state is only for --to llmc");
    if (!state.empty() && fs::weakly_canonical(state) == fs::weakly_canonical(output)) {
        throw UsageError(concat("--state ", state, ": is also --output; give each a file of its own"));
    }
    check_conversion_output(output, overwrite, format.open);
    if (!state.empty()) check_conversion_output(state, overwrite, check_llmc_state);
    const std::string directory = find_model(model);
    const StoredModel opened = is_llmc_model(directory) ? open_llmc(directory) : open_hf(directory);
    convert(opened, format, output, type);
    if (state.empty()) return 0;
    const int64_t step = verify_manifest(directory, true);
    write_with_progress(opened.config, state, [&](const ConversionProgress& progress) {
        write_llmc_state(state, directory, opened, step, progress);
    });
    return 0;
}

}  // namespace kiln
