// libcudart for the emulated device: the functions that Kiln calls, compiled against the real header and linked in
// place of the library. Work is queued on its stream. The seed chooses when it runs, in any order that streams and
// events allow (seed 0: as soon as they allow it), so data that the host reads too early is not there yet. The legacy
// stream (null) is a queue like the others: it does not wait for streams made with cudaStreamNonBlocking, and Kiln has
// no others.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "dev/emulator/core/internal.h"

namespace {

using simt::returned;

// One recording of an event. It is done when the stream arrives at it.
struct Moment {
    bool done = false;
    double ms = 0;
    CUgraph_st* captured_in = nullptr;
};

// A step of a stream or graph: work, or a moment to wait for.
struct Step {
    std::function<void()> work;
    std::shared_ptr<Moment> after;
};

}  // namespace

struct CUgraph_st {
    std::vector<std::function<void()>> steps;  // in the order of capture, which respects every edge
    std::set<CUstream_st*> streams;            // all that are captured
    CUstream_st* origin = nullptr;
    bool broken = false;  // by a call that is not allowed while a stream is captured
};
struct CUgraphExec_st {
    std::vector<std::function<void()>> steps;
};
struct CUstream_st {
    std::deque<Step> steps;
    CUgraph_st* capture = nullptr;
    bool unjoined = false;  // captured work that the origin does not wait for yet
    bool running = false;
    bool destroyed = false;  // what is queued still runs
};
struct CUevent_st {
    std::shared_ptr<Moment> moment;
    CUstream_st* stream = nullptr;
};

namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kMemoryBytes = size_t(16) << 30;

struct Allocation {
    size_t bytes;
    bool pinned;  // memory of the host
};

struct Device {
    Device() { streams.push_back(std::make_unique<CUstream_st>()); }
    std::recursive_mutex mutex;
    std::vector<std::unique_ptr<CUstream_st>> streams;  // the first is the legacy stream
    std::map<const void*, Allocation> allocations;
    size_t used_bytes = 0;
    size_t foreign_bytes = 0;  // that other processes use
    cudaError_t last_error = cudaSuccess;
    cudaError_t lost = cudaSuccess;  // the error of all calls, after a kernel that failed on a real device
    simt::Traffic traffic;
    std::mt19937 rng;
    unsigned rng_seed = 0;

    bool flip(unsigned sides) {
        if (simt::seed() == 0) return true;
        if (rng_seed != simt::seed()) rng.seed(rng_seed = simt::seed());
        return rng() % sides == 0;
    }
};

Device& device() {
    static Device device;
    return device;
}

CUstream_st* stream_of(cudaStream_t stream) {
    return stream ? stream : device().streams.front().get();
}

bool can_run(const CUstream_st& stream) {
    return !stream.running && !stream.steps.empty() &&
           (!stream.steps.front().after || stream.steps.front().after->done);
}

void run_step(CUstream_st& stream) {
    const Step step = std::move(stream.steps.front());
    stream.steps.pop_front();
    if (!step.work) return;
    stream.running = true;  // its work may call back into the runtime
    try {
        step.work();
    } catch (...) {
        stream.running = false;
        for (const auto& other : device().streams) other->steps.clear();  // the device is lost, like a real one
        throw;
    }
    stream.running = false;
}

// Runs one step of a stream that can continue. False: there is none. Under an even seed the legacy stream works only
// when the host waits and no other stream can continue.
bool run_any(bool host_waits) {
    auto& streams = device().streams;
    std::erase_if(streams, [](const auto& one) { return one->destroyed && one->steps.empty() && !one->running; });
    std::vector<CUstream_st*> ready;
    for (const auto& stream : streams) {
        if (can_run(*stream)) ready.push_back(stream.get());
    }
    const bool late = simt::seed() != 0 && simt::seed() % 2 == 0 && (!host_waits || ready.size() > 1);
    if (late) std::erase(ready, streams.front().get());
    if (ready.empty()) return false;
    run_step(*ready[simt::seed() == 0 ? 0 : device().rng() % ready.size()]);
    return true;
}

template <class Done>
void run_until(Done done) {
    while (!done() && device().lost == cudaSuccess) {
        if (!run_any(true)) {
            for (const auto& stream : device().streams) stream->steps.clear();
            throw simt::Failure("simt: deadlock: the streams wait for events that no stream will record");
        }
    }
}

void run_all() {
    run_until([] {
        return std::all_of(device().streams.begin(), device().streams.end(),
                           [](const auto& stream) { return stream->steps.empty() || stream->running; });
    });
}

void add(CUstream_st* stream, Step step) {
    auto& d = device();
    if (stream->capture) {
        if (step.work) stream->capture->steps.push_back(std::move(step.work));
        stream->unjoined = stream != stream->capture->origin;
        return;
    }
    if (d.lost != cudaSuccess) return;
    stream->steps.push_back(std::move(step));
    while (d.flip(4) && run_any(false)) {
    }
}

