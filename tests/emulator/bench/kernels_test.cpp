// `make bench-kernels` on the emulator, and what it is made of: the load before a ceiling, and tensors whose numbers
// the device repeats.
#include <gtest/gtest.h>

#include <chrono>

#include "dev/bench/support/ceilings.h"
#include "tests/cuda/kernel_case.h"
#include "tests/support/process.h"

namespace kiln::testing {
namespace {

double seconds_of(const std::function<void()>& work) {
    const auto began = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

}  // namespace

TEST(Ceilings, matmul_is_measured_under_load) {
    bench::Timer timer(1);
    int launches = 0;
    EXPECT_GE(seconds_of([&] { timer.load(0.05, [&](cudaStream_t) { launches++; }); }), 0.05);
    EXPECT_GT(launches, 1);
    EXPECT_GE(seconds_of([&] { bench::measure_ceilings(timer, true); }), 0.1);
}

// As large as none of the tests needs, but each tensor of the benchmark.
TEST(Values, are_repeated_on_the_device) {
    constexpr size_t kElems = 2 * test::Values::kPeriod + 5;
    const test::Values values = test::random_values(kElems, 1);
    EXPECT_EQ(values.period.size(), test::Values::kPeriod);
    const test::Tensor<__nv_bfloat16> tensor(values);
    const std::vector<float> read = tensor.read();
    EXPECT_EQ(read, tensor.values());
    EXPECT_EQ(read, test::rounded<__nv_bfloat16>(values));
    EXPECT_EQ(read[2 * test::Values::kPeriod + 4], read[4]);
    tensor.expect_sentinel("tensor");
}

TEST(BenchKernels, brief_measures_the_kernels_of_a_step) {
    const auto rows = [](const char* capability, const char* type) {
        setenv("SIMT_ARCH", capability, 1);
        const Finished run = run_program(build_path() / "dev/bench/bench_kernels",
                                         {"--brief", "--small", "--launches", "1", "--elements", type});
        unsetenv("SIMT_ARCH");
        EXPECT_EQ(run.code, 0) << run.err;
        return run.out.substr(run.out.find("|---|"));
    };
    const std::string hopper = rows("90", "bfloat16");
    size_t last = 0;
    for (const char* kernel :
         {"flash_attention_backward", "flash_attention_forward", "gelu_backward", "adamw_master"}) {
        const size_t at = hopper.find(std::string("\n| ") + kernel + " ");
        ASSERT_NE(at, std::string::npos) << kernel << "\n" << hopper;
        EXPECT_GT(at, last) << kernel;
        last = at;
    }
    EXPECT_EQ(hopper.find("rmsnorm"), std::string::npos) << hopper;
    const std::string turing = rows("75", "float16");
    EXPECT_EQ(turing.find("flash_"), std::string::npos) << turing;
    EXPECT_NE(turing.find("| attention_backward "), std::string::npos) << turing;
}

}  // namespace kiln::testing
