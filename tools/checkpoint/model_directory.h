#pragma once
// What the commands that use a trained model share: --model, --tokenizer, --threads, --dtype, and opening them.
#include <memory>
#include <optional>
#include <string>

#include "cpu_reference/interface/engine.h"
#include "tokenizer/tokenizer.h"
#include "tools/cli/options.h"

namespace kiln {

void set_threads(int threads);  // 0: as many as OpenMP finds

// --dtype, and what it comes to on this machine: throws Error where `program` cannot compute, UsageError where it
// cannot compute in it.
void add_dtype_option(OptionSet& set, std::string& dtype);
Precision choose_precision(const std::string& dtype);

// An engine with the weights of `directory` (as resolve_model_directory returns it).
std::unique_ptr<Engine> open_engine(const std::string& directory, const EngineOptions& options);

// The tokenizer in `tokenizer`, or in the model's directory if that is empty. Throws Error if there is none, or if it
// has more ids than the model.
Tokenizer open_tokenizer(const std::string& tokenizer, const std::string& model_directory, const ModelConfig& config);

// Its end-of-text id, if it has one.
std::optional<int> end_of_text_of(const Tokenizer& tokenizer);

}  // namespace kiln
