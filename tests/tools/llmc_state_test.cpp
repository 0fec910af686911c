// llm.c's training state and debug state.
#include "tools/formats/llmc_state.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "cpu_reference/interface/error.h"
#include "tests/support/stored_models.h"
#include "tests/support/temp_directory.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/formats/huggingface_model.h"
#include "tools/formats/llmc_debug.h"
#include "tools/train/trainer_state.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModel = "gpt2:layers=2,dim=8,heads=2,vocab=11,ctx=6";
constexpr size_t kElems = 2832;  // of llmc_test's model, with 128 rows of wte
const fs::path kFixture = "tests/fixtures/llmc";

class LlmcState : public testing::Test {
protected:
    LlmcState() {
        engine.fill(0);  // each weight is its offset; the moments are that + 0.25 and + 0.5
        TrainerState state;
        state.progress.step = 40, state.progress.updates = 38, state.progress.position = 7;
        state.model = describe(engine.config()), state.T = 6;
        checkpoint = save_checkpoint(directory / "run", 40, engine, state.to_json(), {});
        write_llmc(directory / "model.bin", open_hf(checkpoint), "f32", nullptr);
        write_llmc_state(directory / "state.bin", checkpoint, open_hf(checkpoint), 40, nullptr);
    }
    TempDirectory directory;
    FakeEngine engine{parse_model(kModel)};
    fs::path checkpoint;
};

TEST_F(LlmcState, header_and_arenas_are_where_llmc_reads_them) {
    const std::string file = read_file(directory / "state.bin");
    const int32_t first[] = {20240527, 1, 1, 0, 1, 0};
    for (size_t i = 0; i < std::size(first); i++) EXPECT_EQ(value_at<int32_t>(file, 4 * i), first[i]) << i;
    EXPECT_EQ(value_at<int32_t>(file, 40), 40);
    EXPECT_EQ(value_at<uint64_t>(file, 80), 13371337u);
    EXPECT_EQ(value_at<uint64_t>(file, 88), 13371337u);
    EXPECT_EQ(value_at<uint64_t>(file, 120), 0u);
    EXPECT_EQ(value_at<uint64_t>(file, 128), 0u);
    ASSERT_EQ(file.size(), 1024 + 3 * 4 * kElems);
    for (const TensorSpec& spec : param_table(engine.config())) {
        if (spec.name != "block.1.qkv_w") continue;
        const size_t at = 1024 + 4 * (1104 + 192 + 5);  // of the moments and of the master weights
        EXPECT_EQ(value_at<float>(file, at), float(spec.offset) + 5.25f);
        EXPECT_EQ(value_at<float>(file, at + 4 * kElems), float(spec.offset) + 5.5f);
        EXPECT_EQ(value_at<float>(file, at + 8 * kElems), float(spec.offset) + 5);
    }
    EXPECT_EQ(value_at<float>(file, 1024 + 4 * 88), 0) << "padding of wte";
}

TEST_F(LlmcState, a_checkpoint_comes_back_with_equal_bits) {
    const LlmcModelFile model(directory / "model.bin");
    const LlmcStateFile state(directory / "state.bin", model);
    EXPECT_EQ(state.step(), 40);
    TrainerState own;
    own.progress.step = 40, own.progress.position = 1;
    own.model = describe(model.config()), own.T = 6;
    const fs::path again = save_checkpoint(directory / "again", state.step(), state.state(), own.to_json(), {});
    for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
        EXPECT_EQ(read_file(again / name), read_file(checkpoint / name)) << name;
    }
    FakeEngine loaded(model.config());
    load_trainer_state({again, 40}, loaded);
    for (const Arena& arena : FakeEngine::saved()) EXPECT_EQ(loaded.arena(arena), engine.arena(arena)) << arena.name;
}

// Training in bfloat16 rounds the model file, and keeps the master weights.
TEST_F(LlmcState, weights_are_the_master_weights) {
    engine.arena(Arena::params)[3] = 1.0001f;
    write_llmc(directory / "narrow.bin", open_hf(checkpoint), "bf16", nullptr);
    const LlmcModelFile model(directory / "narrow.bin");
    const LlmcStateFile state(directory / "state.bin", model);
    std::vector<float> values(4);
    state.state().read(Arena::params, 1084, values);
    EXPECT_EQ(values, (std::vector<float>{1084, 1085, 1086, 1087}));

    std::string without = read_file(directory / "state.bin").substr(0, 1024 + 2 * 4 * kElems);
    without[16] = 0;
    const LlmcStateFile alone(directory.write("without.bin", without), model);
    alone.state().read(Arena::params, 1084, values);
    EXPECT_EQ(values[1], 1088) << "rounded to bfloat16";
    alone.state().read({"moment1"}, 8, values);
    EXPECT_EQ(values[0], 8.25f);
}

