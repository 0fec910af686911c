#pragma once
// Where a step's time goes: NVTX ranges for a timeline (nsys), and times by group of kernels from CUDA events, which
// need no other tool. Without a Profiler a range is two calls that return at once, unless a tool listens for NVTX.
#include <array>
#include <cstdint>
#include <vector>

#include "cuda/device/handles.h"

namespace kiln {

// What the kernels of a step are for. products: those of the head too; loss: the head's softmax and its gradient.
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

// Times of one stream. Not for streams that are being captured: events in a graph have no times.
class Profiler {
public:
    void begin(Group group, cudaStream_t stream);
    void end(cudaStream_t stream) noexcept;

    // By group since the last call; waits for what was recorded. Throws Error if a range is open still.
    std::array<GroupTime, kGroups> take();

private:
    struct Span {
        Group group;
        Event begin, end;
    };
    std::vector<Span> spans_;  // those after used_ are of earlier takes, to be used again
    size_t used_ = 0;
    bool open_ = false;
};

// While it lives, what is queued on `stream` counts as the group's. Groups do not nest. profiler null: NVTX only.
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

// A part of a timeline: a step, a micro-batch, a layer. `number` is shown beside the name, which outlives the call.
class NvtxRange {
public:
    NvtxRange(const char* name, int64_t number);
    ~NvtxRange();
    NvtxRange(const NvtxRange&) = delete;
    NvtxRange& operator=(const NvtxRange&) = delete;
};

bool has_nvtx();  // false: its headers were missing when this was compiled

}  // namespace kiln
