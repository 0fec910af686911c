#pragma once
// The stand-in for NCCL: how its ranks exchange data. nccl.cpp has the calls.
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/parallel/nccl.h"
#include "dev/emulator/core/internal.h"

namespace simt::nccl {

// What all ranks must have in common.
struct Call {
    char name[32] = "";
    size_t count = 0;
    ncclDataType_t type = ncclInt32;
    ncclRedOp_t op = ncclSum;
    int root = 0;
    bool operator==(const Call&) const = default;
};
Call make_call(const char* name, size_t count = 0, ncclDataType_t type = ncclInt32, ncclRedOp_t op = ncclSum,
               int root = 0);
std::string text_of(const Call& call);

enum class Kind { all_reduce, reduce_scatter, all_gather, broadcast };

// A collective on one rank.
struct Operation {
    Kind kind;
    Call call;
    const char* in;
    char* out;
    int rank, ranks;
    bool hangs = false;
    std::vector<char> copy = {};  // of the input, if it is a part of the output

    // What is wrong with its arguments; "" if nothing is.
    std::string problem() const;
    // What the stream does first: until the end the output is NaN.
    void begin();
    const char* input() const { return copy.empty() ? in : copy.data(); }
    size_t in_bytes() const;
    size_t out_bytes() const;
};

class Comm : public std::enable_shared_from_this<Comm> {
public:
    Comm(int rank, int ranks);
    ~Comm();
    int rank() const { return rank_; }
    int ranks() const { return ranks_; }
    cudaEvent_t done() const { return done_; }  // of the last call that was queued

    // Waits for all ranks in the file that ncclGetUniqueId has made.
    ncclResult_t join(const char* path);
    // Waits for all ranks to come to a call without data.
    ncclResult_t meet_in(const char* name);
    // What the stream does at the end of an operation.
    void run(const Operation& operation);
    // Ends all waiting.
    void abort() { aborted_ = true; }

    // The first failure.
    ncclResult_t status() const { return status_; }
    // Prints it, and returns `status`.
    ncclResult_t fail(ncclResult_t status, const std::string& text);
    // What a call returns at once: with NCCL_COMM_BLOCKING=0, that it is in progress, for the next few questions.
    ncclResult_t returned(ncclResult_t status);
    bool is_in_progress() { return questions_ > 0 && questions_-- > 0; }

private:
    struct Slot;
    struct Post;
    Post& post(int rank) const;
    // Publishes this rank's post. False if a peer does not come, or comes to another call.
    bool meet();
    template <class T>
    void sum(const Operation& operation, size_t at, size_t n) const;
    void take(const Operation& operation, size_t at, size_t n) const;

    const int rank_, ranks_;
    Slot* slots_ = nullptr;  // of all ranks
    uint64_t round_ = 0;
    std::atomic<ncclResult_t> status_ = ncclSuccess;
    std::atomic<bool> aborted_ = false;
    int questions_ = 0;
    cudaEvent_t done_ = nullptr;
};

}  // namespace simt::nccl

struct ncclComm {
    std::shared_ptr<simt::nccl::Comm> comm;
};
