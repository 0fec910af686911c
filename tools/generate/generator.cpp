#include "tools/generate/generator.h"

#include <algorithm>
#include <chrono>

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

class Generation {
public:
    Generation(Engine& engine, const SamplerOptions& sampling, const std::vector<GenerateRequest>& requests,
               const GenerateOptions& options, const OnToken& on_token, const OnDone& on_done)
        : engine_(engine),
          sampler_(sampling),
          requests_(requests),
          options_(options),
          on_token_(on_token),
          on_done_(on_done) {}

    GenerateStats run() {
        if (requests_.empty() || options_.max_new_tokens <= 0) {
            for (size_t i = 0; i < requests_.size() && on_done_; i++) on_done_(i, {});
            return stats_;
        }
        open();
        while (!options_.stop_requested || !options_.stop_requested()) {
            for (int slot = 0; slot < int(slots_.size()); slot++) {
                while (!slots_[slot].busy && next_ < requests_.size()) start(slot);
            }
            if (!step()) break;
        }
        engine_.open_cache(0, 0);
        return stats_;
    }

private:
    struct Slot {
        bool busy = false;
        size_t request = 0;
        Generated result;
    };

    void open() {
        const int context = engine_.config().max_T;
        size_t longest = 0;
        for (const GenerateRequest& request : requests_) {
            KILN_CHECK(!request.prompt.empty(), "a prompt has no tokens");
            KILN_CHECK(request.prompt.size() < size_t(context), "a prompt of ", request.prompt.size(),
                       " tokens leaves no room in the model's context of ", context,
                       " tokens; shorten it, or use a model with a longer context");
            longest = std::max(longest, request.prompt.size());
        }
        slots_.resize(std::min<size_t>(requests_.size(), std::max(1, options_.max_slots)));
        const int64_t wanted = int64_t(longest) + options_.max_new_tokens;
        engine_.open_cache(int(slots_.size()), int(std::min<int64_t>(context, wanted)));
        next_tokens_.resize(slots_.size());
    }

    // Computes the next request's prompt and samples its first token.
    void start(int slot) {
        const std::vector<int>& prompt = requests_[next_].prompt;
        const auto begin = Clock::now();
        slots_[slot] = {true, next_++, {}};
        engine_.clear_slot(slot);
        const int token =
            engine_.prefill_and_sample(slot, prompt, sampler_, requests_[slots_[slot].request].sample_number);
        stats_.prompt_tokens += int64_t(prompt.size());
        append(slots_[slot], token);
        stats_.prefill_s += seconds_since(begin);
    }

    // Samples one token for every busy slot; false if no slot is busy.
    bool step() {
        busy_.clear(), last_.clear(), sample_numbers_.clear();
        for (int slot = 0; slot < int(slots_.size()); slot++) {
            if (!slots_[slot].busy) continue;
            busy_.push_back(slot);
            last_.push_back(slots_[slot].result.tokens.back());
            sample_numbers_.push_back(requests_[slots_[slot].request].sample_number);
        }
        if (busy_.empty()) return false;
        const auto begin = Clock::now();
        engine_.decode_and_sample(busy_, last_, sampler_, sample_numbers_, next_tokens_.data());
        for (size_t i = 0; i < busy_.size(); i++) append(slots_[busy_[i]], next_tokens_[i]);
        stats_.decode_s += seconds_since(begin);
        return true;
    }

    void append(Slot& slot, int token) {
        stats_.new_tokens++;
        if (std::ranges::count(options_.stop_tokens, token) > 0) return finish(slot, Finish::stop_token);
        slot.result.tokens.push_back(token);
        if (on_token_) on_token_(slot.request, token);
        if (int(slot.result.tokens.size()) == options_.max_new_tokens) return finish(slot, Finish::length);
        const size_t length = requests_[slot.request].prompt.size() + slot.result.tokens.size();
        if (length == size_t(engine_.config().max_T)) finish(slot, Finish::context);
    }

    void finish(Slot& slot, Finish why) {
        slot.busy = false;
        slot.result.finish = why;
        if (on_done_) on_done_(slot.request, slot.result);
    }

    Engine& engine_;
    Sampler sampler_;
    const std::vector<GenerateRequest>& requests_;
    const GenerateOptions& options_;
    const OnToken& on_token_;
    const OnDone& on_done_;
    GenerateStats stats_;
    std::vector<Slot> slots_;
    std::vector<int> busy_, last_, next_tokens_;
    std::vector<uint64_t> sample_numbers_;
    size_t next_ = 0;
};

}  // namespace

GenerateStats generate(Engine& engine, const SamplerOptions& sampling, const std::vector<GenerateRequest>& requests,
                       const GenerateOptions& options, const OnToken& on_token, const OnDone& on_done) {
    return Generation(engine, sampling, requests, options, on_token, on_done).run();
}

}  // namespace kiln
