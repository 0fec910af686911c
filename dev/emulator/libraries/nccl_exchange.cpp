#include "dev/emulator/libraries/nccl_exchange.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "cuda/device/convert.h"

namespace simt::nccl {

namespace {

constexpr size_t kPostBytes = 256 << 10;

struct TypeInfo {
    ncclDataType_t type;
    size_t bytes;
    const char* name;
};
constexpr TypeInfo kTypes[] = {{ncclInt32, 4, "int32"},
                               {ncclFloat16, 2, "float16"},
                               {ncclFloat32, 4, "float32"},
                               {ncclFloat64, 8, "float64"},
                               {ncclBfloat16, 2, "bfloat16"}};
const TypeInfo* find(ncclDataType_t type) {
    const auto* const found = std::ranges::find(kTypes, type, &TypeInfo::type);
    return found == std::end(kTypes) ? nullptr : found;
}

template <class T>
T add(T a, T b) {
    if constexpr (sizeof(T) == 2) {
        return kiln::from_float<T>(kiln::to_float(a) + kiln::to_float(b));
    } else {
        return a + b;
    }
}

bool overlap(const char* a, size_t a_bytes, const char* b, size_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

}  // namespace

// ---- calls

Call make_call(const char* name, size_t count, ncclDataType_t type, ncclRedOp_t op, int root) {
    Call call{.count = count, .type = type, .op = op, .root = root};
    std::snprintf(call.name, sizeof call.name, "%s", name);
    return call;
}

std::string text_of(const Call& call) {
    if (call == make_call("ncclCommInitRank", call.count)) {
        return "ncclCommInitRank of " + std::to_string(call.count) + " ranks";
    }
    if (call == make_call(call.name)) return call.name;
    const TypeInfo* const type = find(call.type);
    return std::string(call.name) + "(count " + std::to_string(call.count) + ", " + (type ? type->name : "?") +
           (std::strcmp(call.name, "ncclBroadcast") == 0 ? ", root " + std::to_string(call.root) : "") + ")";
}

size_t Operation::in_bytes() const {
    return call.count * find(call.type)->bytes * size_t(kind == Kind::reduce_scatter ? ranks : 1);
}
size_t Operation::out_bytes() const {
    return call.count * find(call.type)->bytes * size_t(kind == Kind::all_gather ? ranks : 1);
}

std::string Operation::problem() const {
    if (!find(call.type) || call.op != ncclSum) return "the stand-in does not know this type or operation";
    if (call.root < 0 || call.root >= ranks) return "no such root";
    const auto short_of = [](const char* what, size_t has, size_t needs) {
        return std::string(what) + " needs " + std::to_string(needs) + " bytes, and there are " + std::to_string(has) +
               " of device memory";
    };
    const bool reads = kind != Kind::broadcast || call.root == rank;
    const size_t can_read = bytes_from(in, false), can_write = bytes_from(out, false);
    if (reads && can_read < in_bytes()) return short_of("the input", can_read, in_bytes());
    if (can_write < out_bytes()) return short_of("the output", can_write, out_bytes());
    const size_t own_part = size_t(rank) * call.count * find(call.type)->bytes;
    const bool in_place = kind == Kind::reduce_scatter ? out == in + own_part
                          : kind == Kind::all_gather   ? in == out + own_part
                                                       : in == out;
    if (reads && !in_place && overlap(in, in_bytes(), out, out_bytes())) {
        return "input and output overlap, but not as NCCL's in-place operations do";
    }
    return "";
}

void Operation::begin() {
    if (call.count == 0) return;
    // What the input is later counts, unless it is in the output.
    if (overlap(in, in_bytes(), out, out_bytes())) copy.assign(in, in + in_bytes());
    std::memset(out, 0xff, out_bytes());
}

// ---- meetings

// What a rank shows its peers in one round.
struct Comm::Post {
    Call call;
    alignas(16) char data[kPostBytes];
};

// The two posts alternate: a rank writes one while slow peers still read the other.
struct Comm::Slot {
    std::atomic<bool> taken;
    std::atomic<uint64_t> rounds;  // that this rank has posted
    Post posts[2];
    static_assert(std::atomic<uint64_t>::is_always_lock_free);
};

Comm::Comm(int rank, int ranks) : rank_(rank), ranks_(ranks) {
    cudaEventCreateWithFlags(&done_, cudaEventDisableTiming);
}

Comm::~Comm() {
    if (slots_) munmap(slots_, sizeof(Slot) * size_t(ranks_));
    cudaEventDestroy(done_);
}

ncclResult_t Comm::join(const char* path) {
    const off_t bytes = off_t(sizeof(Slot)) * ranks_;
    const int file = open(path, O_RDWR | O_CLOEXEC);
    // Not ftruncate, which would cut it if a rank believes in fewer ranks.
    void* const memory = file >= 0 && posix_fallocate(file, 0, bytes) == 0
                             ? mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
                             : MAP_FAILED;
    if (file >= 0) close(file);
    if (memory == MAP_FAILED) return fail(ncclSystemError, std::string("cannot share memory by ") + path);
    slots_ = static_cast<Slot*>(memory);
    if (slots_[rank_].taken.exchange(true)) return fail(ncclInvalidUsage, "two processes have this rank");

    const char* const host = std::getenv("NCCL_HOSTID");
    char address[32] = "";
    int device = 0;
    cudaGetDevice(&device);
    cudaDeviceGetPCIBusId(address, sizeof address, device);
    Post& mine = post(rank_);
    std::snprintf(mine.data, kPostBytes, "%s on host %s", address, host ? host : "0");
    mine.call = make_call("ncclCommInitRank", size_t(ranks_));
    if (!meet()) return status_;
    int pid = 0, descriptor = 0;
    if (std::sscanf(path, "/proc/%d/fd/%d", &pid, &descriptor) == 2 && pid == getpid()) close(descriptor);
    for (int r = 0; r < ranks_; ++r) {
        if (r == rank_ || std::strcmp(post(r).data, post(rank_).data) != 0) continue;
        return fail(ncclInvalidUsage, "Duplicate GPU detected : rank " + std::to_string(rank_) + " and rank " +
                                          std::to_string(r) + " both on CUDA device " + address);
    }
    ++round_;
    return ncclSuccess;
}

ncclResult_t Comm::meet_in(const char* name) {
    post(rank_).call = make_call(name);
    if (meet()) ++round_;
    return status_;
}

ncclResult_t Comm::returned(ncclResult_t status) {
    const char* const blocking = std::getenv("NCCL_COMM_BLOCKING");
    if (status != ncclSuccess || !blocking || std::atoi(blocking) != 0) return status;
    questions_ = 2;
    return ncclInProgress;
}

// Of the round that the ranks have met in, or that this one is about to post.
Comm::Post& Comm::post(int rank) const {
    return slots_[rank].posts[round_ % 2];
}

bool Comm::meet() {
    if (status_ != ncclSuccess) return false;
    using Clock = std::chrono::steady_clock;
    const unsigned seconds = number_from_environment("SIMT_NCCL_TIMEOUT", 60);
    const auto end = Clock::now() + std::chrono::seconds(seconds);
    const Call& own = post(rank_).call;
    slots_[rank_].rounds = round_ + 1;
    for (int r = 0; r < ranks_; ++r) {
        for (auto pause = std::chrono::microseconds(10); slots_[r].rounds <= round_;
             pause = std::min(2 * pause, std::chrono::microseconds(1000))) {
            if (aborted_) return false;
            if (Clock::now() > end) {
                fail(ncclRemoteError, "rank " + std::to_string(r) + " has not come to " + text_of(own) + " within " +
                                          std::to_string(seconds) + " s");
                return false;
            }
            std::this_thread::sleep_for(pause);
        }
        if (post(r).call != own) {
            fail(ncclInvalidUsage,
                 "called " + text_of(own) + ", but rank " + std::to_string(r) + " " + text_of(post(r).call));
            return false;
        }
    }
    return true;
}

// ---- data

// out[at..at+n) of a sum. NCCL's ring passes the part of a rank from its successor on to itself.
template <class T>
void Comm::sum(const Operation& o, size_t at, size_t n) const {
    T* const out = reinterpret_cast<T*>(o.out) + at;
    const bool scatters = o.kind == Kind::reduce_scatter;
    for (size_t i = 0; i < n; ++i) {
        const int owner = scatters ? rank_ : int((at + i) * size_t(ranks_) / o.call.count);
        T total{};
        for (int k = 1; k <= ranks_; ++k) {
            const auto* const posted = reinterpret_cast<const T*>(post((owner + k) % ranks_).data);
            const T next = posted[scatters ? size_t(rank_) * n + i : i];
            total = k == 1 ? next : add(total, next);
        }
        out[i] = total;
    }
}

void Comm::take(const Operation& o, size_t at, size_t n) const {
    const size_t bytes = find(o.call.type)->bytes;
    switch (o.kind) {
        case Kind::all_reduce:
        case Kind::reduce_scatter:
            switch (o.call.type) {
                case ncclInt32: return sum<int>(o, at, n);
                case ncclFloat16: return sum<__half>(o, at, n);
                case ncclFloat32: return sum<float>(o, at, n);
                case ncclFloat64: return sum<double>(o, at, n);
                default: return sum<__nv_bfloat16>(o, at, n);
            }
        case Kind::all_gather:
            for (int r = 0; r < ranks_; ++r) {
                std::memcpy(o.out + (size_t(r) * o.call.count + at) * bytes, post(r).data, n * bytes);
            }
            return;
        case Kind::broadcast: std::memcpy(o.out + at * bytes, post(o.call.root).data, n * bytes);
    }
}

void Comm::run(const Operation& o) {
    while (o.hangs && !aborted_) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    const size_t bytes = find(o.call.type)->bytes, parts = size_t(o.kind == Kind::reduce_scatter ? ranks_ : 1);
    const bool reads = o.kind != Kind::broadcast || o.call.root == rank_;
    for (size_t at = 0, n; at < std::max<size_t>(o.call.count, 1); at += std::max<size_t>(n, 1), ++round_) {
        n = std::min(o.call.count - at, kPostBytes / bytes / parts);
        if (status_ != ncclSuccess) return;
        Post& mine = post(rank_);
        mine.call = o.call;
        for (size_t part = 0; reads && n > 0 && part < parts; ++part) {
            std::memcpy(mine.data + part * n * bytes, o.input() + (part * o.call.count + at) * bytes, n * bytes);
        }
        if (!meet()) return;
        take(o, at, n);
    }
}

}  // namespace simt::nccl
