// The test programs on a GPU of compute capability 7.x: what it cannot run is skipped by name, and the rest passes.
#include <gtest/gtest.h>

#include "tests/support/process.h"

namespace kiln {
namespace {

class OlderGpu : public testing::Test {
protected:
    OlderGpu() {
        setenv("SIMT_ARCH", "75", 1);
        setenv("SIMT_SCHEDULES", "1", 1);
    }
    ~OlderGpu() override {
        unsetenv("SIMT_ARCH");
        unsetenv("SIMT_SCHEDULES");
    }
    static void expect_skipped(const std::string& program, const std::string& filter,
                               std::initializer_list<const char*> skipped, const std::string& reason) {
        const Finished run = run_program(build_path() / "tests/cuda" / program, {"--gtest_filter=" + filter});
        EXPECT_EQ(run.code, 0) << run.out;
        for (const char* const test : skipped) {
            EXPECT_NE(run.out.find(std::string("[  SKIPPED ] ") + test), std::string::npos) << test << run.out;
        }
        EXPECT_NE(run.out.find(reason), std::string::npos) << run.out;
    }
};

TEST_F(OlderGpu, skips_kernels_of_tensor_cores_that_it_has_not) {
    expect_skipped("kernels_test",
                   "*tensor_core*:*attention_cached_window*:*flash_attention_many_tiles*:*rmsnorm_forward*",
                   {"All/Kernels.matches_reference/tensor_core_matmul_bfloat16",
                    "All/Kernels.matches_reference/tensor_core_matmul_transposed_bfloat16",
                    "All/Kernels.matches_reference/attention_cached_window_bfloat16",
                    "All/Kernels.matches_reference/flash_attention_many_tiles_forward_float16"},
                   "needs sm_80, but the device is sm_75");
}

TEST_F(OlderGpu, skips_matmuls_in_bfloat16) {
    expect_skipped("matmul_test", "*", {"Matmuls/bfloat16.forward_matches_reference"}, "needs sm_80");
}

// In bfloat16 the engine cannot be made. The pairs are a fast test of each fixture and the bfloat16 that it has to
// skip.
TEST_F(OlderGpu, skips_engines_in_bfloat16) {
    const std::string reason = "needs sm_80, but the device is sm_75";
    expect_skipped("engine_test", "*losses*/gpt2_bfloat16:*losses*/gpt2_flash_float16",
                   {"All/CudaEngine.losses_match_reference/gpt2_bfloat16"}, reason);
    expect_skipped("engine_update_test", "*infinite_loss*",
                   {"CudaEngineUpdate.step_of_infinite_loss_and_finite_gradient_is_not_applied"}, reason);
    expect_skipped("generation_test", "*graphs*/gpt2_*", {"All/CudaGeneration.graphs_change_no_token/gpt2_bfloat16"},
                   reason);
    expect_skipped("bench/step_test", "StepWork.*:*writes*",
                   {"StepWork.counts_the_kernels_that_run", "BenchStep.writes_every_group_and_figure"}, reason);
}

TEST_F(OlderGpu, skips_flash_attention_and_hopper) {
    expect_skipped("flash_attention_test", "*", {"FlashAttention.gradients_are_the_slopes_of_finite_differences"},
                   "needs sm_80");
    expect_skipped("flash_attention_edges_test", "*", {"FlashAttentionEdges.equal_scores_give_the_mean"},
                   "needs sm_80");
    expect_skipped("hopper/hopper_test", "*", {"Hopper.matmul_of_uneven_sizes_matches_reference"}, "needs sm_90");
}

}  // namespace
}  // namespace kiln