cudaError_t allocate(void** p, size_t bytes, bool pinned) {
    auto& d = device();
    const std::lock_guard lock(d.mutex);
    if (d.lost != cudaSuccess) return returned(d.lost);
    if (simt::breaks_capture()) return returned(cudaErrorStreamCaptureUnsupported);
    if (d.used_bytes + d.foreign_bytes + bytes > kMemoryBytes) {
        *p = nullptr;
        return returned(cudaErrorMemoryAllocation);
    }
    if (::posix_memalign(p, kAlignment, std::max<size_t>(bytes, 1)) != 0) return returned(cudaErrorMemoryAllocation);
    std::memset(*p, 0xff, bytes);
    d.allocations[*p] = {bytes, pinned};
    d.used_bytes += bytes;
    return returned(cudaSuccess);
}

cudaError_t release(void* p) {
    auto& d = device();
    const std::lock_guard lock(d.mutex);
    if (!p) return returned(cudaSuccess);
    const auto found = d.allocations.find(p);
    if (found == d.allocations.end()) return returned(cudaErrorInvalidValue);
    run_all();  // the real function waits for the device too
    d.used_bytes -= found->second.bytes;
    d.allocations.erase(found);
    std::free(p);
    return returned(cudaSuccess);
}

struct ErrorText {
    cudaError_t error;
    const char *name, *text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capture was not joined: a stream does work for which the origin does not wait"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted while a stream is capturing"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
};
ErrorText text_of(cudaError_t error) {
    const auto* const known = std::ranges::find(kErrors, error, &ErrorText::error);
    if (known != std::end(kErrors)) return *known;
    return {error, "an error of the emulated device", "an error of the emulated device"};
}

}  // namespace

namespace simt {

void enqueue(cudaStream_t stream, std::function<void()> work) {
    const std::lock_guard lock(device().mutex);
    device().traffic.queued++;
    add(stream_of(stream), {std::move(work), nullptr});
}

std::function<double()>& event_clock() {
    static std::function<double()> clock = [] {
        return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
    };
    return clock;
}

Traffic traffic() {
    const std::lock_guard lock(device().mutex);
    return device().traffic;
}

bool breaks_capture() {
    const std::lock_guard lock(device().mutex);
    bool broken = false;
    for (const auto& stream : device().streams) {
        if (stream->capture) stream->capture->broken = broken = true;
    }
    return broken;
}

cudaError_t returned(cudaError_t error) {
    const std::lock_guard lock(device().mutex);
    if (device().lost != cudaSuccess) error = device().lost;
    if (error != cudaSuccess) device().last_error = error;
    return error;
}

void lose_device(cudaError_t error) {
    const std::lock_guard lock(device().mutex);
    device().lost = device().last_error = error;
    for (const auto& stream : device().streams) stream->steps.clear();
}

size_t bytes_from(const void* p, bool pinned) {
    const std::lock_guard lock(device().mutex);
    const auto& allocations = device().allocations;
    auto at = allocations.upper_bound(p);
    if (at == allocations.begin() || (--at)->second.pinned != pinned) return 0;
    const size_t offset = size_t(static_cast<const char*>(p) - static_cast<const char*>(at->first));
    return at->second.bytes - std::min(offset, at->second.bytes);
}

void set_foreign_bytes(size_t bytes) {
    const std::lock_guard lock(device().mutex);
    device().foreign_bytes = bytes;
}

}  // namespace simt

extern "C" {

const char* cudaGetErrorName(cudaError_t error) {
    return text_of(error).name;
}
const char* cudaGetErrorString(cudaError_t error) {
    return text_of(error).text;
}
cudaError_t cudaGetLastError() {
    const std::lock_guard lock(device().mutex);
    return std::exchange(device().last_error, device().lost);  // not of failing kernels: they throw
}

// --- memory

cudaError_t cudaMalloc(void** p, size_t bytes) {
    return allocate(p, bytes, false);
}
cudaError_t cudaFree(void* p) {
    return release(p);
}
cudaError_t cudaMallocHost(void** p, size_t bytes) {
    return allocate(p, bytes, true);
}
cudaError_t cudaFreeHost(void* p) {
    return release(p);
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    const std::lock_guard lock(device().mutex);
    *total = kMemoryBytes;
    *free = kMemoryBytes - device().used_bytes - device().foreign_bytes;
    return returned(cudaSuccess);
}
cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    simt::enqueue(stream, [=] {
        if (kind == cudaMemcpyDeviceToHost) device().traffic.bytes_to_host += bytes;
        if (bytes > 0) std::memmove(dst, src, bytes);  // with 0 bytes the pointers may be null
    });
    return returned(cudaSuccess);
}
cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
    const std::lock_guard lock(device().mutex);
    if (simt::breaks_capture()) return returned(cudaErrorStreamCaptureUnsupported);
    if (kind == cudaMemcpyHostToDevice && simt::bytes_from(src, true) == 0) {
        // The host goes on as soon as the source is copied to a buffer of the driver.
        cudaStreamSynchronize(nullptr);
        const auto* const first = static_cast<const char*>(src);
        simt::enqueue(nullptr, [dst, staged = std::vector<char>(first, first + bytes)] {
            std::copy(staged.begin(), staged.end(), static_cast<char*>(dst));
        });
        return returned(cudaSuccess);
    }
    cudaMemcpyAsync(dst, src, bytes, kind, nullptr);
    return kind == cudaMemcpyDeviceToDevice ? returned(cudaSuccess) : cudaStreamSynchronize(nullptr);
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
    simt::enqueue(stream, [=] { std::memset(p, value, bytes); });
    return returned(cudaSuccess);
}
cudaError_t cudaMemset(void* p, int value, size_t bytes) {
    return cudaMemsetAsync(p, value, bytes, nullptr);
}

