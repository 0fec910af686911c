// The emulated cudart: queued work is not done yet, and the calls that the real ones refuse are refused.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>
#include <tuple>

#include "cpu_reference/interface/error.h"
#include "cuda/device/launch.h"
#include "dev/emulator/core/internal.h"
#include "tests/cuda/kernel_case.h"
#include "tests/cuda/schedules.h"
#include "tests/emulator/reports.h"
#include "tests/support/temp_directory.h"

namespace kiln::test {
namespace {

void fill_kernel(float* out, float value) {
    out[threadIdx.x] = value;
}
template <int>
void empty_kernel() {}
void double_kernel(float* out, const float* in) {
    out[threadIdx.x] = 2 * in[threadIdx.x];
}

void fill(const Tensor<float>& out, float value, cudaStream_t stream) {
    launch<fill_kernel>({.grid = 1, .block = dim3(unsigned(out.size())), .stream = stream}, out.get(), value);
}

// ---- Streams and events.

TEST(SimtRuntime, memory_read_before_its_stream_is_done_may_be_old) {
    const auto read = [](bool wait) {
        const Stream stream;
        const Tensor<float> out(8);
        fill(out, 1, stream);
        if (wait) stream.synchronize();
        const float seen = *out.get();  // the host, without a copy that would wait
        stream.synchronize();
        return seen;
    };
    EXPECT_EQ(schedules_with_one([&] { return read(true); }), int(kSeeds));
    EXPECT_LT(schedules_with_one([&] { return read(false); }), int(kSeeds));
}

TEST(SimtRuntime, a_copy_is_read_only_after_its_event) {
    const auto read = [](bool wait) {
        const Stream stream;
        const Event copied;
        const Tensor<float> out(8);
        const PinnedBuffer<float> host(8);
        fill(out, 1, stream);
        CUDA_CHECK(cudaMemcpyAsync(host.get(), out.get(), host.size() * sizeof(float), cudaMemcpyDeviceToHost, stream));
        copied.record(stream);
        if (wait) copied.synchronize();
        const float seen = host[0];
        stream.synchronize();
        return seen;
    };
    EXPECT_EQ(schedules_with_one([&] { return read(true); }), int(kSeeds));
    EXPECT_LT(schedules_with_one([&] { return read(false); }), int(kSeeds));
}

TEST(SimtRuntime, streams_are_ordered_by_events_alone) {
    const auto chain = [](bool wait) {
        const Stream first, second;
        const Event filled;
        const Tensor<float> in(8), out(8);
        fill(in, 0.5f, first);
        filled.record(first);
        if (wait) CUDA_CHECK(cudaStreamWaitEvent(second, filled, 0));
        launch<double_kernel>({.grid = 1, .block = 8, .stream = second}, out.get(), in.get());
        second.synchronize();
        first.synchronize();
        return out.read()[0];
    };
    EXPECT_EQ(schedules_with_one([&] { return chain(true); }), int(kSeeds));
    EXPECT_LT(schedules_with_one([&] { return chain(false); }), int(kSeeds));
}

// The legacy stream: what it copies and fills is there for another stream only after the host has waited for it.
TEST(SimtRuntime, legacy_stream_is_not_ordered_with_other_streams) {
    const auto doubled = [](bool copy, bool wait) {
        const Stream stream;
        const DeviceBuffer<float> in(8), out(8);
        std::vector<float> host(8, 0.5f);
        CUDA_CHECK(cudaMemset(in.get(), 0, in.bytes()));
        if (copy) CUDA_CHECK(cudaMemcpy(in.get(), host.data(), in.bytes(), cudaMemcpyHostToDevice));
        host.assign(8, 3);  // the copy does not read it any more
        if (wait) CUDA_CHECK(cudaStreamSynchronize(nullptr));
        launch<double_kernel>({.grid = 1, .block = 8, .stream = stream}, out.get(), in.get());
        stream.synchronize();
        return out.get()[0] + (copy ? 0.0f : 1.0f);
    };
    for (const bool copy : {true, false}) {
        EXPECT_EQ(schedules_with_one([&] { return doubled(copy, true); }), int(kSeeds));
        EXPECT_LT(schedules_with_one([&] { return doubled(copy, false); }), int(kSeeds));
    }
}

TEST(SimtRuntime, copy_to_the_host_waits_for_the_legacy_stream_alone) {
    const auto read = [](cudaStream_t fills) {
        const DeviceBuffer<float> out(8);
        launch<fill_kernel>({.grid = 1, .block = 8, .stream = fills}, out.get(), 1.0f);
        float seen = 0;
        CUDA_CHECK(cudaMemcpy(&seen, out.get(), sizeof seen, cudaMemcpyDeviceToHost));
        return seen;
    };
    const Stream stream;
    EXPECT_EQ(schedules_with_one([&] { return read(nullptr); }), int(kSeeds));
    EXPECT_LT(schedules_with_one([&] { return read(stream); }), int(kSeeds));
}

TEST(SimtRuntime, stream_that_waits_for_the_legacy_stream_is_refused) {
    cudaStream_t stream = nullptr;
    EXPECT_EQ(taken(cudaStreamCreateWithFlags(&stream, cudaStreamDefault)), cudaErrorNotSupported);
}

TEST(SimtRuntime, work_of_a_destroyed_stream_is_not_waited_for) {
    const Tensor<float> out(8);
    const auto seen_after = [&](cudaError_t wait()) {
        fill(out, 0, nullptr);
        CUDA_CHECK(cudaDeviceSynchronize());
        { fill(out, 1, Stream()); }
        CUDA_CHECK(wait());
        return *out.get();
    };
    EXPECT_EQ(schedules_with_one([&] { return seen_after(cudaDeviceSynchronize); }), int(kSeeds));
    EXPECT_LT(schedules_with_one([&] { return seen_after(cudaGetLastError); }), int(kSeeds));
}

TEST(SimtRuntime, an_event_knows_whether_it_happened) {
    const Stream stream;
    const Event start, end;
    float ms = -1;
    EXPECT_EQ(taken(cudaEventElapsedTime(&ms, start, end)), cudaErrorInvalidValue);  // never recorded
    start.record(stream);
    end.record(stream);
    end.synchronize();
    EXPECT_EQ(cudaEventQuery(end), cudaSuccess);
    EXPECT_EQ(cudaEventElapsedTime(&ms, start, end), cudaSuccess);
    EXPECT_GE(ms, 0);
}

// ---- Graphs.

struct Graph {
    ~Graph() {
        if (exec) cudaGraphExecDestroy(exec);
        if (graph) cudaGraphDestroy(graph);
    }
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
};

TEST(SimtRuntime, a_capture_does_nothing_and_each_launch_uses_the_current_data) {
    for_each_schedule([] {
        const Stream stream;
        const Tensor<float> in(8), out(8);
        Graph graph;
        CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
        launch<double_kernel>({.grid = 1, .block = 8, .stream = stream}, out.get(), in.get());
        CUDA_CHECK(cudaStreamEndCapture(stream, &graph.graph));
        EXPECT_TRUE(std::isnan(out.read()[0]));
        CUDA_CHECK(cudaGraphInstantiate(&graph.exec, graph.graph, 0));
        for (const float value : {1.0f, 5.0f}) {
            fill(in, value, stream);
            CUDA_CHECK(cudaGraphLaunch(graph.exec, stream));
            stream.synchronize();
            EXPECT_EQ(out.read()[7], 2 * value);
        }
    });
}

// Drivers before CUDA 12.3 load a kernel at its first launch, and cannot while a stream is captured.
TEST(SimtRuntime, a_kernel_is_not_loaded_during_a_capture) {
    const Stream stream;
    const auto captured = [&](auto launch_kernel, auto before) {
        before();
        cudaGraph_t graph = nullptr;
        CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        const std::string report = error_of(launch_kernel);
        CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
        CUDA_CHECK(cudaGraphDestroy(graph));
        return report;
    };
    const LaunchConfig config{.grid = 1, .block = 8, .stream = stream};
    EXPECT_EQ(captured([&] { launch<empty_kernel<0>>(config); }, [] {}),
              "simt: test::empty_kernel<0> is launched for the first time while its stream is captured; launch it once "
              "before");
    EXPECT_EQ(captured([&] { launch<empty_kernel<1>>(config); }, [&] { launch<empty_kernel<1>>(config); }), "");
    EXPECT_EQ(
        captured([&] { launch<empty_kernel<2>>(config); },
                 [&] {
                     cudaFuncAttributes attributes;
                     CUDA_CHECK(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(empty_kernel<2>)));
                 }),
        "");
}

TEST(SimtRuntime, waiting_and_taking_memory_break_a_capture) {
    const Stream stream;
    const std::function<cudaError_t()> calls[] = {
        [&] { return cudaStreamSynchronize(stream); }, [] { return cudaDeviceSynchronize(); },
        [] {
            void* p = nullptr;
            return cudaMalloc(&p, 8);
        },
        [] {
            int from = 0, to = 0;
            return cudaMemcpy(&to, &from, sizeof from, cudaMemcpyHostToDevice);
        }};
    for (const auto& call : calls) {
        cudaGraph_t graph = nullptr;
        CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        EXPECT_EQ(taken(call()), cudaErrorStreamCaptureUnsupported);
        EXPECT_EQ(taken(cudaStreamEndCapture(stream, &graph)), cudaErrorStreamCaptureInvalidated);
        EXPECT_EQ(graph, nullptr);
    }
}

TEST(SimtRuntime, a_capture_with_a_fork_that_was_not_joined_is_an_error) {
    for (const bool join : {false, true}) {
        const Stream origin, side;
        const Event fork, done;
        const Tensor<float> out(8);
        Graph graph;
        CUDA_CHECK(cudaStreamBeginCapture(origin, cudaStreamCaptureModeGlobal));
        fork.record(origin);
        CUDA_CHECK(cudaStreamWaitEvent(side, fork, 0));
        fill(out, 1, side);
        if (join) {
            done.record(side);
            CUDA_CHECK(cudaStreamWaitEvent(origin, done, 0));
        }
        EXPECT_EQ(taken(cudaStreamEndCapture(origin, &graph.graph)),
                  join ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
        EXPECT_EQ(graph.graph != nullptr, join);
    }
}

// ---- Memory.

TEST(SimtRuntime, fresh_memory_is_nan) {
    const DeviceBuffer<float> buffer(5);
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(std::isnan(buffer.get()[i]));
}

TEST(SimtRuntime, freeing_twice_or_what_was_never_allocated_is_an_error) {
    void* p = nullptr;
    CUDA_CHECK(cudaMalloc(&p, 64));
    EXPECT_EQ(taken(cudaFree(static_cast<char*>(p) + 8)), cudaErrorInvalidValue);
    EXPECT_EQ(cudaFree(p), cudaSuccess);
    EXPECT_EQ(taken(cudaFree(p)), cudaErrorInvalidValue);
    EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
}

TEST(SimtRuntime, more_memory_than_the_device_has_is_an_error) {
    size_t free = 0, total = 0;
    CUDA_CHECK(cudaMemGetInfo(&free, &total));
    void* p = nullptr;
    EXPECT_EQ(taken(cudaMalloc(&p, total + 1)), cudaErrorMemoryAllocation);
    EXPECT_EQ(p, nullptr);
}

}  // namespace
}  // namespace kiln::test
