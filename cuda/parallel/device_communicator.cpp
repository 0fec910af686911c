#include "cuda/parallel/device_communicator.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <chrono>
#include <exception>
#include <thread>

#include "cpu_reference/interface/error.h"
#include "cuda/parallel/nccl.h"

namespace kiln {

namespace {

struct Type {
    ncclDataType_t nccl;
    const char* name;
};
template <class T>
constexpr Type kType{};
template <>
constexpr Type kType<float>{ncclFloat32, "float32"};
template <>
constexpr Type kType<__nv_bfloat16>{ncclBfloat16, "bfloat16"};
template <>
constexpr Type kType<__half>{ncclFloat16, "float16"};
template <>
constexpr Type kType<double>{ncclFloat64, "float64"};
template <>
constexpr Type kType<int>{ncclInt32, "int32"};

}  // namespace

DeviceCommunicator::DeviceCommunicator(Communicator& host, const char* library)
    : nccl_(std::make_unique<const Nccl>(library)),
      rank_(host.rank()),
      size_(host.size()),
      exceptions_(std::uncaught_exceptions()) {
    ncclUniqueId id{};
    if (rank_ == 0) expect_success(nccl_->ncclGetUniqueId(&id), {"ncclGetUniqueId"});
    host.broadcast(&id, sizeof id, 0);
    expect_success(nccl_->ncclCommInitRank(&comm_, size_, id, rank_), {"ncclCommInitRank"});
}

DeviceCommunicator::~DeviceCommunicator() {
    if (failed_ || std::uncaught_exceptions() > exceptions_) {
        nccl_->ncclCommAbort(comm_);
        return;
    }
    finished(nccl_->ncclCommFinalize(comm_));
    nccl_->ncclCommDestroy(comm_);
}

std::string DeviceCommunicator::version() const {
    int version = 0;
    nccl_->ncclGetVersion(&version);
    return concat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

template <class T>
void DeviceCommunicator::all_reduce(const T* in, T* out, size_t n, cudaStream_t stream) {
    expect_success(nccl_->ncclAllReduce(in, out, n, kType<T>.nccl, ncclSum, comm_, stream),
                   {"ncclAllReduce", n, kType<T>.name});
    bytes_sent_ += 2 * n * sizeof(T) * (size_ - 1) / size_;
}

template <class T>
void DeviceCommunicator::reduce_scatter(const T* in, T* out, size_t n_per_rank, cudaStream_t stream) {
    expect_success(nccl_->ncclReduceScatter(in, out, n_per_rank, kType<T>.nccl, ncclSum, comm_, stream),
                   {"ncclReduceScatter", n_per_rank, kType<T>.name});
    bytes_sent_ += n_per_rank * sizeof(T) * (size_ - 1);
}

template <class T>
void DeviceCommunicator::all_gather(const T* in, T* out, size_t n_per_rank, cudaStream_t stream) {
    expect_success(nccl_->ncclAllGather(in, out, n_per_rank, kType<T>.nccl, comm_, stream),
                   {"ncclAllGather", n_per_rank, kType<T>.name});
    bytes_sent_ += n_per_rank * sizeof(T) * (size_ - 1);
}

template <class T>
void DeviceCommunicator::broadcast(T* data, size_t n, int root, cudaStream_t stream) {
    expect_success(nccl_->ncclBroadcast(data, data, n, kType<T>.nccl, root, comm_, stream),
                   {"ncclBroadcast", n, kType<T>.name});
    bytes_sent_ += n * sizeof(T) * (size_ - 1) / size_;
}

#define INSTANTIATE(T)                                                                    \
    template void DeviceCommunicator::all_reduce(const T*, T*, size_t, cudaStream_t);     \
    template void DeviceCommunicator::reduce_scatter(const T*, T*, size_t, cudaStream_t); \
    template void DeviceCommunicator::all_gather(const T*, T*, size_t, cudaStream_t);     \
    template void DeviceCommunicator::broadcast(T*, size_t, int, cudaStream_t);
INSTANTIATE(float)
INSTANTIATE(__nv_bfloat16)
INSTANTIATE(__half)
INSTANTIATE(double)
INSTANTIATE(int)

void DeviceCommunicator::start_group() {
    expect_success(nccl_->ncclGroupStart(), {"ncclGroupStart"});
}

void DeviceCommunicator::end_group() {
    expect_success(nccl_->ncclGroupEnd(), {"ncclGroupEnd"});
}

void DeviceCommunicator::abandon_group() noexcept {
    failed_ = true;  // the other ranks may have queued the calls of the group
    nccl_->ncclGroupEnd();
}

void DeviceCommunicator::check() {
    ncclResult_t status = ncclSuccess;
    const ncclResult_t asked = nccl_->ncclCommGetAsyncError(comm_, &status);
    if (asked != ncclSuccess) status = asked;
    if (status != ncclSuccess && status != ncclInProgress)
        fail(status, "queued work, the last of it by " + text_of(last_));
}

// With NCCL_COMM_BLOCKING=0 in the environment, NCCL's calls return before they are done, so this waits.
int DeviceCommunicator::finished(int status) const {
    while (status == ncclInProgress && comm_) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        ncclResult_t now = ncclSuccess;
        nccl_->ncclCommGetAsyncError(comm_, &now);
        status = now;
    }
    return status;
}

void DeviceCommunicator::expect_success(int status, const Call& call) {
    last_ = call;
    status = finished(status);
    if (status != ncclSuccess) fail(status, text_of(call));
}

void DeviceCommunicator::fail(int status, const std::string& what) {
    failed_ = true;
    const std::string detail = nccl_->ncclGetLastError(comm_);
    throw Error(concat("NCCL: rank ", rank_, " of ", size_, ": ", what, ": ",
                       nccl_->ncclGetErrorString(ncclResult_t(status)), detail.empty() ? "" : ": ", detail));
}

std::string DeviceCommunicator::text_of(const Call& call) {
    return call.type ? concat(call.name, " (", call.count, " ", call.type, ")") : call.name;
}

}  // namespace kiln
