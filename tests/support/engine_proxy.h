#pragma once
// An Engine that calls another one. Tests override the functions that they observe or change.
#include <memory>

#include "cpu_reference/interface/engine.h"

namespace kiln {

class EngineProxy : public Engine {
public:
    explicit EngineProxy(std::unique_ptr<Engine> real) : real_(std::move(real)) {}

    const ModelConfig& config() const override { return real_->config(); }
    Optimizer optimizer() const override { return real_->optimizer(); }
    std::string device_name() const override { return real_->device_name(); }
    std::string attention() const override { return real_->attention(); }
    double peak_flops(double) const override { return 0; }  // measuring it takes longer than the tests' steps
    size_t memory_in_use_bytes() const override { return real_->memory_in_use_bytes(); }
    bool is_divided() const override { return real_->is_divided(); }
    std::vector<ArenaStretch> own_state() const override { return real_->own_state(); }
    void read_own_state(const Arena& arena, size_t offset, std::span<float> out) const override {
        real_->read_own_state(arena, offset, out);
    }
    void init_weights(uint64_t seed) override { real_->init_weights(seed); }
    void read(const Arena& arena, size_t offset, std::span<float> out) const override {
        real_->read(arena, offset, out);
    }
    void write(const Arena& arena, size_t offset, std::span<const float> in) override {
        real_->write(arena, offset, in);
    }
    void zero_gradients() override { real_->zero_gradients(); }
    void forward_backward(const Batch& batch, float grad_scale, uint64_t seed) override {
        real_->forward_backward(batch, grad_scale, seed);
    }
    LossSum take_loss() override { return real_->take_loss(); }
    double gradient_norm() override { return real_->gradient_norm(); }
    void update(const OptimizerStep& step) override { real_->update(step); }
    LossSum evaluate(const Batch& batch, float* losses) override { return real_->evaluate(batch, losses); }
    void open_cache(int slots, int max_T) override { real_->open_cache(slots, max_T); }
    void clear_slot(int slot) override { real_->clear_slot(slot); }
    int slot_length(int slot) const override { return real_->slot_length(slot); }
    void prefill(int slot, std::span<const int> tokens, float* logits) override {
        real_->prefill(slot, tokens, logits);
    }
    void decode(std::span<const int> slots, std::span<const int> tokens, float* logits) override {
        real_->decode(slots, tokens, logits);
    }

private:
    std::unique_ptr<Engine> real_;
};

}  // namespace kiln
