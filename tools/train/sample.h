#pragma once
// Sample texts from a model in training.
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "tokenizer/tokenizer.h"
#include "tools/train/plan.h"

namespace kiln {

// The first tokens of the samples: --prompt, or the end-of-text token that starts a document. Throws Error if the
// tokenizer has no end-of-text token, UsageError if the prompt leaves no room in the context.
std::vector<int> sample_prompt(const TrainOptions& options, const Tokenizer& tokenizer, int max_T);

// The prompt and its continuation in valid UTF-8, up to the end of the document, --sample-tokens or the context. It
// depends only on the weights, the seed and `number`, and does not affect the training. Returns nothing if a stop was
// requested.
std::optional<std::string> sample_text(const TrainPlan& plan, Engine& engine, uint64_t number,
                                       const std::function<bool()>& stop_requested);

}  // namespace kiln
