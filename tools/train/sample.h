#pragma once
// Text from a model in training, to be looked at.
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "tokenizer/tokenizer.h"
#include "tools/train/plan.h"

namespace kiln {

// The tokens samples begin with: --prompt, or what a document begins with. Throws Error if the tokenizer has no end of
// text, UsageError if the prompt leaves no room in the context.
std::vector<int> sample_prompt(const TrainOptions& options, const Tokenizer& tokenizer, int max_T);

// The prompt and what the model makes of it, up to the end of the document, --sample-tokens or the context. Depends on
// the weights, the seed and `number` only, and changes nothing of the training. Nothing if a stop was requested.
std::optional<std::string> sample_text(const TrainPlan& plan, Engine& engine, uint64_t number,
                                       const std::function<bool()>& stop_requested);

}  // namespace kiln
