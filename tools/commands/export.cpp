// kiln export: a model in the format of another program.
#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "tools/checkpoint/model_directory.h"
#include "tools/commands/commands.h"
#include "tools/commands/conversion.h"
#include "tools/formats/huggingface_model.h"

namespace kiln {
namespace {

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
    std::string model, to, output, type;
    bool overwrite = false;
    OptionSet set("kiln export", "Writes a model in the format of another program, with its tokenizer.",
                  {"--model runs/mine --to hf --output my-model --type bf16"});
    add_model_option(set, model);
    set.add(to, {.name = "to", .help = "the format to write", .choices = model_format_names(), .required = true});
    set.add(type, {.name = "type",
                   .unit = "TYPE",
                   .help = "the type of the weights. " + all_types(),
                   .default_help = "the type of the model"});
    add_conversion_output(set, output, overwrite);
    if (!set.parse(args)) return 0;
    const ModelFormat& format = model_format(to);
    if (!type.empty() && std::ranges::find(format.types, type) == format.types.end()) {
        throw UsageError(concat("--type ", type, ": the format ", to, " has ",
                                format.types.empty() ? "only one type" : join(format.types, ", ")));
    }
    check_conversion_output(output, overwrite);
    convert(open_hf(find_model(model)), format, output, type);
    return 0;
}

}  // namespace kiln
