#pragma once
// What a checkpoint holds of an engine: its weights and its optimizer state. They are read from the engine, or from a
// copy, so that training may continue while they are written.
#include <functional>
#include <span>
#include <vector>

#include "cpu_reference/interface/engine.h"

namespace kiln {

// The part of the optimizer state that one rank has and writes.
struct StatePart {
    int index = 0, parts = 1;
    std::vector<ArenaStretch> stretches;  // of each arena of the optimizer
};

struct ModelState {
    ModelState(const Engine& engine);  // NOLINT: what reads the state takes an engine too
    ModelState(const ModelConfig& model, Optimizer trained_by, StatePart own_part,
               std::function<void(const Arena& arena, size_t offset_elems, std::span<float> out)> reader)
        : config(model), optimizer(trained_by), part(std::move(own_part)), read(std::move(reader)) {}

    const ModelConfig& config;
    Optimizer optimizer;
    StatePart part;
    // As Engine::read; of the optimizer's arenas, only elements of the part.
    std::function<void(const Arena& arena, size_t offset_elems, std::span<float> out)> read;
};

// The bytes of the weights and of the optimizer state in float32.
size_t state_bytes(const ModelConfig& config, Optimizer optimizer);

// A copy of an engine's weights and of a part of its optimizer state, in memory that each update() reuses.
class StateCopy {
public:
    // Takes the memory; of.config must outlive the copy. Without `weights` it copies none.
    StateCopy(const ModelState& of, bool weights);
    void update(const ModelState& of);
    ModelState state() const;

private:
    struct Stretch {
        Arena arena;
        ArenaStretch at;
        size_t begin;  // in values_
    };
    const ModelConfig& config_;
    Optimizer optimizer_;
    StatePart part_;
    std::vector<Stretch> stretches_;
    std::vector<float> values_;
};

}  // namespace kiln
