#pragma once
// Owners of what the CUDA runtime hands out: move-only, freed at the end of their life. All throw Error.
#include <cublasLt.h>

#include <cstddef>
#include <utility>

#include "cuda/device/cuda_check.h"

#define CUBLAS_CHECK(call)                                                                                     \
    do {                                                                                                       \
        if (const cublasStatus_t kiln_status = (call); kiln_status != CUBLAS_STATUS_SUCCESS) {                 \
            throw kiln::Error(                                                                                 \
                kiln::concat(__FILE__, ":", __LINE__, ": ", #call, ": ", cublasLtGetStatusName(kiln_status))); \
        }                                                                                                      \
    } while (false)

namespace kiln {

// Of the current device.
inline int multiprocessors() {
    int device = 0, count = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
    return count;
}

class Stream {
public:
    Stream() { CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
    Stream(Stream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
    Stream& operator=(Stream&& other) noexcept {
        std::swap(stream_, other.stream_);
        return *this;
    }
    ~Stream() {
        if (stream_) cudaStreamDestroy(stream_);
    }
    operator cudaStream_t() const { return stream_; }
    void synchronize() const { CUDA_CHECK(cudaStreamSynchronize(stream_)); }

private:
    cudaStream_t stream_ = nullptr;
};

class Event {
public:
    explicit Event(unsigned flags = cudaEventDefault) { CUDA_CHECK(cudaEventCreateWithFlags(&event_, flags)); }
    Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
    Event& operator=(Event&& other) noexcept {
        std::swap(event_, other.event_);
        return *this;
    }
    ~Event() {
        if (event_) cudaEventDestroy(event_);
    }
    operator cudaEvent_t() const { return event_; }
    void record(cudaStream_t stream) const { CUDA_CHECK(cudaEventRecord(event_, stream)); }
    void synchronize() const { CUDA_CHECK(cudaEventSynchronize(event_)); }

private:
    cudaEvent_t event_ = nullptr;
};

// What a stream was given between two calls, to be given again in one.
class Graph {
public:
    Graph() = default;
    // Captures what `queue` gives `stream`, which must not wait for anything.
    template <class Queue>
    Graph(cudaStream_t stream, Queue&& queue) {
        CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        cudaGraph_t graph = nullptr;
        try {
            queue();
        } catch (...) {
            cudaStreamEndCapture(stream, &graph);
            if (graph) cudaGraphDestroy(graph);
            throw;
        }
        CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
        const cudaError_t error = cudaGraphInstantiate(&graph_, graph, 0);
        cudaGraphDestroy(graph);
        CUDA_CHECK(error);
    }
    Graph(Graph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
    Graph& operator=(Graph&& other) noexcept {
        std::swap(graph_, other.graph_);
        return *this;
    }
    ~Graph() {
        if (graph_) cudaGraphExecDestroy(graph_);
    }
    explicit operator bool() const { return graph_ != nullptr; }
    void launch(cudaStream_t stream) const { CUDA_CHECK(cudaGraphLaunch(graph_, stream)); }

private:
    cudaGraphExec_t graph_ = nullptr;
};

// `elems` elements of device memory, with whatever was there before.
template <class T>
class DeviceBuffer {
public:
    DeviceBuffer() = default;
    explicit DeviceBuffer(size_t elems) : elems_(elems) {
        if (elems > 0) CUDA_CHECK(cudaMalloc(reinterpret_cast<void**>(&data_), elems * sizeof(T)));
    }
    DeviceBuffer(DeviceBuffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), elems_(std::exchange(other.elems_, 0)) {}
    DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(elems_, other.elems_);
        return *this;
    }
    ~DeviceBuffer() { cudaFree(data_); }
    T* get() const { return data_; }
    size_t size() const { return elems_; }
    size_t bytes() const { return elems_ * sizeof(T); }

private:
    T* data_ = nullptr;
    size_t elems_ = 0;
};

// The same in page-locked memory of the host, which copies at full speed while the host goes on.
template <class T>
class PinnedBuffer {
public:
    PinnedBuffer() = default;
    explicit PinnedBuffer(size_t elems) : elems_(elems) {
        if (elems > 0) CUDA_CHECK(cudaMallocHost(reinterpret_cast<void**>(&data_), elems * sizeof(T)));
    }
    PinnedBuffer(PinnedBuffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), elems_(std::exchange(other.elems_, 0)) {}
    PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(elems_, other.elems_);
        return *this;
    }
    ~PinnedBuffer() { cudaFreeHost(data_); }
    T* get() const { return data_; }
    size_t size() const { return elems_; }
    T& operator[](size_t i) { return data_[i]; }
    const T& operator[](size_t i) const { return data_[i]; }

private:
    T* data_ = nullptr;
    size_t elems_ = 0;
};

class CublasLt {
public:
    CublasLt() { CUBLAS_CHECK(cublasLtCreate(&handle_)); }
    CublasLt(CublasLt&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    CublasLt& operator=(CublasLt&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~CublasLt() {
        if (handle_) cublasLtDestroy(handle_);
    }
    operator cublasLtHandle_t() const { return handle_; }

private:
    cublasLtHandle_t handle_ = nullptr;
};

}  // namespace kiln
