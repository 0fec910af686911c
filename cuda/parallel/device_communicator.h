#pragma once
// Communication between the GPUs of a data-parallel program, by NCCL. Each rank is a process with one GPU. Buffers are
// in device memory. A call only queues its work on the stream, so it overlaps with work of other streams.
#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

#include "cpu_reference/interface/communicator.h"

struct ncclComm;

namespace kiln {

struct Nccl;

// T is float, __nv_bfloat16, __half, double or int. Every rank must make the same calls, with the same number of
// elements and in the same order, on any streams. NCCL waits for ever for a rank that does not. The work of one
// communicator runs in the order of the calls, but only an event lets another stream wait for its result.
//
// Sums are rounded to T after each addition, in an order that depends on the number of ranks, on the call, and on the
// element's position in it. Every rank gets the same bits, and so does another run of the same program on the same
// machines. Other calls, for example reduce_scatter and all_gather instead of all_reduce, give other bits.
//
// All of these calls, and groups of them, may be captured in a CUDA graph. If one rank captures a call or launches such
// a graph, every rank must do so. Graphs with calls of several communicators may deadlock if nothing orders their
// launches. A communicator cannot be made or destroyed while a stream is being captured.
//
// A failed call throws an Error that names the rank, the call and NCCL's own message.
class DeviceCommunicator {
public:
    // Uses the current device. All ranks of `host` make it together, and wait for each other. Only the constructor uses
    // `host`. Throws if this machine has no NCCL; the other ranks then wait until `host` notices that this rank has
    // ended.
    explicit DeviceCommunicator(Communicator& host, const char* library = "libnccl.so.2");
    // Waits until the queued work is done on every rank. After a failed call, and while an exception propagates, it
    // aborts that work instead. Buffers must live longer than the communicator, since cudaFree waits for the work, too.
    ~DeviceCommunicator();
    DeviceCommunicator(const DeviceCommunicator&) = delete;
    DeviceCommunicator& operator=(const DeviceCommunicator&) = delete;

    int rank() const { return rank_; }
    int size() const { return size_; }
    std::string version() const;  // NCCL's, for example "2.28.9"

    // out (n) = sum over ranks of in (n). out is in, or they do not overlap.
    template <class T>
    void all_reduce(const T* in, T* out, size_t n, cudaStream_t stream);
    // out (n) = this rank's part of the sum of in (size, n). out is in + rank * n, or they do not overlap.
    template <class T>
    void reduce_scatter(const T* in, T* out, size_t n_per_rank, cudaStream_t stream);
    // out (size, n) = in (n) of each rank. in is out + rank * n, or they do not overlap.
    template <class T>
    void all_gather(const T* in, T* out, size_t n_per_rank, cudaStream_t stream);
    // data (n) = data (n) of rank `root`.
    template <class T>
    void broadcast(T* data, size_t n, int root, cudaStream_t stream);

    // The calls that `calls` makes become one operation, which costs less than the calls one by one. None of them may
    // read what another one writes, and all must be on one stream.
    template <class Calls>
    void group(Calls&& calls) {
        start_group();
        try {
            calls();
        } catch (...) {
            abandon_group();
            throw;
        }
        end_group();
    }

    // Throws if queued work has failed, because another rank has ended or the network is down. NCCL does not always
    // notice this, and may wait for ever, so something else must watch the ranks (tools/launch/watch.h).
    void check();

    // How many bytes this rank has sent, if NCCL uses rings. For a broadcast it is the average over the ranks. Calls in
    // a CUDA graph count once, when they are captured, and not at each launch.
    uint64_t bytes_sent() const { return bytes_sent_; }

private:
    // A call, for error messages. `type` is null if the call has no elements.
    struct Call {
        const char* name;
        size_t count = 0;
        const char* type = nullptr;
    };
    void start_group();
    void end_group();
    void abandon_group() noexcept;
    static std::string text_of(const Call& call);
    // `status` is an ncclResult_t. The next two wait while it is ncclInProgress.
    void expect_success(int status, const Call& call);
    int finished(int status) const;
    [[noreturn]] void fail(int status, const std::string& what);

    std::unique_ptr<const Nccl> nccl_;
    ncclComm* comm_ = nullptr;
    int rank_, size_;
    int exceptions_;  // std::uncaught_exceptions() when it was made
    bool failed_ = false;
    Call last_{"no call"};
    uint64_t bytes_sent_ = 0;
};

}  // namespace kiln
