#pragma once
// The state of engines that have a part of it each: one rank writes it, and all must read it together.
#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/engine.h"
#include "tools/checkpoint/model_state.h"

namespace kiln {

class RankedState {
public:
    RankedState(const Engine& engine, Communicator& ranks);
    RankedState(const RankedState&) = delete;

    // What rank 0 reads. While it does, all other ranks must be in serve().
    const ModelState& state() const { return state_; }

    // Called on all ranks together. On rank 0, the result ends serve() on the others when it is destroyed; on the
    // others this returns then.
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
        int64_t arena;  // an index of arenas_; -1: no more
        uint64_t offset, n;
    };
    bool divided() const { return engine_.is_divided(); }

    const Engine& engine_;
    Communicator& ranks_;
    std::vector<Arena> arenas_;
    ModelState state_;
};

}  // namespace kiln
