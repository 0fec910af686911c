// Launches that a GPU refuses, and the architectures whose limits the emulator plays.
#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/device/launch.h"
#include "dev/emulator/core/architecture.h"
#include "dev/emulator/core/internal.h"
#include "dev/emulator/core/kernels.h"
#include "tests/cuda/schedules.h"
#include "tests/emulator/architectures.h"
#include "tests/emulator/reports.h"

namespace kiln::test {
namespace {

constexpr size_t KB = 1024;

void empty_kernel() {}

TEST(Launches, a_block_or_grid_that_is_too_large_is_refused) {
    const auto refused = [](dim3 grid, dim3 block, const std::string& what) {
        expect_report([=](cudaStream_t s) { launch<empty_kernel>({.grid = grid, .block = block, .stream = s}); },
                      {"empty_kernel cannot be launched on sm_90: ", what});
    };
    refused(1, 2048, "a block of (2048, 1, 1) threads");
    refused(1, dim3(1, 1, 65), "a block of (1, 1, 65) threads");
    refused(1, 0, "a block of (0, 1, 1) threads");
    refused(dim3(1, 65536), 1, "a grid of (1, 65536, 1) blocks");
    refused(0, 1, "a grid of (0, 1, 1) blocks");
}

// ---- Shared memory.

// Launches Kernel in one block of one thread, as launch() does, but asks for dynamic shared memory only if told.
template <auto Kernel>
std::string report_of_launch(size_t dynamic_bytes, int asked_bytes = 0) {
    return report_of([=](cudaStream_t s) {
        const void* const address = reinterpret_cast<const void*>(Kernel);
        simt::name_kernel<Kernel>();
        if (asked_bytes > 0) {
            CUDA_CHECK(cudaFuncSetAttribute(address, cudaFuncAttributeMaxDynamicSharedMemorySize, asked_bytes));
        }
        simt::launch({address, 1, 1, dynamic_bytes, s}, Kernel);
    });
}

template <int>  // a kernel of its own for each test, for the emulator keeps what was asked for a kernel
void dynamic_kernel() {
    KILN_DYNAMIC_SHARED(float, dynamic);
    dynamic[0] = 1;
}
template <int>
void both_kernel() {
    KILN_SHARED(int, fixed, 1);
    KILN_DYNAMIC_SHARED(float, dynamic);
    dynamic[0] = float(fixed[0] = 1);
}
constexpr const char* kNoReport = "no report";
std::string refusal(const char* kernel, int dynamic_bytes, int static_bytes, const char* why) {
    return concat("simt: test::", kernel, " cannot be launched on sm_90: ", dynamic_bytes, " bytes of dynamic and ",
                  static_bytes, " of static shared memory", why);
}

TEST(Launches, more_than_48_KB_of_dynamic_shared_memory_must_be_asked_for) {
    EXPECT_EQ(report_of_launch<dynamic_kernel<0>>(48 * KB), kNoReport);
    EXPECT_EQ(report_of_launch<dynamic_kernel<0>>(48 * KB + 1),
              refusal("dynamic_kernel<0>", 49153, 0, ", of 49152 without cudaFuncSetAttribute"));
    EXPECT_EQ(report_of_launch<dynamic_kernel<0>>(60 * KB, 60 * KB), kNoReport);
    EXPECT_EQ(report_of_launch<dynamic_kernel<0>>(60 * KB + 1),
              refusal("dynamic_kernel<0>", 61441, 0, "; cudaFuncSetAttribute allowed 61440 dynamic ones"));
}

// The static int takes 1 KB, because the dynamic array behind it is aligned to 1024 bytes.
TEST(Launches, static_shared_memory_counts_in_the_48_KB) {
    EXPECT_EQ(report_of_launch<both_kernel<0>>(47 * KB), kNoReport);
    EXPECT_EQ(report_of_launch<both_kernel<0>>(47 * KB + 1),
              refusal("both_kernel<0>", 48129, 1024, ", of 49152 without cudaFuncSetAttribute"));
    // A kernel of which nothing is known yet is refused while it runs.
    const std::string report = report_of_launch<both_kernel<1>>(48 * KB);
    EXPECT_TRUE(
        report.starts_with("simt: test::both_kernel<1>, block (0, 0, 0), thread (0, 0, 0): the launch is refused on "
                           "sm_90: 49152 bytes of dynamic and 1024 of static shared memory"))
        << report;
}

TEST(Launches, a_smaller_launch_leaves_a_captured_one_what_it_needs) {
    const Stream stream;
    const auto queue = [&](size_t bytes) { launch<dynamic_kernel<3>>({1, 1, bytes, stream}); };
    const Graph graph(stream, [&] { queue(100 * KB); });
    queue(50 * KB);
    EXPECT_NO_THROW(graph.launch(stream); stream.synchronize());
}

TEST(Launches, cudaFuncSetAttribute_refuses_more_than_the_architecture_has) {
    for_each_architecture([](int capability) {
        const int most = simt::architecture().block_shared;
        EXPECT_EQ(report_of_launch<dynamic_kernel<1>>(size_t(most), most), kNoReport);
        EXPECT_EQ(report_of_launch<dynamic_kernel<1>>(size_t(most), most + 1),
                  concat("simt: cudaFuncSetAttribute: test::dynamic_kernel<1> on sm_", capability, ": ", most + 1,
                         " bytes of dynamic and 0 of static shared memory, of ", most, ": cudaErrorInvalidValue"));
        EXPECT_EQ(report_of_launch<both_kernel<2>>(40 * KB), kNoReport);
        EXPECT_EQ(report_of_launch<both_kernel<2>>(size_t(most) - KB, most - int(KB)), kNoReport);
        EXPECT_EQ(report_of_launch<both_kernel<2>>(size_t(most) - KB, most),
                  concat("simt: cudaFuncSetAttribute: test::both_kernel<2> on sm_", capability, ": ", most,
                         " bytes of dynamic and 1024 of static shared memory, of ", most, ": cudaErrorInvalidValue"));
    });
}

TEST(Launches, launch_asks_for_what_the_kernel_needs) {
    const auto report = [](size_t bytes) {
        return report_of([bytes](cudaStream_t s) {
            launch<dynamic_kernel<2>>({.grid = 1, .block = 1, .shared_bytes = bytes, .stream = s});
        });
    };
    for_each_architecture([&](int) {
        EXPECT_EQ(report(size_t(simt::architecture().block_shared)), kNoReport);
        EXPECT_EQ(report(48 * KB), kNoReport);
        EXPECT_NE(report(size_t(simt::architecture().block_shared) + 1).find("cannot be launched"), std::string::npos);
    });
}

// ---- Kernels of the table.

void many_registers_kernel() {}

// float, 128 has from 128 registers on; 1024 threads may have 64 each.
TEST(Launches, more_registers_than_a_multiprocessor_has_are_refused) {
    const void* const kernel = reinterpret_cast<const void*>(many_registers_kernel);
    simt::name_kernel(kernel, "attention_backward_q_kernel<float, 32, 128>");
    for_each_architecture([&](int capability) {
        const auto start = [&](unsigned threads) {
            return [=](cudaStream_t s) { simt::launch({kernel, 1, threads, 0, s}, many_registers_kernel); };
        };
        const int registers = simt::resources_of(kernel)->registers;
        ASSERT_GT(registers, 64);
        cudaFuncAttributes attributes;
        CUDA_CHECK(cudaFuncGetAttributes(&attributes, kernel));
        EXPECT_EQ(attributes.numRegs, registers);
        const auto most = unsigned(attributes.maxThreadsPerBlock);
        EXPECT_LE(int(most) * registers, simt::kRegisters);
        EXPECT_GT(int(most + 128) * (registers + 7) / 8 * 8, simt::kRegisters);
        EXPECT_EQ(report_of(start(most)), kNoReport);
        EXPECT_EQ(report_of(start(most + 32)),
                  concat("simt: attention_backward_q_kernel<float, 32, 128> cannot be launched on sm_", capability,
                         ": a block of ", most + 32, " threads with ", registers,
                         " registers each, and 0 bytes of dynamic and 0 of static shared memory, is too large for a "
                         "multiprocessor"));
    });
}

void grown_kernel() {
    KILN_SHARED(int, fixed, 1);
    fixed[0] = 1;
}

TEST(Launches, a_kernel_that_has_more_static_shared_memory_than_the_table_says_is_reported) {
    const void* const kernel = reinterpret_cast<const void*>(grown_kernel);
    simt::name_kernel(kernel, "gradient_scale_kernel");
    expect_report(
        [&](cudaStream_t s) {
            simt::launch({kernel, 1, 1, 0, s}, grown_kernel);
        },
        {"gradient_scale_kernel, block (0, 0, 0), thread (0, 0, 0): the block has 4 bytes of static shared memory, "
         "more than the 0 of dev/bench/kernel_resources.txt, which is old: run `make kernel-table` at " __FILE__});
}

enum class Kind { first, second };
template <class, Kind>
void named_kernel(const int*) {}

// dev/kernel_table.sh writes them in this way.
TEST(Launches, kernels_have_the_names_of_the_table) {
    simt::name_kernel<named_kernel<__half, Kind::second>>();
    EXPECT_EQ(simt::kernel_name(reinterpret_cast<const void*>(named_kernel<__half, Kind::second>)),
              "test::named_kernel<__half, 1>");
    simt::name_kernel<empty_kernel>();
    EXPECT_EQ(simt::kernel_name(reinterpret_cast<const void*>(empty_kernel)), "test::empty_kernel");
}

// ---- The architectures.

TEST(Launches, an_architecture_that_the_emulator_does_not_know_is_refused) {
    EXPECT_EQ(report_of([](cudaStream_t) { simt::set_architecture(70); }),
              "simt: the emulator does not know sm_70; dev/emulator/core/architecture.cpp lists what it knows");
}

TEST(Launches, the_device_has_the_limits_of_its_architecture) {
    std::vector<int> ordinals;
    for_each_architecture([&](int capability) {
        int device = -1, major = 0, minor = 0;
        CUDA_CHECK(cudaGetDevice(&device));
        EXPECT_EQ(std::ranges::count(ordinals, device), 0);
        ordinals.push_back(device);
        EXPECT_EQ(device == 0, capability == 90);
        CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
        CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
        EXPECT_EQ(10 * major + minor, capability);
        cudaDeviceProp properties;
        CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
        EXPECT_EQ(10 * properties.major + properties.minor, capability);
        EXPECT_EQ(int(properties.sharedMemPerBlockOptin), max_shared_bytes());
        EXPECT_EQ(properties.sharedMemPerMultiprocessor - properties.reservedSharedMemPerBlock,
                  properties.sharedMemPerBlockOptin);
    });
}

}  // namespace
}  // namespace kiln::test
