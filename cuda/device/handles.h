#pragma once
// Owners of the streams, events, graphs, buffers and library handles of CUDA. Their constructors throw Error.
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

// Owns a handle. It can be moved but not copied, and its destructor calls Destroy.
template <class T, auto Destroy>
class Handle {
public:
    Handle() = default;
    explicit Handle(T handle) : handle_(handle) {}
    Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    Handle& operator=(Handle&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Handle() {
        if (handle_) Destroy(handle_);
    }
    operator T() const { return handle_; }

protected:
    T handle_{};
};

struct Stream : Handle<cudaStream_t, cudaStreamDestroy> {
    Stream() { CUDA_CHECK(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking)); }
    void synchronize() const { CUDA_CHECK(cudaStreamSynchronize(handle_)); }
};

struct Event : Handle<cudaEvent_t, cudaEventDestroy> {
    explicit Event(unsigned flags = cudaEventDefault) { CUDA_CHECK(cudaEventCreateWithFlags(&handle_, flags)); }
    void record(cudaStream_t stream) const { CUDA_CHECK(cudaEventRecord(handle_, stream)); }
    void synchronize() const { CUDA_CHECK(cudaEventSynchronize(handle_)); }
};

struct CublasLt : Handle<cublasLtHandle_t, cublasLtDestroy> {
    CublasLt() { CUBLAS_CHECK(cublasLtCreate(&handle_)); }
};

// The work that one call queued on a stream, to be queued again by one launch.
struct Graph : Handle<cudaGraphExec_t, cudaGraphExecDestroy> {
    Graph() = default;
    // Captures what `queue` queues on `stream`. `queue` must not wait for the device.
    template <class Queue>
    Graph(cudaStream_t stream, Queue&& queue) {
        CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        cudaGraph_t captured = nullptr;
        try {
            queue();
        } catch (...) {
            (void)taken(cudaStreamEndCapture(stream, &captured));
            if (captured) cudaGraphDestroy(captured);
            throw;
        }
        CUDA_CHECK(cudaStreamEndCapture(stream, &captured));
        const Handle<cudaGraph_t, cudaGraphDestroy> graph(captured);
        CUDA_CHECK(cudaGraphInstantiate(&handle_, graph, 0));
    }
    void launch(cudaStream_t stream) const { CUDA_CHECK(cudaGraphLaunch(handle_, stream)); }
};

// Memory for `elems` elements, not initialised.
template <class T, cudaError_t (*kAllocate)(void**, size_t), auto kFree>
class Buffer {
public:
    Buffer() = default;
    explicit Buffer(size_t elems) : elems_(elems) {
        void* data = nullptr;
        if (elems > 0) CUDA_CHECK(kAllocate(&data, elems * sizeof(T)));
        data_ = Handle<T*, kFree>(static_cast<T*>(data));
    }
    Buffer(Buffer&& other) noexcept : data_(std::move(other.data_)), elems_(std::exchange(other.elems_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(elems_, other.elems_);
        return *this;
    }
    T* get() const { return data_; }
    size_t size() const { return elems_; }
    size_t bytes() const { return elems_ * sizeof(T); }

private:
    Handle<T*, kFree> data_;
    size_t elems_ = 0;
};

template <class T>
using DeviceBuffer = Buffer<T, cudaMalloc, cudaFree>;

// Page-locked memory of the host: copies run at full speed and do not stop the host.
template <class T>
struct PinnedBuffer : Buffer<T, cudaMallocHost, cudaFreeHost> {
    using Buffer<T, cudaMallocHost, cudaFreeHost>::Buffer;
    T& operator[](size_t i) { return this->get()[i]; }
    const T& operator[](size_t i) const { return this->get()[i]; }
};

}  // namespace kiln
