// The stand-in for NCCL reports what NCCL would compute wrongly or wait for for ever, and DeviceCommunicator says which
// rank and call it was.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "cuda/device/convert.h"
#include "cuda/device/handles.h"
#include "cuda/parallel/device_communicator.h"
#include "cuda/parallel/nccl.h"
#include "dev/emulator/core/internal.h"
#include "tests/cuda/ranks.h"
#include "tests/support/temp_directory.h"

// What a machine without nccl.h compiles.
namespace declared {
#include "cuda/parallel/nccl_declarations.h"
}

namespace kiln::test {
namespace {

// The sizes of what a function returns and takes.
template <class F>
struct Signature;
template <class R, class... A>
struct Signature<R (*)(A...)> {
    static constexpr std::array sizes{sizeof(R), sizeof(A)...};
};
#define SAME_SIGNATURE(name) \
    static_assert(Signature<decltype(&::name)>::sizes == Signature<decltype(&declared::name)>::sizes);
KILN_NCCL_FUNCTIONS(SAME_SIGNATURE)
#define SAME_VALUE(name) static_assert(int(::name) == int(declared::name));
SAME_VALUE(ncclSuccess)
SAME_VALUE(ncclUnhandledCudaError)
SAME_VALUE(ncclSystemError)
SAME_VALUE(ncclInternalError)
SAME_VALUE(ncclInvalidArgument)
SAME_VALUE(ncclInvalidUsage)
SAME_VALUE(ncclRemoteError)
SAME_VALUE(ncclInProgress)
SAME_VALUE(ncclSum)
SAME_VALUE(ncclInt32)
SAME_VALUE(ncclFloat16)
SAME_VALUE(ncclFloat32)
SAME_VALUE(ncclFloat64)
SAME_VALUE(ncclBfloat16)

using std::chrono::seconds;

void expect_contains(const std::string& text, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) EXPECT_NE(text.find(part), text.npos) << part << ": not in: " << text;
}

// What each of `size` ranks throws; "" if it does as it should.
std::vector<std::string> errors_of(int size, const std::function<void(DeviceCommunicator&)>& body,
                                   std::chrono::milliseconds limit = seconds(60)) {
    std::vector<std::string> errors;
    const auto run = [&](Communicator& host) {
        choose_device(host.rank(), host.size());
        DeviceCommunicator ranks(host);
        body(ranks);
    };
    for (const RankEnd& end : run_ranks(size, run, limit)) {
        const bool unexpected = end.code == 1 && end.error.empty();
        errors.push_back(end.signal ? concat("signal ", end.signal) : unexpected ? "failed expectations" : end.error);
    }
    return errors;
}

// Lets what is queued run, and asks whether it has failed.
void finish(DeviceCommunicator& ranks, const Stream& stream) {
    stream.synchronize();
    ranks.check();
}

// ---- The library.

TEST(Nccl, a_missing_or_wrong_library_is_an_error_that_says_what_to_install) {
    const auto host = make_single_communicator();
    const auto error = [&](const char* library) { return error_of([&] { DeviceCommunicator(*host, library); }); };
    const std::string missing = error("libnccl-that-is-not.so.2"), other = error("libm.so.6");
    expect_contains(missing, {"NCCL: libnccl-that-is-not.so.2: cannot open", "install libnccl2", "nvidia-nccl-cu",
                              "LD_LIBRARY_PATH", "One GPU needs no NCCL"});
    expect_contains(other, {"NCCL: libm.so.6 has no ncclGetVersion", "install libnccl2"});
}

TEST(Nccl, leaves_nothing_open) {
    const auto open_files = [] {
        const std::filesystem::directory_iterator files("/proc/self/fd");
        return std::distance(begin(files), end(files));
    };
    const auto errors = errors_of(2, [&](DeviceCommunicator&) {
        const auto before = open_files();
        const auto host = make_single_communicator();
        for (int i = 0; i < 3; i++) DeviceCommunicator alone(*host);
        EXPECT_EQ(open_files(), before);
    });
    EXPECT_EQ(errors, std::vector<std::string>(2));
}

TEST(Nccl, calls_that_return_before_they_are_done_are_waited_for) {
    setenv("NCCL_COMM_BLOCKING", "0", 1);
    const auto errors = errors_of(2, [](DeviceCommunicator& ranks) {
        const Stream stream;
        const DeviceBuffer<float> data(8);
        CUDA_CHECK(cudaMemsetAsync(data.get(), 0, data.bytes(), stream));
        ranks.all_reduce(data.get(), data.get(), 8, stream);
        ranks.group([&] { ranks.broadcast(data.get(), 8, 1, stream); });
        ranks.check();
        stream.synchronize();
        EXPECT_EQ(data.get()[7], 0);
    });
    unsetenv("NCCL_COMM_BLOCKING");
    EXPECT_EQ(errors, std::vector<std::string>(2));
}

// ---- Devices.

TEST(Nccl, two_ranks_on_one_gpu_are_refused) {
    const auto join = [](Communicator& host) { DeviceCommunicator ranks(host); };
    for (const RankEnd& end : run_ranks(2, join)) {
        expect_contains(end.error, {"ncclCommInitRank", "invalid usage", "Duplicate GPU detected"});
    }
}

TEST(Nccl, each_rank_has_one_of_the_emulated_gpus) {
    setenv("SIMT_GPUS", "3", 1);
    const auto ends = run_ranks(3, [](Communicator& host) {
        CUDA_CHECK(cudaSetDevice(host.rank()));
        int device = -1;
        CUDA_CHECK(cudaGetDevice(&device));
        EXPECT_EQ(device, host.rank());
        EXPECT_EQ(cudaSetDevice(3), cudaErrorInvalidDevice);
        DeviceCommunicator ranks(host);
    });
    unsetenv("SIMT_GPUS");
    for (const RankEnd& end : ends) EXPECT_EQ(end.code, 0) << end.error;
}

// ---- Data in flight.

TEST(Nccl, output_is_nan_until_the_event) {
    const auto errors = errors_of(2, [](DeviceCommunicator& ranks) {
        int early = 0;
        for (unsigned seed = 1; seed <= 16; seed++) {
            simt::set_seed(seed);
            const Stream stream, reader;
            const Event done;
            const DeviceBuffer<float> data(4), copies(8);
            const std::vector<float> ones(4, 1);
            CUDA_CHECK(cudaMemcpy(data.get(), ones.data(), data.bytes(), cudaMemcpyHostToDevice));
            CUDA_CHECK(cudaDeviceSynchronize());
            ranks.all_reduce(data.get(), data.get(), 4, stream);
            done.record(stream);
            CUDA_CHECK(cudaMemcpyAsync(copies.get(), data.get(), 16, cudaMemcpyDeviceToDevice, reader));
            CUDA_CHECK(cudaStreamWaitEvent(reader, done, 0));
            CUDA_CHECK(cudaMemcpyAsync(copies.get() + 4, data.get(), 16, cudaMemcpyDeviceToDevice, reader));
            reader.synchronize();
            early += std::isnan(copies.get()[3]);
            EXPECT_EQ(copies.get()[7], 2) << "SIMT_SEED=" << seed;
        }
        EXPECT_GT(early, 0);
    });
    EXPECT_EQ(errors, std::vector<std::string>(2));
}

TEST(Nccl, calls_on_several_streams_run_in_their_order) {
    const auto errors = errors_of(2, [](DeviceCommunicator& ranks) {
        for (unsigned seed = 1; seed <= 16; seed++) {
            simt::set_seed(seed + 100 * unsigned(ranks.rank()));
            const Stream one, two;
            const DeviceBuffer<float> data(8);
            for (size_t n = 1; n <= 4; n++) ranks.all_reduce(data.get(), data.get(), n, n % 2 ? one : two);
            finish(ranks, two);
            one.synchronize();
        }
    });
    EXPECT_EQ(errors, std::vector<std::string>(2));
}

// In bfloat16 256 + 1 is 256, and 1 + 1 is 2. A ring adds the part of rank r in the order r + 1, ..., r.
TEST(Nccl, sums_are_rounded_at_each_rank_of_the_ring) {
    const auto errors = errors_of(3, [](DeviceCommunicator& ranks) {
        const Stream stream;
        const DeviceBuffer<__nv_bfloat16> in(3), out(3), part(1);
        for (int i = 0; i < 3; i++) in.get()[i] = from_float<__nv_bfloat16>(ranks.rank() == 0 ? 256 : 1);
        ranks.all_reduce(in.get(), out.get(), 3, stream);
        ranks.reduce_scatter(in.get(), part.get(), 1, stream);
        finish(ranks, stream);
        const float expected[] = {258, 256, 256};
        for (int i = 0; i < 3; i++) EXPECT_EQ(to_float(out.get()[i]), expected[i]) << i;
        EXPECT_EQ(to_float(*part.get()), expected[ranks.rank()]);
    });
    EXPECT_EQ(errors, std::vector<std::string>(3));
}

// ---- Ranks that make different calls.

TEST(Nccl, ranks_that_make_different_calls_are_reported) {
    const struct {
        const char *first, *second;
        std::function<void(DeviceCommunicator&, float*, const Stream&)> call[2];
    } cases[] = {
        {"ncclAllReduce(count 8, float32)",
         "ncclReduceScatter(count 4, float32)",
         {[](auto& r, float* x, auto& s) { r.all_reduce(x, x, 8, s); },
          [](auto& r, float* x, auto& s) { r.reduce_scatter(x, x + 4, 4, s); }}},
        {"ncclAllReduce(count 8, float32)",
         "ncclAllReduce(count 7, float32)",
         {[](auto& r, float* x, auto& s) { r.all_reduce(x, x, 8, s); },
          [](auto& r, float* x, auto& s) { r.all_reduce(x, x, 7, s); }}},
        {"ncclAllReduce(count 4, float32)",
         "ncclAllReduce(count 4, bfloat16)",
         {[](auto& r, float* x, auto& s) { r.all_reduce(x, x, 4, s); },
          [](auto& r, float* x, auto& s) {
              auto* const y = reinterpret_cast<__nv_bfloat16*>(x);
              r.all_reduce(y, y, 4, s);
          }}},
        {"ncclBroadcast(count 8, float32, root 0)",
         "ncclBroadcast(count 8, float32, root 1)",
         {[](auto& r, float* x, auto& s) { r.broadcast(x, 8, 0, s); },
          [](auto& r, float* x, auto& s) { r.broadcast(x, 8, 1, s); }}},
        {"ncclAllReduce(count 0, float32)",
         "ncclAllReduce(count 8, float32)",
         {[](auto& r, float* x, auto& s) { r.all_reduce(x, x, 0, s); },
          [](auto& r, float* x, auto& s) { r.group([&] { r.all_reduce(x, x, 8, s); }); }}},
    };
    for (const auto& c : cases) {
        const auto errors = errors_of(2, [&](DeviceCommunicator& ranks) {
            const Stream stream;
            const DeviceBuffer<float> data(8);
            ranks.all_reduce(data.get(), data.get(), 8, stream);
            c.call[ranks.rank()](ranks, data.get(), stream);
            finish(ranks, stream);
        });
        expect_contains(errors[0], {"NCCL: rank 0 of 2: ", "invalid usage",
                                    concat("rank 0: called ", c.first, ", but rank 1 ", c.second)});
        expect_contains(errors[1], {"NCCL: rank 1 of 2: ", "invalid usage",
                                    concat("rank 1: called ", c.second, ", but rank 0 ", c.first)});
    }
}

TEST(Nccl, a_rank_that_ends_before_its_peers_is_reported) {
    const auto errors = errors_of(2, [](DeviceCommunicator& ranks) {
        if (ranks.rank() == 1) return;
        const Stream stream;
        const DeviceBuffer<float> data(8);
        ranks.all_reduce(data.get(), data.get(), 8, stream);
        finish(ranks, stream);
    });
    expect_contains(errors[0], {"rank 0: called ncclAllReduce(count 8, float32), but rank 1 ncclCommFinalize"});
}

TEST(Nccl, ranks_that_believe_in_different_sizes_are_reported) {
    struct Liar final : Communicator {
        Communicator& host;
        explicit Liar(Communicator& host) : host(host) {}
        int rank() const override { return host.rank(); }
        int size() const override { return 2 + host.rank(); }
        void all_reduce(float*, size_t) override {}
        void all_reduce(double*, size_t) override {}
        void reduce_scatter(const float*, float*, size_t) override {}
        void all_gather(const float*, float*, size_t) override {}
        void broadcast(void* data, size_t bytes, int root) override { host.broadcast(data, bytes, root); }
        void barrier() override {}
    };
    const auto ends = run_ranks(2, [](Communicator& host) {
        choose_device(host.rank(), 2);
        Liar liar(host);
        DeviceCommunicator ranks(liar);
    });
    expect_contains(ends[0].error, {"called ncclCommInitRank of 2 ranks, but rank 1 ncclCommInitRank of 3 ranks"});
    expect_contains(ends[1].error, {"called ncclCommInitRank of 3 ranks, but rank 0 ncclCommInitRank of 2 ranks"});
}

// ---- Buffers.

TEST(Nccl, buffers_that_a_gpu_could_not_use_are_refused) {
    const struct {
        const char* what;
        std::function<void(DeviceCommunicator&, float*, float*, cudaStream_t)> call;
    } cases[] = {
        {"the input needs 32 bytes, and there are 0 of device memory",
         [](auto& r, float*, float* y, auto s) {
             float host[8] = {};
             r.all_reduce(host, y, 8, s);
         }},
        {"the output needs 36 bytes, and there are 32 of device memory",
         [](auto& r, float* x, float* y, auto s) { r.all_reduce(x, y, 9, s); }},
        {"the output needs 32 bytes, and there are 28 of device memory",
         [](auto& r, float* x, float* y, auto s) { r.all_gather(x, y + 1, 8, s); }},
        {"overlap, but not as NCCL's in-place operations do",
         [](auto& r, float* x, float*, auto s) { r.all_reduce(x, x + 2, 4, s); }},
        {"overlap, but not as NCCL's in-place operations do",
         [](auto& r, float* x, float*, auto s) { r.reduce_scatter(x, x + 1, 4, s); }},
        {"no such root", [](auto& r, float* x, float*, auto s) { r.broadcast(x, 8, 1, s); }},
    };
    for (const auto& c : cases) {
        const auto errors = errors_of(1, [&](DeviceCommunicator& ranks) {
            const Stream stream;
            const DeviceBuffer<float> x(16), y(8);
            c.call(ranks, x.get(), y.get(), stream);
        });
        expect_contains(errors[0], {"NCCL: rank 0 of 1: nccl", "invalid argument", c.what});
    }
}

// ---- Ranks that end, hang or fail.

TEST(Nccl, a_rank_that_was_killed_is_noticed) {
    for (const size_t n : {size_t(8), size_t(1) << 20}) {
        const auto errors = errors_of(3, [&](DeviceCommunicator& ranks) {
            const Stream stream;
            const DeviceBuffer<float> data(n);
            ranks.all_reduce(data.get(), data.get(), n, stream);
            finish(ranks, stream);
            if (ranks.rank() == 1) raise(SIGKILL);
            setenv("SIMT_NCCL_TIMEOUT", "1", 1);
            ranks.all_reduce(data.get(), data.get(), n, stream);
            finish(ranks, stream);
        });
        EXPECT_EQ(errors[1], "signal 9");
        for (const int rank : {0, 2}) {
            expect_contains(errors[size_t(rank)],
                            {concat("NCCL: rank ", rank, " of 3: queued work, the last of it by ncclAllReduce (", n,
                                    " float32): remote process exited"),
                             concat("rank 1 has not come to ncclAllReduce(count ", n, ", float32) within 1 s")});
        }
    }
}

TEST(Nccl, an_exception_does_not_wait_for_the_peers) {
    const auto began = std::chrono::steady_clock::now();
    const auto errors = errors_of(2, [](DeviceCommunicator& ranks) {
        if (ranks.rank() == 1) _exit(0);
        throw Error("something else");
    });
    EXPECT_EQ(errors[0], "something else");
    EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(20));
}