TEST_F(LlmcState, what_is_no_state_of_this_model_is_refused) {
    const std::string good = read_file(directory / "state.bin");
    const LlmcModelFile model(directory / "model.bin");
    const auto message = [&](std::string file) {
        return error_of([&] { LlmcStateFile(directory.write("bad.bin", file), model); });
    };
    const auto with = [&](size_t byte, int32_t value) {
        std::string file = good;
        std::memcpy(&file[byte], &value, sizeof value);
        return file;
    };
    const auto has = [&](const std::string& text, const char* part) { EXPECT_NE(text.find(part), text.npos) << text; };
    has(message(with(0, 20240326)), "is not a training state of llm.c: it begins with 20240326, not with 20240527");
    has(message(with(4, 2)), "has version 2; Kiln reads version 1");
    has(message(with(40, -1)), "says that -1 steps are done");
    has(message(good.substr(0, 5000)),
        "the state of this model has 35008 bytes, the file has 5000; the file is damaged");
    std::string part = with(8, 4).substr(0, 1024 + 4 * kElems);
    part[12] = 2;
    has(message(part), "it is that of rank 2 of 4 processes, which may hold a part only: save it in llm.c with -z 0");
    has(message(good + "x"), "the file has 35009");
    EXPECT_EQ(message(with(20, 1) + "the order of shuffled data"), "");
    has(message("short"), "5 bytes are fewer than its header of 1024");
}

// ---- The debug state that dev/fixtures/make_llmc_fixtures.py computed with transformers in float64.

double relative_error(std::span<const float> values, std::span<const float> reference) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < reference.size(); i++) {
        const double d = double(values[i]) - reference[i];
        difference += d * d;
        size += double(reference[i]) * reference[i];
    }
    return std::sqrt(difference / size);
}

TEST(LlmcDebugState, kiln_computes_what_pytorch_did) {
    const LlmcModelFile model(kFixture / "model.bin");
    const LlmcDebugState expected = read_llmc_debug_state(kFixture / "debug_state.bin", model);
    ASSERT_EQ(expected.B, 2);
    ASSERT_EQ(expected.T, 7);
    const auto engine = make_engine(model.config(), {.B = expected.B, .T = expected.T});
    engine->init_weights(1);
    load_weights(kFixture / "model.bin", *engine);
    const LlmcDebugState ours = compute_debug_state(*engine, expected.B, expected.T, expected.tokens, expected.targets);
    EXPECT_NEAR(ours.loss, expected.loss, 1e-5 * expected.loss);
    const size_t V = size_t(model.config().V);
    for (size_t i = 0; i < expected.tokens.size(); i++) {
        EXPECT_LE(
            relative_error(std::span(ours.logits).subspan(i * V, V), std::span(expected.logits).subspan(i * V, V)),
            1e-5);
    }
    for (const TensorSpec& spec : param_table(model.config())) {
        EXPECT_LE(relative_error(std::span(ours.gradients).subspan(spec.offset, spec.elems()),
                                 std::span(expected.gradients).subspan(spec.offset, spec.elems())),
                  1e-4)
            << spec.name;
    }
}

TEST(LlmcDebugState, round_trips_bit_for_bit) {
    const TempDirectory directory;
    const LlmcModelFile model(kFixture / "model.bin");
    const LlmcDebugState state = read_llmc_debug_state(kFixture / "debug_state.bin", model);
    write_llmc_debug_state(directory / "debug.bin", model.config(), state);
    EXPECT_EQ(read_file(directory / "debug.bin"), read_file(kFixture / "debug_state.bin"));
}

TEST(LlmcDebugState, damage_is_refused) {
    const TempDirectory directory;
    const LlmcModelFile model(kFixture / "model.bin");
    const std::string good = read_file(kFixture / "debug_state.bin");
    const auto message = [&](size_t byte, int32_t value, size_t size) {
        std::string file = good.substr(0, size);
        std::memcpy(&file[byte], &value, sizeof value);
        return error_of([&] { read_llmc_debug_state(directory.write("bad.bin", file), model); });
    };
    const auto has = [&](const std::string& text, const char* part) { EXPECT_NE(text.find(part), text.npos) << text; };
    has(message(4, 1, good.size()), "has version 1; Kiln reads version 2 of a debug state");
    has(message(8, 0, good.size()), "says 0 sequences of 7 tokens");
    has(message(8, INT32_MAX, good.size()), "which is not the debug state of 2147483647 x 7 tokens");
    has(message(12, 30, good.size()), "for a model with a context of 29");
    has(message(8, 2, good.size() - 4), "is not the debug state of 2 x 7 tokens of this model");
    has(message(1024, 97, good.size()), "has a token that the model's vocabulary of 97 lacks");
}

}  // namespace
}  // namespace kiln
