#pragma once
// Where the time of a step goes: NVTX ranges for a timeline (nsys), and the time of each group of kernels, measured
// with CUDA events. Without a Profiler, and without a tool that records NVTX, a range costs two calls that return at
// once.
#include <array>
#include <cstdint>
#include <vector>

#include "cuda/device/handles.h"

namespace kiln {

// What the kernels of a step are for. matmuls includes those of the LM head; loss is softmax, cross-entropy and their
// gradient.
enum class Group : uint8_t {
    embedding,
    norm,
    rope,
    attention,
    matmuls,
    bias,
    activation,
    dropout,
    loss,
    optimizer,
    copies,
};
inline constexpr int kGroups = 11;
const char* name_of(Group group);

struct GroupTime {
    double ms = 0;
    int64_t ranges = 0;
};

// Times of one stream. The stream must not be capturing: events in a graph have no times.
class Profiler {
public:
    void begin(Group group, cudaStream_t stream);
    void end(cudaStream_t stream) noexcept;

    // The times by group since the last call. Waits for the recorded events. Throws Error if a range is still open.
    std::array<GroupTime, kGroups> take();

private:
    struct Span {
        Group group;
        Event begin, end;
    };
    std::vector<Span> spans_;  // the first used_ are recorded; the others are kept for their events
    size_t used_ = 0;
    bool open_ = false;
};

// While it lives, the work queued on `stream` counts for the group. Groups do not nest. If profiler is null: NVTX only.
class GroupRange {
public:
    GroupRange(Profiler* profiler, Group group, cudaStream_t stream);
    ~GroupRange();
    GroupRange(const GroupRange&) = delete;
    GroupRange& operator=(const GroupRange&) = delete;

private:
    Profiler* profiler_;
    cudaStream_t stream_;
};

// A range of a timeline: a step, a micro-batch, a layer. Tools show `number` with the name; `name` must be a literal.
class NvtxRange {
public:
    NvtxRange(const char* name, int64_t number);
    ~NvtxRange();
    NvtxRange(const NvtxRange&) = delete;
    NvtxRange& operator=(const NvtxRange&) = delete;
};

}  // namespace kiln
