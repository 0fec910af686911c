#include "tools/train/ranked_state.h"

#include <algorithm>

namespace kiln {

RankedState::RankedState(const Engine& engine, Communicator& ranks)
    : engine_(engine),
      ranks_(ranks),
      arenas_{Arena::params},
      state_(engine.config(), engine.optimizer(), [this](const Arena& arena, size_t offset, std::span<float> out) {
          if (divided()) {
              Request request{std::ranges::find(arenas_, arena) - arenas_.begin(), offset, out.size()};
              ranks_.broadcast(&request, sizeof request, 0);
          }
          engine_.read(arena, offset, out);
      }) {
    for (const std::string_view name : optimizer_info(engine.optimizer()).states) arenas_.push_back({name});
}

RankedState::Reading::Reading(RankedState& state) : state_(state) {
    if (!state_.divided() || state_.ranks_.rank() == 0) return;
    std::vector<float> values;
    for (;;) {
        Request request{};
        state_.ranks_.broadcast(&request, sizeof request, 0);
        if (request.arena < 0) return;
        values.resize(request.n);
        state_.engine_.read(state_.arenas_[size_t(request.arena)], request.offset, values);
    }
}

RankedState::Reading::~Reading() {
    if (!state_.divided() || state_.ranks_.rank() != 0) return;
    Request end{-1, 0, 0};
    state_.ranks_.broadcast(&end, sizeof end, 0);
}

}  // namespace kiln
