#pragma once
// When the work on two streams of a GPU begins and ends, if each stream does its own in order and waits for events as
// CUDA's streams do.
#include <array>
#include <vector>

namespace kiln::bench {

enum class Lane { passes, exchange };

struct Work {
    Lane lane;
    const char* name;
    int bucket;
    double ms;  // alone; 0: only waits
    int after;  // the work that must have ended before; -1: none
    double begin_ms = -1, end_ms = -1;
    double slowed_ms = 0;  // it took so much longer than alone
};

class TwoStreams {
public:
    void queue(Lane lane, const char* name, int bucket, double ms) { add({lane, name, bucket, ms, -1}); }
    // An event after all that the lane has queued. -1 stands for an event that was never recorded.
    int record(Lane lane) const { return queued_[size_t(lane)].empty() ? -1 : queued_[size_t(lane)].back(); }
    void wait(Lane lane, int event) { add({lane, "wait", -1, 0, event}); }

    // Computes begin_ms and end_ms of all work. `share`: of the passes' speed, which they lack while something is
    // exchanged.
    const std::vector<Work>& run(double share);
    size_t size() const { return work_.size(); }

private:
    void add(const Work& work) {
        queued_[size_t(work.lane)].push_back(int(work_.size()));
        work_.push_back(work);
    }

    std::vector<Work> work_;
    std::array<std::vector<int>, 2> queued_;  // of each lane
};

}  // namespace kiln::bench
