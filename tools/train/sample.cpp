#include "tools/train/sample.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/generate/generator.h"

namespace kiln {

std::vector<int> sample_prompt(const TrainOptions& options, const Tokenizer& tokenizer, int max_T) {
    const int end_of_text = tokenizer.end_of_text();
    std::vector<int> tokens = tokenizer.encode(options.prompt);
    if (tokens.empty() && end_of_text < 0) {
        throw UsageError("--prompt is needed for samples: the tokenizer has no token that begins a document");
    }
    if (tokens.empty()) tokens = {end_of_text};
    if (int(tokens.size()) >= max_T) {
        throw UsageError(concat("--prompt: ", tokens.size(), " tokens leave no room in the model's context of ", max_T,
                                "; shorten it"));
    }
    return tokens;
}

std::optional<std::string> sample_text(const TrainPlan& plan, Engine& engine, uint64_t number,
                                       const std::function<bool()>& stop_requested) {
    const TrainOptions& o = plan.options;
    const Tokenizer& tokenizer = *plan.sample_tokenizer;
    std::optional<std::string> text;
    // The KV cache exists only during generation, because training needs the memory.
    generate(engine,
             {.temperature = o.temperature,
              .top_k = o.top_k,
              .top_p = o.top_p,
              .vocab_size = std::min(tokenizer.vocab_size(), engine.config().V),
              .seed = o.seed},
             {{sample_prompt(o, tokenizer, engine.config().max_T), number}},
             {.max_new_tokens = o.sample_tokens,
              .stop_tokens = stop_tokens(plan.files),
              .max_slots = 1,
              .stop_requested = stop_requested},
             nullptr, [&](size_t, const Generated& result) {
                 text = replace_invalid_utf8(o.prompt + tokenizer.decode(result.tokens, !o.prompt.empty()));
             });
    return text;
}

}  // namespace kiln
