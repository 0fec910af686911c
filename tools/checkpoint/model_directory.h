#pragma once
// The options, and the loading, that all commands with a trained model share.
#include <memory>
#include <optional>
#include <string>

#include "cpu_reference/interface/engine.h"
#include "tokenizer/tokenizer.h"
#include "tools/cli/options.h"

namespace kiln {

void add_model_option(OptionSet& set, std::string& model);
void add_dtype_option(OptionSet& set, std::string& dtype);
void add_machine_options(OptionSet& set, std::string& dtype, int& threads);  // --dtype, --threads
// Resolves --dtype on this machine. Throws Error if this machine cannot run the program, and UsageError if its device
// does not support the type.
Precision choose_precision(const std::string& dtype);

// The directory of --model. If that is a run whose newest checkpoints are damaged, they are named on standard error,
// because an older model is used. Throws Error if there is no model.
std::string find_model(const std::string& model);

// An engine with the weights in `directory`, a result of find_model.
std::unique_ptr<Engine> open_engine(const std::string& directory, const EngineOptions& options);

// The tokenizer in `tokenizer` or, if that is empty, in the model's directory. Throws Error if there is none, or
// if it has ids that the model lacks, other than special tokens at its end.
Tokenizer open_tokenizer(const std::string& tokenizer, const std::string& model_directory, const ModelConfig& config);

// The tokenizer's end-of-text id, if it has one.
std::optional<int> end_of_text_of(const Tokenizer& tokenizer);

}  // namespace kiln
