// kiln import: a model of another program as a model directory.
#include "tools/commands/commands.h"
#include "tools/commands/conversion.h"

namespace kiln {

int command_import(const std::vector<std::string>& args) {
    std::string from, input, output;
    bool overwrite = false;
    OptionSet set(
        "kiln import",
        "Turns a model of another format into a model directory, from which every command of Kiln and Hugging "
        "Face's libraries load it. Its tokenizer is copied, if it has one.",
        {"--from hf --input models/gpt2 --output gpt2"});
    set.add(from, {.name = "from", .help = "the format of --input", .choices = model_format_names(), .required = true});
    set.add(input, {.name = "input", .unit = "PATH", .help = "the model: a directory or a file", .required = true});
    add_conversion_output(set, output, overwrite);
    if (!set.parse(args)) return 0;
    check_conversion_output(output, overwrite);
    convert(model_format(from).open(input), model_format("hf"), output, "");
    return 0;
}

}  // namespace kiln
