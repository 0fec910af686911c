#pragma once
// For all commands that use a trained model: --model, --tokenizer, --threads, --dtype.
#include <memory>
#include <optional>
#include <string>

#include "cpu_reference/interface/engine.h"
#include "tokenizer/tokenizer.h"
#include "tools/cli/options.h"

namespace kiln {

void add_model_option(OptionSet& set, std::string& model);                   // --model
void add_dtype_option(OptionSet& set, std::string& dtype);                   // --dtype
void add_machine_options(OptionSet& set, std::string& dtype, int& threads);  // --dtype, --threads
// The value of --dtype on this machine. Throws Error if the program cannot compute on this machine, and UsageError if
// it cannot compute in this type.
Precision choose_precision(const std::string& dtype);

// The directory of --model. A newer checkpoint of a run that is damaged is named on standard error, since the results
// are those of an older model. Throws Error.
std::string find_model(const std::string& model);

// An engine with the weights in `directory`, a result of find_model.
std::unique_ptr<Engine> open_engine(const std::string& directory, const EngineOptions& options);

// The tokenizer in `tokenizer` or, if that is empty, in the model's directory. Throws Error if there is none or if it
// has more ids than the model.
Tokenizer open_tokenizer(const std::string& tokenizer, const std::string& model_directory, const ModelConfig& config);

// Its end-of-text id, if it has one.
std::optional<int> end_of_text_of(const Tokenizer& tokenizer);

}  // namespace kiln
