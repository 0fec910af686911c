// libnccl.so.2 for tests: the ranks are processes of one machine, which exchange data through shared memory. The calls
// that Kiln makes are there, and only sums. A rank that makes another call than its peers is reported, as are buffers
// that NCCL would read or write past their end.
//
// A call is two steps of its stream: the first fills the output with NaN, and the second waits for the peers and stores
// the result. So each emulated rank must come to its calls in the same order, and a peer that is late holds up the
// whole process.
//
//   SIMT_NCCL_TIMEOUT=5                  seconds until a peer that does not come is an error; 60 if not set
//   SIMT_NCCL_FAILS=ncclAllReduce:3@1    the third call of that name fails, on rank 1; without them: the first, any
//   rank SIMT_NCCL_HANGS=ncclAllReduce:3@1    ... never ends NCCL_HOSTID, NCCL_COMM_BLOCKING      as NCCL has them: two
//   ranks with different hosts may have the same device
#include "dev/emulator/libraries/nccl_exchange.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdlib>
#include <map>
#include <mutex>

namespace simt::nccl {
namespace {

// ---- failures

char last_error[1024];

ncclResult_t report(ncclResult_t status, const std::string& text) {
    std::snprintf(last_error, sizeof last_error, "%s", text.c_str());
    std::fprintf(stderr, "nccl stand-in: %s\n", text.c_str());
    return status;
}

// Whether VARIABLE, CALL[:N][@RANK], names this call. `calls`: how many of this name there were.
bool is_chosen(const char* variable, const std::string& call, int calls, int rank) {
    const char* const text = std::getenv(variable);
    if (!text) return false;
    const std::string chosen = text, name = chosen.substr(0, chosen.find_first_of(":@"));
    const size_t number = chosen.find(':'), at = chosen.find('@');
    return name == call && calls == (number == chosen.npos ? 1 : std::atoi(text + number + 1)) &&
           (at == chosen.npos || rank == std::atoi(text + at + 1));
}

enum class Fate { works, fails, hangs };
Fate fate_of(const char* call, int rank) {
    static std::map<std::string, int> counts;
    const int calls = ++counts[call];
    if (is_chosen("SIMT_NCCL_FAILS", call, calls, rank)) return Fate::fails;
    return is_chosen("SIMT_NCCL_HANGS", call, calls, rank) ? Fate::hangs : Fate::works;
}

// For calls that do not wait for a stream.
ncclResult_t begin_call(const char* call, int rank) {
    const Fate fate = fate_of(call, rank);
    while (fate == Fate::hangs) pause();
    return fate == Fate::works ? ncclSuccess : report(ncclSystemError, std::string(call) + " was told to fail");
}

// ---- collectives

struct Pending {
    Comm* comm;
    Operation operation;
    cudaStream_t stream;
};
thread_local int group_depth;
thread_local ncclResult_t group_status;
thread_local std::vector<Pending> group;

bool is_captured(cudaStream_t stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaStreamIsCapturing(stream, &status);
    return status != cudaStreamCaptureStatusNone;
}

void queue(const std::vector<Pending>& calls) {
    Comm* const comm = calls.front().comm;
    cudaStream_t const stream = calls.front().stream;
    auto operations = std::make_shared<std::vector<Operation>>();
    for (const Pending& call : calls) operations->push_back(call.operation);
    // NCCL runs the work of a communicator in the order of the calls, on whatever streams.
    const bool ordered = !is_captured(stream);
    if (ordered) cudaStreamWaitEvent(stream, comm->done(), 0);
    simt::enqueue(stream, [operations] {
        for (Operation& operation : *operations) operation.begin();
    });
    simt::enqueue(stream, [operations, comm = comm->shared_from_this()] {
        for (Operation& operation : *operations) {
            comm->run(operation);
            simt::trace([&] { return text_of(operation.call); });
        }
    });
    if (ordered) cudaEventRecord(comm->done(), stream);
}

ncclResult_t finish_group() {
    std::vector<Pending> calls = std::exchange(group, {});
    if (const ncclResult_t status = std::exchange(group_status, ncclSuccess); status != ncclSuccess) return status;
    for (const Pending& call : calls) {
        if (call.comm != calls.front().comm || call.stream != calls.front().stream) {
            return report(ncclInvalidUsage,
                          "a group has calls of several communicators or streams; the stand-in "
                          "knows groups of one");
        }
    }
    if (!calls.empty()) queue(calls);
    return calls.empty() ? ncclSuccess : calls.front().comm->returned(ncclSuccess);
}

ncclResult_t call(Kind kind, const char* name, const void* in, void* out, size_t count, ncclDataType_t type,
                  ncclRedOp_t op, int root, ncclComm_t handle, cudaStream_t stream) {
    Comm& comm = *handle->comm;
    Operation operation{.kind = kind,
                        .call = make_call(name, count, type, op, root),
                        .in = static_cast<const char*>(in),
                        .out = static_cast<char*>(out),
                        .rank = comm.rank(),
                        .ranks = comm.ranks()};
    const Fate fate = fate_of(name, comm.rank());
    operation.hangs = fate == Fate::hangs;
    ncclResult_t status = comm.status();
    if (status == ncclSuccess && fate == Fate::fails) {
        status = comm.fail(ncclSystemError, std::string(name) + " was told to fail");
    }
    if (status == ncclSuccess) {
        if (const std::string wrong = operation.problem(); !wrong.empty()) {
            status = comm.fail(ncclInvalidArgument, text_of(operation.call) + ": " + wrong);
        }
    }
    if (status != ncclSuccess) {
        if (group_depth > 0) group_status = status;
        return status;
    }
    group.push_back({&comm, std::move(operation), stream});
    return group_depth > 0 ? ncclSuccess : finish_group();
}

}  // namespace

ncclResult_t Comm::fail(ncclResult_t status, const std::string& text) {
    status_ = status;
    return report(status, "rank " + std::to_string(rank_) + ": " + text);
}

}  // namespace simt::nccl

