#include "cpu_reference/interface/engine.h"

#include "cpu_reference/interface/error.h"

namespace kiln {

void Engine::queue_update(const OptimizerStep&, float) {
    throw Error("engine: this one cannot queue updates");
}
StepResult Engine::take_update() {
    throw Error("engine: no update was queued");
}

int Engine::prefill_and_sample(int slot, std::span<const int> tokens, Sampler& sampler, uint64_t sample_number) {
    logits_.resize(size_t(config().V));
    prefill(slot, tokens, logits_.data());
    return sampler.sample(logits_, sample_number, uint64_t(slot_length(slot)));
}
void Engine::decode_and_sample(std::span<const int> slots, std::span<const int> tokens, Sampler& sampler,
                               std::span<const uint64_t> sample_numbers, int* next) {
    const size_t V = size_t(config().V);
    logits_.resize(slots.size() * V);
    decode(slots, tokens, logits_.data());
    for (size_t i = 0; i < slots.size(); i++) {
        next[i] = sampler.sample({&logits_[i * V], V}, sample_numbers[i], uint64_t(slot_length(slots[i])));
    }
}

}  // namespace kiln
