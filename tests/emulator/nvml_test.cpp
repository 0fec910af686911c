// NVML with an emulated library: each value comes from its call, and a missing call or library is no error.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <type_traits>

#include "cuda/device/nvml.h"
#include "tests/support/process.h"

namespace kiln::test {
namespace {

static_assert(!std::is_copy_constructible_v<Nvml> && std::is_move_constructible_v<Nvml>);

std::string emulated_library() {
    return build_path() / "libnvidia-ml.so.1";
}

class NvmlTest : public testing::Test {
protected:
    void TearDown() override {
        unsetenv("SIMT_NVML_FAILS");
        unsetenv("SIMT_NVML_REASONS");
        unsetenv("SIMT_NVML_MIG");
    }
    static GpuSample sample() { return Nvml(emulated_library().c_str()).sample(); }
};

// How many of the fields have a value.
int answers(const GpuSample& s) {
    return s.sm_clock_mhz.has_value() + s.memory_clock_mhz.has_value() + s.power_w.has_value() +
           s.power_limit_w.has_value() + s.temperature_c.has_value() + s.memory_used_bytes.has_value() +
           s.utilisation_percent.has_value() + s.throttled_by.has_value();
}

TEST_F(NvmlTest, values_arrive_in_their_units) {
    const Nvml nvml(emulated_library().c_str());
    ASSERT_TRUE(nvml.available());
    const GpuSample s = nvml.sample();
    EXPECT_EQ(s.sm_clock_mhz, 1980);
    EXPECT_EQ(s.memory_clock_mhz, 3201);
    EXPECT_NEAR(s.power_w.value_or(0), 543.21, 1e-4);
    EXPECT_EQ(s.power_limit_w, 700.0f);
    EXPECT_EQ(s.temperature_c, 61);
    EXPECT_EQ(s.memory_used_bytes, size_t(5) << 30);
    EXPECT_EQ(s.utilisation_percent, 97);
    EXPECT_EQ(s.throttled_by, "");
}

TEST_F(NvmlTest, a_failing_call_leaves_out_its_field_only) {
    const std::pair<const char*, int> cases[] = {{"nvmlDeviceGetClockInfo", 2},
                                                 {"nvmlDeviceGetPowerUsage", 1},
                                                 {"nvmlDeviceGetEnforcedPowerLimit", 1},
                                                 {"nvmlDeviceGetTemperature", 1},
                                                 {"nvmlDeviceGetMemoryInfo", 1},
                                                 {"nvmlDeviceGetUtilizationRates", 1},
                                                 {"nvmlDeviceGetCurrentClocksThrottleReasons", 1}};
    for (const auto& [call, fields] : cases) {
        setenv("SIMT_NVML_FAILS", call, 1);
        EXPECT_EQ(answers(sample()), 8 - fields) << call;
    }
    setenv("SIMT_NVML_FAILS", "nvmlDeviceGetPowerUsage", 1);
    EXPECT_EQ(sample().power_w, std::nullopt);
}

// Those of the whole GPU say nothing about an instance.
TEST_F(NvmlTest, with_mig_memory_and_utilisation_are_left_out) {
    setenv("SIMT_NVML_MIG", "1", 1);
    EXPECT_EQ(sample().memory_used_bytes, std::nullopt);
    EXPECT_EQ(sample().utilisation_percent, std::nullopt);
    EXPECT_EQ(answers(sample()), 6);
    setenv("SIMT_NVML_MIG", "0", 1);
    EXPECT_EQ(answers(sample()), 8);
}

TEST_F(NvmlTest, throttle_reasons_are_words) {
    setenv("SIMT_NVML_REASONS", "0x1", 1);  // idle: not throttled
    EXPECT_EQ(sample().throttled_by, "");
    setenv("SIMT_NVML_REASONS", "0x24", 1);
    EXPECT_EQ(sample().throttled_by, "power cap, heat");
}

TEST_F(NvmlTest, without_a_library_or_its_gpu_there_are_no_values) {
    const Nvml absent("libnvidia-ml-that-is-not.so.1");
    EXPECT_FALSE(absent.available());
    EXPECT_EQ(answers(absent.sample()), 0);
    EXPECT_EQ(answers(Nvml("libm.so.6").sample()), 0);  // a library without NVML's calls
    for (const char* call : {"nvmlInit_v2", "nvmlDeviceGetHandleByPciBusId_v2"}) {
        setenv("SIMT_NVML_FAILS", call, 1);
        EXPECT_EQ(answers(sample()), 0) << call;
    }
}

TEST_F(NvmlTest, moved_handles_shut_the_library_down_once) {
    void* library = dlopen(emulated_library().c_str(), RTLD_NOW);
    ASSERT_NE(library, nullptr) << dlerror();
    const auto users = reinterpret_cast<int (*)()>(dlsym(library, "simt_nvml_users"));
    {
        Nvml first(emulated_library().c_str());
        const Nvml second = std::move(first);
        EXPECT_EQ(users(), 1);
        EXPECT_EQ(answers(second.sample()), 8);
    }
    EXPECT_EQ(users(), 0);
    setenv("SIMT_NVML_FAILS", "nvmlDeviceGetHandleByPciBusId_v2", 1);
    Nvml(emulated_library().c_str());
    EXPECT_EQ(users(), 0);
    dlclose(library);
}

}  // namespace
}  // namespace kiln::test
