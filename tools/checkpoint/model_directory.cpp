#include "tools/checkpoint/model_directory.h"

#include <filesystem>
#include <iostream>

#include "cpu_reference/interface/error.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/model_files.h"
#include "tools/train/device.h"

namespace kiln {

void add_model_option(OptionSet& set, std::string& model) {
    set.add(model, {.name = "model",
                    .unit = "DIR",
                    .help = "a checkpoint directory, or a run directory (its newest checkpoint)",
                    .required = true,
                    .nameless = true});
}

void add_dtype_option(OptionSet& set, std::string& dtype) {
    set.add(dtype, {.name = "dtype",
                    .help = "type of weights, activations and matmuls; auto: bfloat16 if the GPU has it, else float32",
                    .choices = {"auto", "float32", "bfloat16", "float16"}});
}

void add_machine_options(OptionSet& set, std::string& dtype, int& threads) {
    add_dtype_option(set, dtype);
    set.add(threads, {.name = "threads", .help = "CPU threads; 0: all processors", .min = 0, .max = 1024});
}

Precision choose_precision(const std::string& dtype) {
    const std::string program = backend_is_gpu() ? "kilncu" : "kiln";
    TrainOptions options;
    options.dtype = dtype;
    fit_to_device(options, require_device(program), program, nullptr, nullptr);
    return parse_precision(options.dtype);
}

std::string find_model(const std::string& model) {
    return resolve_model_directory(model, [](const std::string& text) { std::cerr << text << "\n"; }).string();
}

std::unique_ptr<Engine> open_engine(const std::string& directory, const EngineOptions& options) {
    std::unique_ptr<Engine> engine = make_engine(read_model_config(directory), options);
    load_weights(directory, *engine);
    return engine;
}

Tokenizer open_tokenizer(const std::string& tokenizer, const std::string& model_directory, const ModelConfig& config) {
    const std::filesystem::path own = tokenizer_of_model(model_directory);
    const std::filesystem::path path = tokenizer.empty() ? own : std::filesystem::path(tokenizer);
    KILN_CHECK(!path.empty(), model_directory, ": holds no tokenizer; give one with --tokenizer DIR");
    if (!tokenizer.empty()) verify_tokenizer(path);
    Tokenizer opened = Tokenizer::load(path);
    // Files may name more special tokens than the model was made for. Nothing but --allow-special makes them.
    int text_V = opened.vocab_size();
    while (text_V > config.V && opened.is_special(text_V - 1)) text_V--;
    KILN_CHECK(text_V <= config.V, path.string(), ": the tokenizer has ", opened.vocab_size(),
               " ids, but the model has ", config.V, "; it belongs to another model");
    return opened;
}

std::optional<int> end_of_text_of(const Tokenizer& tokenizer) {
    try {
        return tokenizer.end_of_text();
    } catch (const Error&) {
        return std::nullopt;
    }
}

}  // namespace kiln