using namespace simt::nccl;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) {
    switch (result) {
        case ncclSuccess: return "no error";
        case ncclUnhandledCudaError: return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
        case ncclSystemError: return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
        case ncclInternalError: return "internal error - please report this issue to the NCCL developers";
        case ncclInvalidArgument: return "invalid argument (run with NCCL_DEBUG=WARN for details)";
        case ncclInvalidUsage: return "invalid usage (run with NCCL_DEBUG=WARN for details)";
        case ncclRemoteError: return "remote process exited or there was a network error";
        case ncclInProgress: return "NCCL operation in progress";
        default: return "unknown result code";
    }
}
const char* ncclGetLastError(ncclComm_t) {
    return last_error;
}

// ---- communicators

// The id names a file without a name in this process, so nothing is left of it however the ranks end.
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    if (const ncclResult_t status = begin_call(__func__, 0); status != ncclSuccess) return status;
    const int file = memfd_create("nccl", MFD_CLOEXEC);
    if (file < 0) return report(ncclSystemError, "memfd_create fails");
    std::snprintf(id->internal, sizeof id->internal, "/proc/%d/fd/%d", int(getpid()), file);
    return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
    if (const ncclResult_t status = begin_call(__func__, rank); status != ncclSuccess) return status;
    if (ranks < 1 || rank < 0 || rank >= ranks) {
        return report(ncclInvalidArgument,
                      "ncclCommInitRank: rank " + std::to_string(rank) + " of " + std::to_string(ranks));
    }
    if (group_depth > 0 || simt::breaks_capture()) {
        return report(ncclInvalidUsage, "ncclCommInitRank in a group, or while a stream is captured");
    }
    auto made = std::make_shared<Comm>(rank, ranks);
    if (const ncclResult_t status = made->join(id.internal); status != ncclSuccess) return status;
    *comm = new ncclComm{std::move(made)};
    return (*comm)->comm->returned(ncclSuccess);
}
ncclResult_t ncclCommFinalize(ncclComm_t handle) {
    Comm& comm = *handle->comm;
    if (const ncclResult_t status = begin_call(__func__, comm.rank()); status != ncclSuccess) return status;
    // NCCL may wait for ever for what has failed: such a communicator must be aborted.
    if (comm.status() != ncclSuccess) sleep(simt::number_from_environment("SIMT_NCCL_TIMEOUT", 60));
    if (cudaDeviceSynchronize() != cudaSuccess) return comm.fail(ncclUnhandledCudaError, "ncclCommFinalize");
    return comm.returned(comm.meet_in(__func__));
}
ncclResult_t ncclCommDestroy(ncclComm_t handle) {
    delete handle;
    return ncclSuccess;
}
// May be called while another thread waits for the peers.
ncclResult_t ncclCommAbort(ncclComm_t handle) {
    begin_call(__func__, handle->comm->rank());
    handle->comm->abort();
    delete handle;
    return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* error) {
    *error = handle->comm->is_in_progress() ? ncclInProgress : handle->comm->status();
    return ncclSuccess;
}

// ---- collectives

ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
    return call(Kind::all_reduce, __func__, in, out, count, type, op, 0, comm, stream);
}
ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
    return call(Kind::reduce_scatter, __func__, in, out, count, type, op, 0, comm, stream);
}
ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
    return call(Kind::all_gather, __func__, in, out, count, type, ncclSum, 0, comm, stream);
}
ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
    return call(Kind::broadcast, __func__, in, out, count, type, ncclSum, root, comm, stream);
}
ncclResult_t ncclGroupStart() {
    const ncclResult_t status = begin_call(__func__, -1);
    group_depth += status == ncclSuccess;
    return status;
}
ncclResult_t ncclGroupEnd() {
    if (const ncclResult_t status = begin_call(__func__, -1); status != ncclSuccess) group_status = status;
    return --group_depth > 0 ? ncclSuccess : finish_group();
}

}  // extern "C"
