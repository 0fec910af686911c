#include "dev/bench/support/two_streams.h"

#include <algorithm>
#include <limits>

#include "cpu_reference/interface/error.h"

namespace kiln::bench {

const std::vector<Work>& TwoStreams::run(double share) {
    std::array<size_t, 2> done{};
    std::array<double, 2> left{};
    double now = 0;
    while (done[0] < queued_[0].size() || done[1] < queued_[1].size()) {
        std::array<Work*, 2> running{};
        for (const size_t lane : {0, 1}) {
            if (done[lane] == queued_[lane].size()) continue;
            Work& next = work_[size_t(queued_[lane][done[lane]])];
            if (next.after >= 0 && work_[size_t(next.after)].end_ms < 0) continue;
            running[lane] = &next;
            if (next.begin_ms >= 0) continue;
            next.begin_ms = now;
            left[lane] = next.ms;
        }
        KILN_CHECK(running[0] || running[1], "each stream waits for the other");
        const double speed[2] = {running[1] && running[1]->ms > 0 ? 1 - share : 1, 1};
        double step = std::numeric_limits<double>::infinity();
        for (const size_t lane : {0, 1}) {
            if (running[lane]) step = std::min(step, left[lane] / speed[lane]);
        }
        now += step;
        for (const size_t lane : {0, 1}) {
            if (!running[lane]) continue;
            const bool ends = left[lane] / speed[lane] <= step;
            left[lane] -= step * speed[lane];
            running[lane]->slowed_ms += step * (1 - speed[lane]);
            if (!ends) continue;
            running[lane]->end_ms = now;
            done[lane]++;
        }
    }
    return work_;
}

}  // namespace kiln::bench