// --- streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    const std::lock_guard lock(device().mutex);
    if (flags != cudaStreamNonBlocking) return returned(cudaErrorNotSupported);
    *stream = device().streams.emplace_back(std::make_unique<CUstream_st>()).get();
    return returned(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const std::lock_guard lock(device().mutex);
    stream = stream_of(stream);
    if (stream->capture) {
        stream->capture->broken = true;
        return returned(cudaErrorStreamCaptureUnsupported);
    }
    run_until([&] { return stream->steps.empty(); });
    return returned(cudaSuccess);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    const std::lock_guard lock(device().mutex);
    stream = stream_of(stream);
    if (stream->capture) {
        stream->capture->broken = true;
        return returned(cudaErrorStreamCaptureUnsupported);
    }
    return stream->steps.empty() ? returned(cudaSuccess) : returned(cudaErrorNotReady);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    const std::lock_guard lock(device().mutex);
    stream->destroyed = true;
    return returned(cudaSuccess);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new CUevent_st;
    return returned(cudaSuccess);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return returned(cudaSuccess);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    const std::lock_guard lock(device().mutex);
    stream = stream_of(stream);
    event->moment = std::make_shared<Moment>();
    event->stream = stream;
    if (stream->capture) {
        event->moment->captured_in = stream->capture;
        return returned(cudaSuccess);
    }
    add(stream, {[moment = event->moment] {
                     moment->done = true;
                     moment->ms = simt::event_clock()();
                 },
                 nullptr});
    return returned(cudaSuccess);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    const std::lock_guard lock(device().mutex);
    if (!event->moment) return returned(cudaSuccess);  // never recorded: nothing to wait for
    if (CUgraph_st* graph = event->moment->captured_in) {
        if (!stream) return returned(cudaErrorStreamCaptureUnsupported);
        stream->capture = graph;  // joins the capture
        graph->streams.insert(stream);
        if (event->stream != stream) event->stream->unjoined = false;
        if (stream != graph->origin) stream->unjoined = true;
        return returned(cudaSuccess);
    }
    stream = stream_of(stream);
    if (stream->capture) return returned(cudaErrorStreamCaptureUnsupported);
    add(stream, {nullptr, event->moment});
    return returned(cudaSuccess);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    const std::lock_guard lock(device().mutex);
    if (event->moment) run_until([&] { return event->moment->done; });
    return returned(cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    const std::lock_guard lock(device().mutex);
    run_any(true);
    return !event->moment || event->moment->done ? returned(cudaSuccess) : returned(cudaErrorNotReady);
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
    const std::lock_guard lock(device().mutex);
    if (!start->moment || !end->moment) return returned(cudaErrorInvalidValue);
    if (!start->moment->done || !end->moment->done) return returned(cudaErrorNotReady);
    *ms = float(end->moment->ms - start->moment->ms);
    return returned(cudaSuccess);
}
cudaError_t cudaDeviceSynchronize() {
    const std::lock_guard lock(device().mutex);
    if (simt::breaks_capture()) return returned(cudaErrorStreamCaptureUnsupported);
    run_all();
    return returned(cudaSuccess);
}

// --- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    const std::lock_guard lock(device().mutex);
    if (!stream || stream->capture) return returned(cudaErrorInvalidValue);
    stream->capture = new CUgraph_st;
    stream->capture->origin = stream;
    return returned(cudaSuccess);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    const std::lock_guard lock(device().mutex);
    *status = stream && stream->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return returned(cudaSuccess);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    const std::lock_guard lock(device().mutex);
    *graph = nullptr;
    if (!stream->capture || stream->capture->origin != stream) return returned(cudaErrorInvalidValue);
    CUgraph_st* captured = std::exchange(stream->capture, nullptr);
    bool joined = true;
    for (CUstream_st* other : captured->streams) {
        if (other == stream) continue;
        joined &= !std::exchange(other->unjoined, false);
        other->capture = nullptr;
    }
    if (!joined || captured->broken) {
        const cudaError_t error = captured->broken ? cudaErrorStreamCaptureInvalidated : cudaErrorStreamCaptureUnjoined;
        delete captured;
        return returned(error);
    }
    *graph = captured;
    return returned(cudaSuccess);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
    *exec = new CUgraphExec_st{graph->steps};
    return returned(cudaSuccess);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    simt::enqueue(stream, [steps = exec->steps] {
        for (const auto& step : steps) step();
    });
    return returned(cudaSuccess);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return returned(cudaSuccess);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return returned(cudaSuccess);
}

}  // extern "C"
