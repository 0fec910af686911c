#pragma once
// What a checkpoint holds of an engine: its weights and its optimizer state. They are read from the engine, or from a
// copy, so that training may continue while they are written.
#include <functional>
#include <span>
#include <vector>

#include "cpu_reference/interface/engine.h"

namespace kiln {

struct ModelState {
    ModelState(const Engine& engine);  // NOLINT: what reads the state takes an engine too
    ModelState(const ModelConfig& model, Optimizer trained_by,
               std::function<void(const Arena& arena, size_t offset_elems, std::span<float> out)> reader)
        : config(model), optimizer(trained_by), read(std::move(reader)) {}

    const ModelConfig& config;
    Optimizer optimizer;
    std::function<void(const Arena& arena, size_t offset_elems, std::span<float> out)> read;  // as Engine::read
};

// The bytes of the weights and of the optimizer state in float32.
size_t state_bytes(const ModelConfig& config, Optimizer optimizer);

// A copy of an engine's weights and optimizer state, in memory that each update() reuses.
class StateCopy {
public:
    explicit StateCopy(const ModelState& of);  // takes the memory; of.config must outlive the copy
    void update(const ModelState& of);
    ModelState state() const;

private:
    const ModelConfig& config_;
    Optimizer optimizer_;
    std::vector<Arena> arenas_;
    size_t arena_elems_;
    std::vector<float> values_;  // one arena after the other
};

}  // namespace kiln
