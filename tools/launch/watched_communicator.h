#pragma once
// Wraps a communicator that does not know the watch, such as MPI's, and marks each of its calls as a wait. So a rank
// that waits in such a call is not taken for the one that hangs.
#include <memory>
#include <utility>

#include "cpu_reference/interface/communicator.h"
#include "tools/launch/watch.h"

namespace kiln {

class WatchedCommunicator final : public Communicator {
public:
    WatchedCommunicator(std::unique_ptr<Communicator> by, Watch& watch) : by_(std::move(by)), watch_(watch) {}

    int rank() const override { return by_->rank(); }
    int size() const override { return by_->size(); }
    void all_reduce(float* data, size_t n) override {
        const Watch::Waiting waits(watch_);
        by_->all_reduce(data, n);
    }
    void all_reduce(double* data, size_t n) override {
        const Watch::Waiting waits(watch_);
        by_->all_reduce(data, n);
    }
    void reduce_scatter(const float* in, float* out, size_t n_per_rank) override {
        const Watch::Waiting waits(watch_);
        by_->reduce_scatter(in, out, n_per_rank);
    }
    void all_gather(const float* in, float* out, size_t n_per_rank) override {
        const Watch::Waiting waits(watch_);
        by_->all_gather(in, out, n_per_rank);
    }
    void broadcast(void* data, size_t bytes, int root) override {
        const Watch::Waiting waits(watch_);
        by_->broadcast(data, bytes, root);
    }
    void barrier() override {
        const Watch::Waiting waits(watch_);
        by_->barrier();
    }
    std::shared_ptr<void> waiting() override { return std::make_shared<Watch::Waiting>(watch_); }

private:
    std::unique_ptr<Communicator> by_;
    Watch& watch_;
};

}  // namespace kiln
