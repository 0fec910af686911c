#pragma once
// An Engine for tests of code that uses engines. Its arenas are vectors, and its "language model" computes the next
// token from the tokens in the slot.
#include <functional>
#include <map>
#include <string_view>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "cpu_reference/interface/error.h"

namespace kiln {

class FakeEngine : public Engine {
public:
    // Fills logits (V) for the token after `tokens`.
    using Model = std::function<void(const std::vector<int>& tokens, float* logits)>;

    explicit FakeEngine(const ModelConfig& config, Model model = nullptr) : config_(config), model_(std::move(model)) {
        for (const Arena& a : saved()) arenas_[a.name].assign(size_t(count_parameters(config)), 0.0f);
    }

    // The arenas that a checkpoint holds.
    static std::vector<Arena> saved() {
        std::vector<Arena> arenas = {Arena::params};
        for (const std::string_view state : optimizer_info(Optimizer::adamw).states) arenas.push_back({state});
        return arenas;
    }
    std::vector<float>& arena(const Arena& a) { return arenas_.at(a.name); }
    // Every value differs from its neighbours and from the other arenas, so that a test sees a swap or a transposition.
    void fill(float seed) {
        for (const Arena& a : saved()) {
            std::vector<float>& values = arena(a);
            for (size_t i = 0; i < values.size(); i++) values[i] = seed + float(i);
            seed += 0.25f;
        }
    }

    const ModelConfig& config() const override { return config_; }
    std::string device_name() const override { return "fake"; }
    double peak_flops(double) const override { return 0; }
    size_t memory_in_use_bytes() const override { return 0; }
    void init_weights(uint64_t) override {}
    void read(const Arena& a, size_t offset, std::span<float> out) const override {
        const std::vector<float>& values = arenas_.at(a.name);
        KILN_CHECK(offset + out.size() <= values.size(), "read beyond the arena");
        std::copy_n(values.begin() + offset, out.size(), out.begin());
    }
    void write(const Arena& a, size_t offset, std::span<const float> in) override {
        KILN_CHECK(offset + in.size() <= arena(a).size(), "write beyond the arena");
        std::copy(in.begin(), in.end(), arena(a).begin() + offset);
    }
    void zero_gradients() override {}
    void forward_backward(const Batch&, float, uint64_t) override {}
    LossSum take_loss() override { return {}; }
    double gradient_norm() override { return 0; }
    void update(const OptimizerStep&) override {}
    LossSum evaluate(const Batch&, float*) override { return {}; }

    void open_cache(int slots, int max_T) override {
        slots_.assign(slots, {});
        cache_T_ = max_T;
        open_slots_ = slots;
    }
    void clear_slot(int slot) override { slots_.at(slot).clear(); }
    int slot_length(int slot) const override { return int(slots_.at(slot).size()); }
    void prefill(int slot, std::span<const int> tokens, float* logits) override {
        for (const int token : tokens) append(slot, token);
        model_(slots_.at(slot), logits);
    }
    void decode(std::span<const int> slots, std::span<const int> tokens, float* logits) override {
        largest_batch_ = std::max(largest_batch_, int(slots.size()));
        for (size_t i = 0; i < slots.size(); i++) {
            append(slots[i], tokens[i]);
            model_(slots_.at(slots[i]), logits + i * config_.V);
        }
    }

    int largest_batch_ = 0, open_slots_ = 0;

private:
    void append(int slot, int token) {
        KILN_CHECK(int(slots_.at(slot).size()) < cache_T_, "slot ", slot, " is full");
        slots_[slot].push_back(token);
    }

    ModelConfig config_;
    Model model_;
    std::map<std::string_view, std::vector<float>> arenas_;
    std::vector<std::vector<int>> slots_;
    int cache_T_ = 0;
};

}  // namespace kiln
