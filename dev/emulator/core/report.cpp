// Reports what a launch did wrong: the kernel, block, thread and line, and what the other threads wait for.
#include <algorithm>
#include <cstring>
#include <sstream>

#include "dev/emulator/core/kernels.h"
#include "dev/emulator/core/worker.h"

namespace simt {

std::string text_of(uint3 at) {
    std::ostringstream out;
    out << '(' << at.x << ", " << at.y << ", " << at.z << ')';
    return out.str();
}

std::string text_of(Where where) {
    return std::string(where.file) + ":" + std::to_string(where.line);
}

void Worker::report(const std::string& what, const Thread* thread, std::optional<Where> where) {
    std::ostringstream out;
    out << "simt: " << kernel_name(grid_->config.kernel) << ", block " << text_of(blockIdx);
    if (thread) out << ", thread " << text_of(thread->index);
    out << ": " << what;
    if (where) out << " at " << text_of(*where);
    // The other threads, grouped by the place where they wait.
    std::vector<std::pair<const Thread*, int>> places;
    for (int i = 0; i < count_; ++i) {
        const Thread& other = *threads_[i];
        if (&other == thread || (other.state != State::waiting && other.state != State::polling)) continue;
        const auto same = [&](const auto& place) {
            return place.first->where.line == other.where.line &&
                   std::strcmp(place.first->where.file, other.where.file) == 0 &&
                   std::strcmp(place.first->waits_in, other.waits_in) == 0;
        };
        const auto place = std::find_if(places.begin(), places.end(), same);
        if (place != places.end()) {
            ++place->second;
        } else {
            places.emplace_back(&other, 0);
        }
    }
    for (const auto& [other, more] : places) {
        out << "\n  thread " << text_of(other->index);
        if (more > 0) out << " and " << more << " more wait in ";
        if (more == 0) out << " waits in ";
        out << other->waits_in << " at " << text_of(other->where);
    }
    const std::lock_guard lock(grid_->mutex);
    if (!grid_->failure) grid_->failure = out.str();
    grid_->failed = true;
}

void Worker::fail(const char* what, Where where) {
    report(what, running_ ? running_ : works_for_, where);
    if (!running_) throw Abandoned{};
    happens_before(&done_);
    running_->fiber.leave();  // the block is abandoned
    __builtin_unreachable();
}

void fail(const char* what, Where where) {
    if (!this_worker().busy()) throw Failure(std::string("simt: ") + what + " at " + text_of(where));
    this_worker().fail(what, where);
}

}  // namespace simt
