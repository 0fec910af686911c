// What a program knows about its GPU: whether it can run there, and the GPU's peak rates.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <set>

#include "cpu_reference/interface/model_config.h"
#include "cuda/device/gpu_peaks.h"
#include "cuda/device/nvml.h"
#include "cuda/device/require_gpu.h"
#include "cuda/engine/cuda_engine.h"
#include "tests/cuda/schedules.h"

namespace kiln::test {
namespace {

// ---- Peaks.

double tera(std::string_view name, int multiprocessors, Arithmetic arithmetic) {
    return peak_flops(name, multiprocessors, arithmetic) / 1e12;
}

TEST(GpuPeaks, names_match_as_cuda_spells_them) {
    using enum Arithmetic;
    const struct {
        const char* name;
        int multiprocessors;
        Arithmetic arithmetic;
        double tera;
    } cases[] = {
        {"Tesla T4", 40, float16, 65},
        {"GeForce RTX 2080 Ti", 68, float16, 53.8},  // drivers before 470 left "NVIDIA" out
        {"Quadro RTX 8000", 72, float16, 130.5},
        {"A100-SXM4-40GB", 108, bfloat16, 312},
        {"NVIDIA A100-SXM4-80GB", 108, tf32, 156},
        {"NVIDIA A100-PCIE-40GB", 108, float32, 19.5},
        {"NVIDIA A100 80GB PCIe", 108, bfloat16, 312},
        {"NVIDIA A10", 72, bfloat16, 125},
        {"NVIDIA A10G", 80, bfloat16, 70},
        {"NVIDIA RTX A2000 12GB", 26, bfloat16, 31.9},
        {"NVIDIA GeForce RTX 3080", 68, float32, 29.8},
        {"NVIDIA GeForce RTX 3080", 70, float32, 30.6},
        {"NVIDIA GeForce RTX 3090", 82, float16, 71.2},
        {"Orin", 16, bfloat16, 42.6},
        {"NVIDIA L4", 58, float8, 242},
        {"NVIDIA L40S", 142, bfloat16, 362},
        {"NVIDIA RTX 6000 Ada Generation", 142, bfloat16, 364.2},
        {"NVIDIA GeForce RTX 4070", 46, bfloat16, 58.3},
        {"NVIDIA GeForce RTX 4070 Ti", 60, bfloat16, 80.2},
        {"NVIDIA GeForce RTX 4070 Ti SUPER", 66, bfloat16, 88.2},
        {"NVIDIA GeForce RTX 4090", 128, bfloat16, 165.2},
        {"NVIDIA H100 80GB HBM3", 132, bfloat16, 989.4},
        {"NVIDIA H100 PCIe", 114, bfloat16, 756},
        {"NVIDIA H100 NVL", 132, tf32, 417.5},
        {"NVIDIA H200", 132, float8, 1979},
        {"NVIDIA GH200 480GB", 132, bfloat16, 989.4},
        {"NVIDIA B200", 148, bfloat16, 2250},
        {"NVIDIA GeForce RTX 5090", 170, float8, 419.2},
        {"NVIDIA RTX PRO 6000 Blackwell Server Edition", 188, bfloat16, 469.1},
    };
    for (const auto& c : cases) {
        EXPECT_NEAR(tera(c.name, c.multiprocessors, c.arithmetic), c.tera, 1e-3) << c.name;
    }
}

TEST(GpuPeaks, a_smaller_gpu_of_a_similar_name_is_unknown) {
    const std::pair<const char*, int> cases[] = {
        {"NVIDIA GeForce RTX 3080 Ti Laptop GPU", 58},
        {"NVIDIA GeForce RTX 3080 Ti", 58},
        {"NVIDIA GeForce RTX 2080 with Max-Q Design", 46},
        {"NVIDIA A100-SXM4-40GB MIG 1g.5gb", 14},
        {"NVIDIA H100 80GB HBM3 MIG 7g.80gb", 132},
        {"NVIDIA GeForce RTX 5090 D", 170},  // the same size, with slower tensor cores
        {"NVIDIA RTX 4000", 48},
        {"NVIDIA T400", 6},
        {"emulated device", 2},
        {"NVIDIA", 132},
        {"", 0},
    };
    for (const auto& [name, multiprocessors] : cases) {
        EXPECT_EQ(peak_flops(name, multiprocessors, Arithmetic::float32), 0) << name;
    }
}

TEST(GpuPeaks, a_part_of_a_name_finds_the_gpu_and_its_memory) {
    const struct {
        const char *name, *found;
        int gib;
    } cases[] = {
        {"RTX 4090", "GeForce RTX 4090", 24},
        {"NVIDIA GeForce RTX 4090 D", "GeForce RTX 4090 D", 24},
        {"rtx 3060", "GeForce RTX 3060", 12},
        {"rtx4090", "GeForce RTX 4090", 24},
        {"RTX4070Ti", "GeForce RTX 4070 Ti", 12},
        {"T4", "Tesla T4", 16},
        {"A100", "A100 SXM4", 40},
        {"A100 80GB", "A100 SXM4", 80},
        {"NVIDIA A100-SXM4-40GB", "A100 SXM4", 40},
        {"H100", "H100 HBM3", 80},
        {"NVIDIA GH200 480GB", "GH200", 96},
        {"RTX 409", "", 0},
        {"NVIDIA", "", 0},
        {"", "", 0},
    };
    for (const auto& c : cases) {
        const GpuPeaks gpu = find_gpu(c.name);
        EXPECT_EQ(gpu.name, c.found) << c.name;
        EXPECT_EQ(gpu.memory_gib, c.gib) << c.name;
    }
}

TEST(GpuPeaks, unsupported_rates_are_zero) {
    EXPECT_EQ(peak_flops("Tesla T4", 40, Arithmetic::bfloat16), 0);
    EXPECT_EQ(peak_flops("NVIDIA A100-SXM4-80GB", 108, Arithmetic::float8), 0);
}

// Finds typing errors in the table: each narrower type doubles the rate, and the float32 rate implies a plausible
// clock.
TEST(GpuPeaks, the_table_is_consistent) {
    std::set<std::pair<std::string_view, int>> seen;
    for (const GpuPeaks& gpu : known_gpus()) {
        EXPECT_TRUE(seen.insert({gpu.name, gpu.multiprocessors}).second) << gpu.name;
        const bool is_turing = gpu.bfloat16 == 0;
        const bool has_64_cores =
            is_turing || gpu.name.starts_with("A100") || gpu.name.starts_with("A800") || gpu.name == "A30";
        const double clock_ghz = 1e3 * double(gpu.float32) / (2 * (has_64_cores ? 64 : 128) * gpu.multiprocessors);
        EXPECT_GT(clock_ghz, 0.9) << gpu.name;
        EXPECT_LT(clock_ghz, 2.7) << gpu.name;
        const auto doubles = [&](float slower, float faster, const char* what) {
            if (slower == 0 || faster == 0) return;
            EXPECT_NEAR(faster / slower, 2, 0.03) << gpu.name << " " << what;
        };
        doubles(gpu.tf32, gpu.bfloat16, "tf32 to bfloat16");
        doubles(gpu.float16, gpu.float8, "float16 to float8");
        EXPECT_EQ(gpu.bfloat16, is_turing ? 0 : gpu.float16) << gpu.name;
        if (gpu.name.starts_with("GeForce RTX")) {
            EXPECT_NEAR(gpu.float16 / gpu.float32, is_turing ? 4 : 2, 0.04)
                << gpu.name << ": GeForce runs at half rate";
        }
    }
    EXPECT_GT(seen.size(), 90u);
}

// ---- Whether this build can run.

const GpuFacts kH100{.driver_version = 13000,
                     .runtime_version = 13000,
                     .gpus = 1,
                     .name = "NVIDIA H100 80GB HBM3",
                     .major = 9,
                     .minor = 0};

GpuFacts with_capability(int major, int minor) {
    GpuFacts facts = kH100;
    facts.name = "the GPU";
    facts.major = major;
    facts.minor = minor;
    return facts;
}

// The answer must contain each of the parts, and the name of the program for the CPU.
void expect_answer(const GpuFacts& facts, std::initializer_list<const char*> parts, const char* built_for = "80 90a") {
    const std::string answer = why_not(facts, "train_gpt2cu", built_for);
    for (const char* part : parts) EXPECT_NE(answer.find(part), std::string::npos) << part << "\nnot in: " << answer;
    EXPECT_NE(answer.find("use train_gpt2, which"), std::string::npos) << answer;
}

TEST(RequireGpu, a_gpu_that_is_built_for_passes) {
    EXPECT_EQ(why_not(kH100, "train_gpt2cu", "80 90a"), "");
}

TEST(RequireGpu, without_a_driver_it_says_what_to_install) {
    expect_answer({.driver_version = 0, .runtime_version = 13000, .status = cudaErrorInsufficientDriver},
                  {"no NVIDIA driver", "580"});
}

TEST(RequireGpu, an_old_driver_is_named_with_both_versions) {
    GpuFacts facts{.driver_version = 12040, .runtime_version = 13020, .status = cudaErrorInsufficientDriver};
    expect_answer(facts, {"CUDA 12.4", "CUDA 13.2", "580"});
    facts = kH100;
    facts.runtime_version = 13020;  // a minor version ahead of the driver, which CUDA allows
    EXPECT_EQ(why_not(facts, "train_gpt2cu", "90a"), "");
    facts.status = cudaErrorInsufficientDriver;
    expect_answer(facts, {"CUDA 13.0", "CUDA 13.2"});
}

TEST(RequireGpu, no_gpu_and_a_hidden_gpu_are_told_apart) {
    GpuFacts facts{.driver_version = 13000, .runtime_version = 13000, .status = cudaErrorNoDevice};
    expect_answer(facts, {"no NVIDIA GPU found"});
    facts.visible_devices = "-1";
    expect_answer(facts, {"CUDA_VISIBLE_DEVICES=\"-1\""});
    facts.visible_devices = "";
    expect_answer(facts, {"CUDA_VISIBLE_DEVICES=\"\""});
}

TEST(RequireGpu, a_gpu_that_fails_is_reported_with_cudas_error) {
    GpuFacts facts = kH100;
    facts.status = cudaErrorMemoryAllocation;
    expect_answer(facts, {"cudaErrorMemoryAllocation", "nvidia-smi"});
}

TEST(RequireGpu, an_architecture_that_was_not_built_is_named) {
    expect_answer(with_capability(12, 0),
                  {"built for sm_80, sm_90a; the GPU is sm_120", "make GPU_ARCHS=120 train_gpt2cu"});
    expect_answer(with_capability(9, 0), {"make GPU_ARCHS=90a"}, "80");
    expect_answer(with_capability(7, 0), {"sm_70, older than"});
}

TEST(RequireGpu, code_runs_on_later_minor_versions_unless_it_is_for_one_chip) {
    const struct {
        const char* built_for;
        int major, minor;
        bool runs;
    } cases[] = {
        {"80", 8, 0, true},     {"80", 8, 6, true},   {"80", 8, 9, true},     {"86", 8, 0, false},
        {"80", 9, 0, false},    {"90a", 9, 0, true},  {"90a", 10, 0, false},  {"100a", 10, 0, true},
        {"100a", 10, 3, false}, {"120", 12, 1, true}, {"100", 12, 0, false},  {"80", 8, 7, false},
        {"87", 8, 7, true},     {"87", 8, 9, false},  {"75 90a", 7, 5, true}, {"", 8, 0, false},
    };
    for (const auto& c : cases) {
        const std::string answer = why_not(with_capability(c.major, c.minor), "train_gpt2cu", c.built_for);
        EXPECT_EQ(answer.empty(), c.runs) << c.built_for << " on " << c.major << "." << c.minor << ": " << answer;
    }
}

TEST(RequireGpu, the_current_gpu_is_described) {
    const Gpu gpu = require_gpu("train_gpt2cu");
    EXPECT_FALSE(gpu.name.empty());
    EXPECT_GT(10 * gpu.major + gpu.minor, 70);
    EXPECT_GT(gpu.multiprocessors, 0);
    EXPECT_GT(gpu.l2_bytes, 0u);
    EXPECT_GT(gpu.free_bytes, 0u);
    EXPECT_LE(gpu.free_bytes, gpu.total_bytes);
}

// On a GPU, the values that NVML has are plausible. On the emulator, NVML is missing or does not know the device.
TEST(RequireGpu, nvml_knows_the_same_gpu) {
    const GpuSample s = Nvml().sample();
    if (is_emulated()) {
        EXPECT_EQ(s.sm_clock_mhz, std::nullopt);
        return;
    }
    EXPECT_GT(s.sm_clock_mhz.value_or(1000), 100);
    EXPECT_LT(s.temperature_c.value_or(40), 120);
    EXPECT_LE(s.memory_used_bytes.value_or(0), require_gpu("train_gpt2cu").total_bytes + (size_t(8) << 30));
}

// ---- What the engine takes.

TEST(CudaEnginePlan, takes_every_preset) {
    for (const std::string& name : preset_names()) {
        EXPECT_NO_THROW(plan_cuda_memory(parse_model(name), {.B = 1, .T = 64})) << name;
    }
}

}  // namespace
}  // namespace kiln::test
