#include "cuda/device/profile.h"

#include <utility>

#include "cpu_reference/interface/error.h"

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#else
#pragma message("no NVTX headers in the CUDA toolkit: timelines will show no ranges; make profile works without them")
#define NVTX_VERSION 0
#endif

namespace kiln {
namespace {

// NVTX has only headers; it loads the library of a tool if one is running.
void push(const char* name, int64_t number) {
#if NVTX_VERSION
    nvtxEventAttributes_t event{};
    event.version = NVTX_VERSION;
    event.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    event.messageType = NVTX_MESSAGE_TYPE_ASCII;
    event.message.ascii = name;
    event.payloadType = NVTX_PAYLOAD_TYPE_INT64;
    event.payload.llValue = number;
    nvtxRangePushEx(&event);
#else
    (void)name, (void)number;
#endif
}
void pop() {
#if NVTX_VERSION
    nvtxRangePop();
#endif
}

}  // namespace

const char* name_of(Group group) {
    static constexpr const char* kNames[kGroups] = {"embedding",  "norm",    "rope", "attention", "matmuls", "bias",
                                                    "activation", "dropout", "loss", "optimizer", "copies"};
    return kNames[size_t(group)];
}

void Profiler::begin(Group group, cudaStream_t stream) {
    KILN_CHECK(!open_, "profile: ", name_of(group), " begins within ", name_of(spans_[used_].group),
               "; groups do not nest");
    if (used_ == spans_.size()) spans_.emplace_back();
    spans_[used_].group = group;
    spans_[used_].begin.record(stream);
    open_ = true;
}

void Profiler::end(cudaStream_t stream) noexcept {
    // An error here comes from the stream, and the next call on the stream reports it.
    (void)taken(cudaEventRecord(spans_[used_].end, stream));
    used_++;
    open_ = false;
}

std::array<GroupTime, kGroups> Profiler::take() {
    KILN_CHECK(!open_, "profile: the times are taken within ", name_of(spans_[used_].group));
    std::array<GroupTime, kGroups> times{};
    for (size_t i = 0; i < used_; i++) {
        spans_[i].end.synchronize();
        float ms = 0;
        CUDA_CHECK(cudaEventElapsedTime(&ms, spans_[i].begin, spans_[i].end));
        GroupTime& time = times[size_t(spans_[i].group)];
        time.ms += ms;
        time.ranges++;
    }
    used_ = 0;
    return times;
}

GroupRange::GroupRange(Profiler* profiler, Group group, cudaStream_t stream) : profiler_(profiler), stream_(stream) {
    if (profiler_) profiler_->begin(group, stream_);
    push(name_of(group), 0);
}
GroupRange::~GroupRange() {
    pop();
    if (profiler_) profiler_->end(stream_);
}

NvtxRange::NvtxRange(const char* name, int64_t number) {
    push(name, number);
}
NvtxRange::~NvtxRange() {
    pop();
}

}  // namespace kiln
