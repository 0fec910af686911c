#pragma once
// Reads the training state when each rank's engine has only a part of it (Engine::is_divided). Rank 0 writes the
// checkpoint, but all ranks must call Engine::read together.
#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/engine.h"
#include "tools/checkpoint/model_state.h"

namespace kiln {

class RankedState {
public:
    RankedState(const Engine& engine, Communicator& ranks);
    RankedState(const RankedState&) = delete;

    // Only rank 0 may read from it, and only while a Reading exists there.
    const ModelState& state() const { return state_; }

    // All ranks construct it together. On rank 0 the constructor returns at once. On the others it takes part in each
    // read of rank 0, and returns when the Reading of rank 0 is destroyed. If the state is not divided, it does
    // nothing.
    class Reading {
    public:
        explicit Reading(RankedState& state);
        Reading(const Reading&) = delete;
        ~Reading();

    private:
        RankedState& state_;
    };

private:
    struct Request {
        int64_t arena;  // an index of arenas_; -1: there are no more requests
        uint64_t offset, n;
    };
    bool divided() const { return engine_.is_divided(); }

    const Engine& engine_;
    Communicator& ranks_;
    std::vector<Arena> arenas_;
    ModelState state_;
};

}  // namespace kiln
