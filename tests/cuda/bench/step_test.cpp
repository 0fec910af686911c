// bench_step, the program of `make profile`: it counts the kernels that the engine launches, and it runs to the end.
// Runs alone: it measures time.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "cuda/engine/cuda_engine.h"
#include "dev/bench/support/step_work.h"
#include "tests/cuda/needs.h"
#include "tests/support/process.h"
#include "tests/support/tiny_models.h"

namespace kiln::testing {
namespace {

namespace fs = std::filesystem;

// In each group of one step, step_work counts as many ranges as the profiler saw.
void expect_ranges(const TinyModel& model, EngineOptions options) {
    const ModelConfig config = parse_model(model.descriptor);
    options.B = 2, options.T = 11, options.matmul_candidates = 1;
    Profiler profiler;
    const auto engine = make_cuda_engine(config, options, nullptr, &profiler);
    engine->init_weights(1);
    engine->zero_gradients();
    engine->forward_backward(TinyBatch(options.B, options.T, config.V).batch(), 0.05f, 3);
    engine->gradient_norm();
    engine->update({.lr = 1e-3f});
    const auto times = profiler.take();
    const auto work = bench::step_work(config, options);
    for (int i = 0; i < kGroups; i++) {
        EXPECT_EQ(bench::sum_of(work, Group(i), {1, 1}).ranges, times[size_t(i)].ranges)
            << model.name << ", " << name_of(Group(i)) << ", recompute " << options.recompute;
    }
}

}  // namespace

TEST(StepWork, counts_the_kernels_that_run) {
    KILN_SKIP_BELOW(80);  // bfloat16
    for (const TinyModel& model : tiny_cuda_models()) {
        if (model.name.ends_with("_flash")) continue;  // as many launches as without flash attention
        for (const int recompute : {0, 1, 2, 3}) expect_ranges(model, {.recompute = recompute});
        expect_ranges(model, {.precision = Precision::bfloat16, .fused_gelu = 1, .lm_head_chunks = 5});
        for (const int recompute : {0, 1, 2}) {
            expect_ranges(model, {.precision = Precision::bfloat16, .recompute = recompute, .fused_gelu = 2});
        }
    }
}

// 6 FLOPs for each weight and token, and in each layer 7 B NH T^2 HS for attention.
TEST(StepWork, flops_are_those_of_the_model) {
    const ModelConfig config = parse_model("gpt2");
    const double N = 64 * 1024;
    const auto work = bench::step_work(config, {.B = 64, .T = 1024, .precision = Precision::bfloat16});
    const double matrices = 12.0 * 12 * 768 * 768 + 50304.0 * 768;
    EXPECT_DOUBLE_EQ(bench::sum_of(work, Group::matmuls, {1, 1}).flops, 6 * matrices * N);
    EXPECT_DOUBLE_EQ(bench::sum_of(work, Group::attention, {1, 1}).flops, 7.0 * N * 1024 * 768 * 12);
    // Twice the ceiling halves the least time of what it bounds.
    for (const Group group : {Group::matmuls, Group::attention}) {
        const double slow = bench::sum_of(work, group, {1e9, 100}).floor_ms;
        EXPECT_DOUBLE_EQ(bench::sum_of(work, group, {1e9, 200}).floor_ms, slow / 2);
    }
}

TEST(BenchStep, writes_every_group_and_figure) {
    KILN_SKIP_BELOW(80);  // bfloat16, as the program does without --precision
    const fs::path program = build_path() / "dev/bench/bench_step";
    const TempDirectory directory;
    const fs::path json = directory.path() / "step.json";
    const Finished run =
        run_program(program, {"--model", "gpt2:layers=2,dim=24,heads=3,ctx=16,vocab=37", "--batch-size", "2",
                              "--seq-len", "8", "--steps", "2", "--small", "--json", json});
    ASSERT_EQ(run.code, 0) << run.err;
    for (const char* text : {"| matmuls ", "| attention ", "Launch gaps", "First step", "Memory in use"}) {
        EXPECT_NE(run.out.find(text), std::string::npos) << text << "\n" << run.out;
    }
    const auto all = nlohmann::json::parse(std::ifstream(json));
    ASSERT_EQ(all["groups"].size(), size_t(kGroups));
    double sum = 0;
    for (const auto& group : all["groups"]) {
        EXPECT_EQ(group["ranges"], group["ranges_expected"]) << group["group"];
        sum += group["ms"].get<double>();
    }
    EXPECT_GT(sum, 0);
    EXPECT_LE(sum, all["profiled_ms"].get<double>() * 1.5);  // each is a median of two steps
}

// Half of 64 sequences need less than 64, and so on; gpt2-xl needs 28 GiB for its weights alone.
TEST(BenchStep, finds_the_batch_that_fits) {
    const fs::path program = build_path() / "dev/bench/bench_step";
    const auto fitting = [&](const char* model, const char* most, const char* mib) {
        return run_program(program, {"--model", model, "--batch-size", most, "--fit-mib", mib});
    };
    EXPECT_EQ(fitting("gpt2", "64", "80000").out, "64\n");
    EXPECT_EQ(fitting("gpt2", "64", "12000").out, "16\n");
    EXPECT_EQ(fitting("gpt2-xl", "16", "80000").out, "16\n");
    const Finished none = fitting("gpt2-xl", "16", "12000");
    EXPECT_EQ(none.code, 1);
    EXPECT_NE(none.err.find("gpt2-xl does not fit: one sequence of 1024 tokens needs "), std::string::npos) << none.err;
}

TEST(BenchStep, predicts_without_a_gpu) {
    setenv("SIMT_GPUS", "0", 1);
    setenv("CUDA_VISIBLE_DEVICES", "", 1);  // where this test runs on a GPU
    const fs::path program = build_path() / "dev/bench/bench_step";
    const Finished predicted = run_program(program, {"--predict", "--model", "gpt2", "--precision", "float16"});
    const Finished measured = run_program(program, {"--model", "gpt2"});
    for (const char* name : {"SIMT_GPUS", "CUDA_VISIBLE_DEVICES"}) unsetenv(name);
    EXPECT_EQ(predicted.code, 0) << predicted.err;
    EXPECT_TRUE(predicted.out.starts_with("| group | ms at least |")) << predicted.out;
    EXPECT_EQ(measured.code, 1);
    EXPECT_NE(measured.err.find("no CUDA device"), std::string::npos) << measured.err;
}

TEST(BenchStep, refuses_what_it_cannot_run) {
    const fs::path program = build_path() / "dev/bench/bench_step";
    for (const std::vector<std::string>& wrong :
         std::vector<std::vector<std::string>>{{"--steps", "0"}, {"--precision", "int8"}, {"--nonsense", "1"}}) {
        const Finished run = run_program(program, wrong);
        EXPECT_EQ(run.code, 2) << wrong[0];
        EXPECT_NE(run.err.find(wrong[0]), std::string::npos) << run.err;
    }
}

}  // namespace kiln::testing
