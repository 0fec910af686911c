// What the engine says about the device's memory, what it leaves free, and how it measures the device's peak.
#include <gtest/gtest.h>

#include <set>

#include "cpu_reference/interface/error.h"
#include "cuda/device/convert.h"
#include "cuda/device/device_peak.h"
#include "cuda/engine/cuda_engine.h"
#include "dev/emulator/core/internal.h"
#include "dev/emulator/libraries/matmul.h"

namespace kiln::test {
namespace {

class DeviceMemory : public testing::Test {
protected:
    ~DeviceMemory() override {
        simt::set_foreign_bytes(0);
        simt::matmul_fails() = {};
    }
    static size_t free_bytes() {
        size_t free = 0, total = 0;
        CUDA_CHECK(cudaMemGetInfo(&free, &total));
        return free;
    }
    static std::unique_ptr<Engine> make_engine() {
        return make_cuda_engine(parse_model("llama:layers=1,dim=16,heads=2,ffn=16,ctx=64,vocab=131"),
                                {.B = 1, .T = 8, .training = false});
    }
};

TEST_F(DeviceMemory, in_use_is_what_the_engine_took_and_not_what_others_have) {
    simt::set_foreign_bytes(size_t(1) << 30);
    const size_t before = free_bytes();
    const auto engine = make_engine();
    EXPECT_EQ(engine->memory_in_use_bytes(), before - free_bytes());
    EXPECT_LT(engine->memory_in_use_bytes(), size_t(1) << 30);
    simt::set_foreign_bytes(0);  // another process ends
    EXPECT_EQ(engine->memory_in_use_bytes(), 0u);
}

// Kernels and cuBLASLt's algorithms are loaded when they are launched first, and then need memory too.
TEST_F(DeviceMemory, cache_leaves_room_for_what_is_loaded_later) {
    const auto engine = make_engine();
    const size_t before = free_bytes();
    engine->open_cache(2, 64);
    const size_t cache = before - free_bytes();
    engine->open_cache(0, 0);
    const size_t mib = size_t(1) << 20;
    simt::set_foreign_bytes(before - cache - 250 * mib);
    EXPECT_THROW(engine->open_cache(2, 64), Error);
    simt::set_foreign_bytes(before - cache - 257 * mib);
    EXPECT_NO_THROW(engine->open_cache(2, 64));
}

TEST_F(DeviceMemory, peak_is_measured_with_random_numbers) {
    std::set<float> numbers;
    simt::matmul_fails() = [&](const simt::MatmulProblem& p, size_t) {
        for (const void* const operand : {p.a.data, p.b.data}) {
            const auto* const elements = static_cast<const __nv_bfloat16*>(operand);
            for (int i = 0; i < 64 * 64; i++) numbers.insert(to_float(elements[i]));
        }
        return false;
    };
    EXPECT_GT(measured_flops<__nv_bfloat16>(false, 64), 0);
    EXPECT_GT(numbers.size(), 1000u);
}

}  // namespace
}  // namespace kiln::test