TEST(Nccl, a_communicator_that_has_failed_is_aborted) {
    const auto began = std::chrono::steady_clock::now();
    setenv("SIMT_NCCL_FAILS", "ncclBroadcast", 1);
    const auto errors = errors_of(1, [](DeviceCommunicator& ranks) {
        const DeviceBuffer<float> data(8);
        EXPECT_THROW(ranks.broadcast(data.get(), 8, 0, nullptr), Error);
    });
    unsetenv("SIMT_NCCL_FAILS");
    EXPECT_EQ(errors[0], "");
    EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(20));
}

TEST(Nccl, a_call_that_fails_names_the_rank_and_the_call) {
    for (const char* call : {"ncclGetUniqueId", "ncclCommInitRank", "ncclAllReduce:2", "ncclAllGather@0",
                             "ncclReduceScatter", "ncclBroadcast", "ncclGroupStart", "ncclGroupEnd"}) {
        setenv("SIMT_NCCL_FAILS", call, 1);
        const auto errors = errors_of(1, [](DeviceCommunicator& ranks) {
            const Stream stream;
            const DeviceBuffer<float> data(8);
            float* const x = data.get();
            ranks.all_reduce(x, x, 8, stream);
            ranks.all_reduce(x, x, 8, stream);
            ranks.all_gather(x, x, 8, stream);
            ranks.reduce_scatter(x, x, 8, stream);
            ranks.broadcast(x, 8, 0, stream);
            ranks.group([&] { ranks.all_reduce(x, x, 8, stream); });
        });
        const std::string text = call, name = text.substr(0, text.find_first_of(":@"));
        expect_contains(errors[0],
                        {"NCCL: rank 0 of 1: " + name, "unhandled system error", name + " was told to fail"});
    }
    unsetenv("SIMT_NCCL_FAILS");
}

TEST(Nccl, a_rank_that_hangs_is_noticed_by_its_peers_alone) {
    setenv("SIMT_NCCL_HANGS", "ncclAllReduce:2@1", 1);
    const auto errors = errors_of(
        2,
        [](DeviceCommunicator& ranks) {
            const Stream stream;
            const DeviceBuffer<float> data(8);
            ranks.all_reduce(data.get(), data.get(), 8, stream);
            finish(ranks, stream);
            setenv("SIMT_NCCL_TIMEOUT", "1", 1);
            ranks.all_reduce(data.get(), data.get(), 8, stream);
            finish(ranks, stream);
        },
        std::chrono::milliseconds(200));
    unsetenv("SIMT_NCCL_HANGS");
    expect_contains(errors[0], {"rank 1 has not come to ncclAllReduce"});
    EXPECT_EQ(errors[1], "signal 9");
}

}  // namespace
}  // namespace kiln::test
