// kiln import: converts a model of another program to a model directory.
#include "cpu_reference/interface/error.h"
#include "tools/checkpoint/model_directory.h"
#include "tools/commands/commands.h"
#include "tools/commands/conversion.h"
#include "tools/formats/huggingface_model.h"
#include "tools/formats/llmc.h"

namespace kiln {

namespace fs = std::filesystem;

int command_import(const std::vector<std::string>& args) {
    std::string from, input, state, tokenizer, output;
    bool overwrite = false;
    OptionSet set(
        "kiln import",
        "Converts a model of another format to a model directory, which all commands of Kiln and Hugging Face's "
        "libraries can load. If the model has a tokenizer, it is converted too.",
        {"--from hf --input models/gpt2 --output gpt2", "--from llmc --input gpt2_124M.bin --output gpt2",
         "--from llmc --input log/model_00001000.bin --state log/state_00001000_00000.bin --output runs/mine"});
    set.add(from, {.name = "from", .help = "the format of --input", .choices = model_format_names(), .required = true});
    set.add(input, {.name = "input", .unit = "PATH", .help = "the model: a directory or a file", .required = true});
    set.add(state, {.name = "state",
                    .unit = "FILE",
                    .help = "the training state of llm.c that belongs to the model; --output then becomes a run that "
                            "can be resumed"});
    set.add(tokenizer, {.name = "tokenizer",
                        .unit = "PATH",
                        .help = "a tokenizer in place of the model's own: a directory or a file"});
    add_conversion_output(set, output, overwrite);
    if (!set.parse(args)) return 0;
    if (!state.empty() && from != "llmc") throw UsageError("--state is only for --from llmc");
    check_conversion_output(output, overwrite, open_hf);
    if (!tokenizer.empty()) verify_tokenizer(tokenizer);
    if (!state.empty()) {
        if (!tokenizer.empty()) open_tokenizer(tokenizer, "", LlmcModelFile(input).config());
        import_llmc_checkpoint(input, state, ModelFiles(tokenizer, input), output);
        return 0;
    }
    StoredModel model = model_format(from).open(input);
    if (!tokenizer.empty()) open_tokenizer(tokenizer, "", model.config);  // refuses one of another vocabulary
    if (!tokenizer.empty()) model.files = ModelFiles(tokenizer, fs::is_directory(input) ? input : "");
    convert(model, model_format("hf"), output, "");
    return 0;
}

}  // namespace kiln
