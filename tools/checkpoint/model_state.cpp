#include "tools/checkpoint/model_state.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/tensors.h"

namespace kiln {

ModelState::ModelState(const Engine& engine)
    : ModelState(
          engine.config(), engine.optimizer(), {0, 1, {{0, size_t(count_parameters(engine.config()))}}},
          [&engine](const Arena& arena, size_t offset, std::span<float> out) { engine.read(arena, offset, out); }) {}

size_t state_bytes(const ModelConfig& config, Optimizer optimizer) {
    return sizeof(float) * size_t(count_parameters(config)) * (1 + optimizer_info(optimizer).states.size());
}

StateCopy::StateCopy(const ModelState& of, bool weights)
    : config_(of.config), optimizer_(of.optimizer), part_(of.part) {
    size_t elems = 0;
    const auto add = [&](const Arena& arena, const ArenaStretch& at) {
        stretches_.push_back({arena, at, elems});
        elems += at.elems;
    };
    if (weights) add(Arena::params, {0, size_t(count_parameters(config_))});
    for (const std::string_view state : optimizer_info(optimizer_).states) {
        for (const ArenaStretch& at : part_.stretches) add({state}, at);
    }
    values_.resize(elems);
}

void StateCopy::update(const ModelState& of) {
    for (const Stretch& own : stretches_) {
        of.read(own.arena, own.at.offset, std::span(values_).subspan(own.begin, own.at.elems));
    }
}

ModelState StateCopy::state() const {
    return {config_, optimizer_, part_, [this](const Arena& arena, size_t offset, std::span<float> out) {
                const auto holds = [&](const Stretch& own) {
                    return own.arena == arena && own.at.offset <= offset &&
                           offset + out.size() <= own.at.offset + own.at.elems;
                };
                const auto own = std::ranges::find_if(stretches_, holds);
                KILN_CHECK(own != stretches_.end(), "the copy of the state has no ", arena.name, " at ", offset);
                std::copy_n(&values_[own->begin + (offset - own->at.offset)], out.size(), out.begin());
            }};
}

}  // namespace kiln
