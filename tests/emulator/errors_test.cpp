// What happens after a CUDA call has failed, and when the device's memory is nearly full.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "cpu_reference/interface/error.h"
#include "cuda/device/launch.h"
#include "cuda/device/require_gpu.h"
#include "cuda/engine/matmul.h"
#include "dev/emulator/core/internal.h"
#include "dev/emulator/libraries/matmul.h"
#include "tests/cuda/kernel_case.h"

namespace kiln::test {
namespace {

class Errors : public testing::Test {
protected:
    ~Errors() override {
        simt::lose_device(cudaSuccess);
        simt::matmul_fails() = {};
        simt::matmul_runs() = {};
        unsetenv("SIMT_GPUS");
    }
    void matmul() { matmul_.forward(out_.get(), x_.get(), x_.get(), nullptr, {.N = 16, .I = 16, .O = 16}, stream_); }

    static std::string message_of(const std::function<void()>& call) {
        try {
            call();
        } catch (const Error& error) {
            return error.what();
        }
        return "no error";
    }
    static void expect_contains(const std::string& text, const std::string& part) {
        EXPECT_NE(text.find(part), std::string::npos) << text;
    }

    const Stream stream_;
    const Tensor<float> x_{random_values(16 * 16, 1)}, out_{16 * 16};
    Matmul matmul_{{.workspace_bytes = 1 << 20, .warm_up = {}}};
};

void fill_kernel(float* out) {
    out[threadIdx.x] = 1;
}

TEST_F(Errors, emulated_call_that_fails_sets_the_last_error) {
    void* p = nullptr;
    EXPECT_EQ(cudaMalloc(&p, size_t(1) << 40), cudaErrorMemoryAllocation);
    EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(Errors, error_that_is_caught_is_not_reported_by_the_next_launch) {
    EXPECT_THROW(Matmul({.workspace_bytes = size_t(1) << 40}), Error);
    launch<fill_kernel>({.grid = 1, .block = 16, .stream = stream_}, out_.get());
    EXPECT_THROW(Graph(stream_, [] { DeviceBuffer<char>(1); }), Error);
    launch<fill_kernel>({.grid = 1, .block = 16, .stream = stream_}, out_.get());
    setenv("SIMT_GPUS", "0", 1);
    EXPECT_THROW(require_gpu("train_gpt2cu"), Error);
    launch<fill_kernel>({.grid = 1, .block = 16, .stream = stream_}, out_.get());
    stream_.synchronize();
}

TEST_F(Errors, matmul_with_gelu_without_an_algorithm_names_the_option) {
    const Tensor<float> kept(16 * 16);
    const Linear layer{.N = 16, .I = 16, .O = 16};
    const auto forward = [&] {
        matmul_.forward_gelu(out_.get(), kept.get(), x_.get(), x_.get(), nullptr, layer, stream_);
    };
    simt::matmul_fails() = [](const simt::MatmulProblem& p, size_t) { return p.aux != nullptr; };
    expect_contains(message_of(forward), "none of its algorithms: CUBLAS_STATUS");
    expect_contains(message_of(forward), "leave out --gelu-fusion");
    matmul();
    stream_.synchronize();
}

// Every matmul fails after that, and no other algorithm helps.
TEST_F(Errors, error_of_an_earlier_kernel_is_named_by_a_matmul) {
    matmul();
    simt::lose_device(cudaErrorIllegalAddress);
    expect_contains(message_of([&] { matmul(); }), "cudaErrorIllegalAddress");
}

TEST_F(Errors, matmul_that_fails_while_it_is_captured_takes_no_other_algorithm) {
    size_t asked = 0;
    matmul();
    simt::matmul_fails() = [&](const simt::MatmulProblem&, size_t) { return ++asked > 0; };
    const auto capture = [&] { Graph(stream_, [&] { matmul(); }); };
    expect_contains(message_of(capture), "while it was captured");
    EXPECT_EQ(asked, 1u);
    simt::matmul_fails() = {};
    matmul();  // with the same plan
    EXPECT_EQ(matmul_.plans(), 1u);
    stream_.synchronize();
}

TEST_F(Errors, algorithm_that_fails_in_a_timed_round_is_not_chosen) {
    for (const size_t failing : {0u, 1u, 2u}) {
        SCOPED_TRACE(failing);
        std::map<size_t, int> launches;
        size_t last = 0;
        simt::matmul_fails() = [&](const simt::MatmulProblem&, size_t algorithm) {
            last = algorithm;
            return ++launches[algorithm] == 2 && algorithm == failing;  // only in the first timed round
        };
        Matmul timed({.workspace_bytes = 1 << 20, .warm_up = {}});
        timed.forward(out_.get(), x_.get(), x_.get(), nullptr, {.N = 16, .I = 16, .O = 16}, stream_);
        EXPECT_NE(last, failing);
        EXPECT_GE(launches[failing], 2);
        stream_.synchronize();
    }
}

// The host takes longer to queue a matmul than the device to compute it, and for the fastest one longest.
TEST_F(Errors, matmuls_shorter_than_a_launch_are_not_timed_by_the_host) {
    const auto event_clock = simt::event_clock();
    for (const size_t fastest : {0u, 1u, 2u}) {
        double host = 0, device = 0;
        size_t last = 0;
        simt::matmul_fails() = [&](const simt::MatmulProblem&, size_t algorithm) {
            host += algorithm == fastest ? 0.008 : 0.005;
            return false;
        };
        simt::matmul_runs() = [&](size_t algorithm) {
            device = std::max(device, host) + (algorithm == fastest ? 0.002 : 0.003);
            last = algorithm;
        };
        simt::event_clock() = [&] { return device = std::max(device, host); };
        Matmul timed({.workspace_bytes = 1 << 20, .warm_up = {}});
        timed.forward(out_.get(), x_.get(), x_.get(), nullptr, {.N = 16, .I = 16, .O = 16}, stream_);
        stream_.synchronize();
        EXPECT_EQ(last, fastest);
        simt::event_clock() = event_clock;
    }
}

}  // namespace
}  // namespace kiln::test
