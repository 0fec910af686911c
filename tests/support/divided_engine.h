#pragma once
// A FakeEngine of which each rank has a part of the optimizer state: every size-th stretch of kStretch elements.
#include "tests/support/fake_engine.h"

namespace kiln {

class DividedEngine : public FakeEngine {
public:
    static constexpr size_t kStretch = 77;  // divides no tensor

    DividedEngine(const ModelConfig& config, int rank, int ranks) : FakeEngine(config), rank_(rank), ranks_(ranks) {}

    bool is_divided() const override { return ranks_ > 1; }
    std::vector<ArenaStretch> own_state() const override {
        if (ranks_ == 1) return FakeEngine::own_state();
        std::vector<ArenaStretch> own;
        const auto all = size_t(count_parameters(config()));
        for (size_t at = kStretch * size_t(rank_); at < all; at += kStretch * size_t(ranks_)) {
            own.push_back({at, std::min(kStretch, all - at)});
        }
        return own;
    }
    void read_own_state(const Arena& a, size_t offset, std::span<float> out) const override {
        KILN_CHECK(int(offset / kStretch % size_t(ranks_)) == rank_, "rank ", rank_, " does not have ", offset);
        read(a, offset, out);
    }

private:
    int rank_, ranks_;
};

}  // namespace kiln
