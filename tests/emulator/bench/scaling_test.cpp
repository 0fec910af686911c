// The model of a step on several GPUs: schedules by hand, limits, and the bytes that the engine's plan says.
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <sstream>

#include "cuda/engine/decoder.h"
#include "dev/bench/support/scaling.h"
#include "tests/support/process.h"

namespace kiln::testing {
namespace {

using bench::Lane;
using bench::Network;
using bench::Part;
using bench::predict_scaling;
using bench::RankedStep;
using bench::Scaling;

constexpr double kInfinite = std::numeric_limits<double>::infinity();

// Parts of whole milliseconds; the update takes no time.
RankedStep simple_step(int layers, int stage, int micro_batches = 1, int ranks = 2) {
    const ModelConfig config = parse_model(concat("gpt2:layers=", layers, ",dim=8,heads=1,ctx=8,vocab=16"));
    RankedStep step{.layout = ArenaLayout(padded(config), stage > 0 ? ranks : 1, 0),
                    .lm_head_bucket = 0,
                    .traffic = {.ranks = ranks, .stage = stage, .micro_batches = micro_batches},
                    .stored_gradient_bytes = 4,
                    .copy_gb_per_s = kInfinite,
                    .ms = {}};
    for (const auto& [part, ms] : {std::pair{Part::embedding, 1},
                                   {Part::first_norm, 1},
                                   {Part::block, 2},
                                   {Part::block_end, 1},
                                   {Part::lm_head, 4},
                                   {Part::last_norm_backward, 1},
                                   {Part::block_backward, 3},
                                   {Part::embedding_backward, 1},
                                   {Part::gradient_norm, 2}}) {
        step.ms[size_t(part)] = ms;
    }
    return step;
}

// Each collective takes so long, however much it sends.
Network constant(double ms, int ranks = 2) {
    return {.gpus = ranks, .gb_per_s = kInfinite, .call_us = 1000 * ms};
}

std::string timeline(const Scaling& scaling, Lane lane) {
    std::string text;
    for (const bench::Work& work : scaling.work) {
        if (work.lane != lane) continue;
        text += concat(text.empty() ? "" : ", ", work.name, work.bucket < 0 ? "" : concat(" ", work.bucket), " ",
                       work.begin_ms, "-", work.end_ms);
    }
    return text;
}

void expect_schedule(const RankedStep& step, double collective_ms, const char* passes, const char* exchange) {
    const Scaling s = predict_scaling(step, constant(collective_ms));
    EXPECT_EQ(timeline(s, Lane::passes), passes);
    EXPECT_EQ(timeline(s, Lane::exchange), exchange);
}

}  // namespace

TEST(Scaling, stage_0_sums_a_block_while_the_block_before_it_goes_on) {
    expect_schedule(simple_step(2, 0), 2,
                    "embedding 0 0-1, first_norm 1 1-2, block 1 2-4, block_end 1 4-5, block 2 5-7, block_end 2 7-8, "
                    "lm_head 0 8-12, last_norm_backward 3 12-13, block_backward 2 13-16, block_backward 1 16-19, "
                    "embedding_backward 0 19-20, gradient_norm 23-25",
                    "all_reduce 3 13-15, all_reduce 2 16-18, all_reduce 1 19-21, all_reduce 0 21-23");
    const Scaling s = predict_scaling(simple_step(2, 0), constant(2));
    EXPECT_EQ(s.step_ms, 25);
    EXPECT_EQ(s.compute_ms, 22);
    EXPECT_EQ(s.one_gpu_ms, 22);
    EXPECT_EQ(s.exposed_ms, 3);
    EXPECT_EQ(s.efficiency(), 22.0 / 25);
}

// The first four gathers were queued by the step before. With two blocks, each has a window of its own.
TEST(Scaling, stages_1_to_3_gather_while_the_next_step_begins) {
    for (const int stage : {1, 2, 3}) {
        expect_schedule(simple_step(2, stage), 2,
                        "embedding 0 2-3, first_norm 1 4-5, block 1 5-7, block_end 1 7-8, block 2 8-10, "
                        "block_end 2 10-11, lm_head 0 11-15, last_norm_backward 3 15-16, block_backward 2 16-19, "
                        "block_backward 1 19-22, embedding_backward 0 22-23, gradient_norm 26-27, sum 27-29",
                        "reduce_scatter 3 16-18, reduce_scatter 2 19-21, reduce_scatter 1 22-24, "
                        "reduce_scatter 0 24-26, all_gather 0 29-31, all_gather 1 31-33, all_gather 2 33-35, "
                        "all_gather 3 35-37");
    }
}

// Blocks 1 and 3 share a window: the gradients of block 1 wait for those of block 3 to leave it.
TEST(Scaling, stage_2_waits_for_a_window) {
    expect_schedule(simple_step(3, 2), 4,
                    "embedding 0 4-5, first_norm 1 8-9, block 1 9-11, block_end 1 12-13, block 2 13-15, "
                    "block_end 2 16-17, block 3 17-19, block_end 3 20-21, lm_head 0 21-25, last_norm_backward 4 25-26, "
                    "block_backward 3 26-29, block_backward 2 29-32, block_backward 1 34-37, "
                    "embedding_backward 0 37-38, gradient_norm 46-47, sum 47-51",
                    "reduce_scatter 4 26-30, reduce_scatter 3 30-34, reduce_scatter 2 34-38, reduce_scatter 1 38-42, "
                    "reduce_scatter 0 42-46, all_gather 0 51-55, all_gather 1 55-59, all_gather 2 59-63, "
                    "all_gather 3 63-67, all_gather 4 67-71");
}

// Block 3 is fetched behind block 2, and block 1 again behind block 2 of the backward pass. The update fetches what is
// in the windows then: blocks 1 and 2.
TEST(Scaling, stage_3_fetches_a_block_while_the_one_before_it_is_computed) {
    expect_schedule(simple_step(3, 3), 2,
                    "embedding 0 2-3, first_norm 1 4-5, block 1 5-7, block_end 1 7-8, block 2 8-10, block_end 2 10-11, "
                    "block 3 11-13, block_end 3 13-14, lm_head 0 14-18, last_norm_backward 4 18-19, "
                    "block_backward 3 19-22, block_backward 2 22-25, block_backward 1 26-29, "
                    "embedding_backward 0 29-30, gradient_norm 33-34, sum 34-36",
                    "all_gather 3 8-10, reduce_scatter 4 19-21, all_gather 1 22-24, reduce_scatter 3 24-26, "
                    "reduce_scatter 2 26-28, reduce_scatter 1 29-31, reduce_scatter 0 31-33, all_gather 0 36-38, "
                    "all_gather 1 38-40, all_gather 2 40-42, all_gather 4 42-44");
}

TEST(Scaling, only_the_last_micro_batch_communicates_below_stage_2) {
    const auto collectives = [](int stage, const char* name) {
        size_t count = 0;
        for (const bench::Work& work : predict_scaling(simple_step(4, stage, 3), constant(1)).work) {
            count += work.name == std::string_view(name);
        }
        return count;
    };
    EXPECT_EQ(collectives(0, "all_reduce"), 6u);
    EXPECT_EQ(collectives(1, "reduce_scatter"), 6u);
    EXPECT_EQ(collectives(2, "reduce_scatter"), 18u);
    EXPECT_EQ(collectives(2, "all_gather"), 6u);
    // Of four blocks, each pass fetches the two that are not in a window.
    EXPECT_EQ(collectives(3, "all_gather"), 3 * 2 * 2 + 4u);
}

TEST(Scaling, bytes_are_those_of_the_plan) {
    for (const char* model :
         {"gpt2:layers=1,dim=24,heads=3,ctx=16,vocab=37", "gpt2:layers=5,dim=24,heads=3,ctx=16,vocab=37",
          "llama:layers=3,dim=24,heads=3,ffn=24,ctx=16,vocab=37,tied=false", "gpt2", "gpt2-xl"}) {
        for (const int stage : {0, 1, 2, 3}) {
            for (const auto& [ranks, micro_batches, narrow] :
                 {std::tuple{2, 1, false}, {3, 4, true}, {128, 2, false}}) {
                EngineOptions options{.B = 1, .T = 16, .precision = Precision::bfloat16, .capability = 90};
                options.ranks = ranks;
                options.zero_stage = stage;
                options.narrow_reduce = narrow;
                const RankedStep step = bench::ranked_step(parse_model(model), options, micro_batches, {3000, 700});
                const Network network{.gpus = ranks, .gb_per_s = 100};
                // The plan rounds down what does not divide.
                EXPECT_NEAR(predict_scaling(step, network).bytes_sent,
                            double(step_bytes_sent(step.layout, step.traffic)), stage == 0 ? 2 : 0)
                    << model << ", stage " << stage << ", " << ranks << " ranks";
            }
        }
    }
}

TEST(Scaling, is_perfect_without_communication) {
    for (const int stage : {0, 1, 2, 3}) {
        const Scaling s = predict_scaling(simple_step(5, stage, 2), constant(0));
        EXPECT_EQ(s.exposed_ms, 0);
        EXPECT_EQ(s.slowed_ms, 0);
        EXPECT_EQ(s.step_ms, s.compute_ms);
        if (stage > 0) continue;  // a rank updates a part only
        EXPECT_EQ(s.efficiency(), 1);
    }
}

TEST(Scaling, only_latencies_are_exposed_with_infinite_bandwidth) {
    // A ring of 2 nodes of 4 GPUs: 6 steps within a node, and 1 between them.
    const Network network{.nodes = 2, .gpus = 4, .gb_per_s = kInfinite, .call_us = 8, .hop_us = 3, .net_us = 14};
    const double once = 1e-3 * (8 + 6 * 3 + 14), twice = 1e-3 * (8 + 2 * (6 * 3 + 14));
    EXPECT_NEAR(predict_scaling(simple_step(4, 0, 1, 8), network).exposed_ms, twice, 1e-9);
    // The last reduction, the sum of the norm, and the gathers of the first two buckets.
    for (const int stage : {1, 2, 3}) {
        const Scaling s = predict_scaling(simple_step(4, stage, 1, 8), network);
        EXPECT_NEAR(s.exposed_ms, once + twice + once, 1e-9) << "stage " << stage;
    }
}

TEST(Scaling, less_bandwidth_exposes_more) {
    EngineOptions options{.B = 8, .T = 1024, .precision = Precision::bfloat16, .capability = 90};
    options.ranks = 8;
    for (const int stage : {0, 1, 2, 3}) {
        options.zero_stage = stage;
        const RankedStep step = bench::ranked_step(parse_model("gpt2"), options, 1, {3000, 700});
        double before = 0, slowest = 0;
        for (const double gb_per_s : {1000.0, 300.0, 100.0, 30.0, 10.0, 1.0, 0.1}) {
            const Scaling s = predict_scaling(step, {.gpus = 8, .gb_per_s = gb_per_s});
            EXPECT_GT(s.exposed_ms, before) << gb_per_s << " GB/s, stage " << stage;
            before = s.exposed_ms;
            slowest = s.bytes_sent / gb_per_s * 1e-6 / s.step_ms;
        }
        EXPECT_NEAR(slowest, 1, 0.02) << "in the end only the exchange counts, stage " << stage;
    }
}

// Nothing is computed beside the embeddings' gradients, which are complete last.
TEST(Scaling, stage_0_exposes_the_last_bucket_however_long_the_passes_take) {
    RankedStep step = simple_step(4, 0);
    for (double& ms : step.ms) ms *= 1000;
    const Scaling s = predict_scaling(step, constant(2));
    EXPECT_NEAR(s.exposed_ms, 2, 1e-9);
}

TEST(Scaling, collectives_take_their_share_of_the_gpu) {
    Network network = constant(2);
    network.share = 0.5;
    const Scaling s = predict_scaling(simple_step(2, 0), network);
    // Beside the first three reductions the passes have half their speed, and lose 1 ms to each.
    EXPECT_EQ(timeline(s, Lane::exchange),
              "all_reduce 3 13-15, all_reduce 2 17-19, all_reduce 1 21-23, all_reduce 0 23-25");
    EXPECT_EQ(s.slowed_ms, 3);
    EXPECT_EQ(s.exposed_ms, 2);
    EXPECT_EQ(s.step_ms, 27);
}

TEST(Scaling, gradients_that_travel_as_fewer_bytes_are_cast) {
    RankedStep step = simple_step(2, 2, 2);
    step.traffic.gradient_bytes = 2;
    const std::string exchange = timeline(predict_scaling(step, constant(1)), Lane::exchange);
    EXPECT_EQ(exchange.find("cast"), exchange.npos) << "takes no time at this copy rate";
    step.copy_gb_per_s = 1;
    const std::string narrow = timeline(predict_scaling(step, constant(1)), Lane::exchange);
    EXPECT_NE(narrow.find("cast"), narrow.npos) << narrow;
    EXPECT_NE(narrow.find("add"), narrow.npos) << "the second micro-batch's part is added: " << narrow;
}

TEST(ScalingReport, is_what_the_page_has) {
    const std::filesystem::path program = build_path() / "dev/bench/scaling_report";
    const Finished run = run_program(program, {});
    ASSERT_EQ(run.code, 0) << run.err;
    std::ostringstream page_text;
    page_text << std::ifstream("dev/docs/scaling.md").rdbuf();
    const std::string page = page_text.str();
    std::istringstream lines(run.out);
    for (std::string line; std::getline(lines, line);) {
        EXPECT_NE(page.find(line), page.npos) << "run 'make scaling-report' and update dev/docs/scaling.md: " << line;
    }
}

TEST(ScalingReport, scales_to_a_measured_step) {
    const std::filesystem::path program = build_path() / "dev/bench/scaling_report";
    const Finished run = run_program(program, {"--model", "gpt2", "--batch-size", "64", "--step-ms", "100", "--bus",
                                               "1000000", "--call-us", "0", "--hop-us", "0", "--sms", "0"});
    ASSERT_EQ(run.code, 0) << run.err;
    EXPECT_NE(run.out.find("| 100.0 | 0.0 | 0.0 | 100.0 | 100.0 % |"), run.out.npos) << run.out;
    EXPECT_EQ(run_program(program, {"--model", "gpt2", "--gpus", "1"}).code, 2);
}

}  // namespace kiln::testing
