#include "tools/checkpoint/model_state.h"

#include <algorithm>

#include "cpu_reference/interface/tensors.h"

namespace kiln {

ModelState::ModelState(const Engine& engine)
    : ModelState(
          engine.config(), engine.optimizer(),
          [&engine](const Arena& arena, size_t offset, std::span<float> out) { engine.read(arena, offset, out); }) {}

size_t state_bytes(const ModelConfig& config, Optimizer optimizer) {
    return sizeof(float) * size_t(count_parameters(config)) * (1 + optimizer_info(optimizer).states.size());
}

StateCopy::StateCopy(const ModelState& of)
    : config_(of.config),
      optimizer_(of.optimizer),
      arenas_{Arena::params},
      arena_elems_(size_t(count_parameters(config_))),
      values_(state_bytes(config_, optimizer_) / sizeof(float)) {
    for (const std::string_view state : optimizer_info(optimizer_).states) arenas_.push_back({state});
}

void StateCopy::update(const ModelState& of) {
    for (size_t i = 0; i < arenas_.size(); i++) {
        of.read(arenas_[i], 0, std::span(values_).subspan(i * arena_elems_, arena_elems_));
    }
}

ModelState StateCopy::state() const {
    return {config_, optimizer_, [this](const Arena& arena, size_t offset, std::span<float> out) {
                const auto i = size_t(std::ranges::find(arenas_, arena) - arenas_.begin());
                std::copy_n(values_.begin() + ptrdiff_t(i * arena_elems_ + offset), out.size(), out.begin());
            }};
}

}  // namespace kiln
