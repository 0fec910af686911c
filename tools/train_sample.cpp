#include "tools/train_sample.h"

#include <algorithm>

#include "cpu_reference/error.h"
#include "tools/sampler.h"

namespace kiln {

namespace {

// The cache is held only while text is made: training needs the memory more.
class CacheGuard {
public:
    CacheGuard(Engine& engine, int max_T) : engine_(engine) { engine_.open_cache(1, max_T); }
    CacheGuard(const CacheGuard&) = delete;
    ~CacheGuard() { engine_.open_cache(0, 0); }

private:
    Engine& engine_;
};

}  // namespace

std::vector<int> sample_prompt(const TrainOptions& options, const Tokenizer& tokenizer, int max_T) {
    const int end_of_text = tokenizer.end_of_text();
    std::vector<int> tokens = tokenizer.encode(options.prompt);
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
    const Tokenizer tokenizer = Tokenizer::load(plan.tokenizer);
    const int end_of_text = tokenizer.end_of_text(), max_T = engine.config().max_T;
    const std::vector<int> tokens = sample_prompt(o, tokenizer, max_T);
    const int length = std::min(max_T, int(tokens.size()) + o.sample_tokens);

    Sampler sampler({.temperature = o.temperature, .top_k = o.top_k, .top_p = o.top_p, .seed = o.seed});
    const CacheGuard cache(engine, length);
    std::vector<float> logits(engine.config().V);
    engine.prefill(0, tokens, logits.data());
    DecodeStream stream(tokenizer);
    std::string text = o.prompt;
    const int slot = 0;
    for (int position = int(tokens.size()); position < length; position++) {
        if (stop_requested && stop_requested()) return std::nullopt;
        // Ids above the tokenizer's, which a model's vocabulary may have, stand for nothing.
        const std::span<const float> known =
            std::span(logits).first(std::min(logits.size(), size_t(tokenizer.vocab_size())));
        const int token = sampler.sample(known, number, uint64_t(position));
        if (token == end_of_text) break;
        text += stream.push(token);
        if (position + 1 < length) engine.decode(std::span(&slot, 1), std::span(&token, 1), logits.data());
    }
    return text + stream.finish();
}

}  // namespace kiln
