// trainer_state.json and config.json may hold anything, under a right checksum: each field is checked, and training
// resumes from the checkpoint before.
#include "tools/train/trainer_state.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <sstream>

#include "tests/support/manifests.h"
#include "tests/support/tiny_run.h"
#include "tests/support/train_run.h"
#include "tools/checkpoint/names.h"
#include "tools/formats/safetensors.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

TrainerState some_state() {
    TrainerState state;
    TrainProgress& p = state.progress;
    p.step = 7, p.updates = 6, p.validated_at = 5;
    p.position = (uint64_t(1) << 53) - 1;
    p.loss_window.add(0.1 + 0.2);
    p.norm_window.add(std::nextafter(1.0, 2.0));
    p.log = {.main_bytes = 12, .metrics_bytes = 34};
    state.model = "llama:layers=1,dim=16,heads=2,ctx=16,vocab=11";
    state.seed = ~uint64_t(0);
    state.T = 16;
    state.loss_scale = {.scale = 65536, .good_steps = 3};
    state.train_tokens = 1000, state.train_data = ~uint64_t(1);
    state.options = {{"seed", "1"}, {"prompt", "床\n"}};
    return state;
}

struct Change {
    const char* field;
    const char* value;  // JSON; null: the field is removed
    const char* message;
};

// The state that is changed is of step 4 with two updates skipped, T 16, and a context of 16.
const Change kChanges[] = {
    {"format", "2", "has format 2, but this program reads format 1"},
    {"format", "\"1\"", "\"format\" must be a whole number, is \"1\""},
    {"format", nullptr, "\"format\" must be a whole number, but is missing"},
    {"step", "-1", "\"step\" must lie between 0 and 9007199254740992, is -1"},
    {"step", "18446744073709551615", "\"step\" must lie between 0 and 9007199254740992, is 18446744073709551615"},
    {"step", "0.5", "\"step\" must be a whole number, is 0.5"},
    {"step", "4.0", "\"step\" must be a whole number, is 4.0"},
    {"step", "null", "\"step\" must be a whole number, but is missing"},
    {"step", "[4]", "\"step\" must be a whole number, is an array of 1"},
    {"step", "5", "\"step\" is 5, but the checkpoint is of step 4"},
    {"step", "0", "\"updates\" must lie between 0 and 0"},
    {"updates", "5", "\"updates\" must lie between 0 and 4, is 5"},
    {"updates", "-3", "\"updates\" must lie between 0 and 4, is -3"},
    {"position", "0", "\"position\" must lie between 1 and"},
    {"position", "-1", "\"position\" must lie between 1 and"},
    {"position", "9223372036854775808", "\"position\" must lie between 1 and"},
    {"position", "1e3", "\"position\" must be a whole number, is 1000.0"},
    {"position", "true", "\"position\" must be a whole number, is true"},
    {"validated_at", "5", "\"validated_at\" must lie between -1 and 4, is 5"},
    {"sampled_at", "-2", "\"sampled_at\" must lie between -1 and 4, is -2"},
    {"loss_window", "[1,2,3,4,5]", "\"loss_window\" must hold at most 4 numbers, holds 5"},
    {"loss_window", "[1,null]", "\"loss_window\" must hold numbers, holds null"},
    {"loss_window", "[\"1\"]", "\"loss_window\" must hold numbers, holds \"1\""},
    {"loss_window", "[1e999]", "is not valid JSON"},
    {"norm_window", "{}", "\"norm_window\" must be an array, is an object of 0"},
    {"norm_window", nullptr, "\"norm_window\" must be an array, but is missing"},
    {"main_log_bytes", "-1", "\"main_log_bytes\" must lie between 0 and"},
    {"metrics_bytes", "\"12\"", "\"metrics_bytes\" must be a whole number, is \"12\""},
    {"model", "7", "\"model\" must be a string, is 7"},
    {"model", "\"llama:layers=-1\"", "layers"},
    {"model", "\"llama:layers=2,dim=16,heads=2,kv_heads=1,ctx=16,vocab=16\"", "config.json: describes"},
    {"T", "0", "\"T\" must lie between 1 and 2147483647, is 0"},
    {"T", "4294967328", "\"T\" must lie between 1 and 2147483647, is 4294967328"},
    {"T", "17", "\"T\" is 17, more than the model's context of 16"},
    {"seed", "-1", "\"seed\" must be a whole number from 0 to 2^64 - 1, is -1"},
    {"seed", "18446744073709551616", "\"seed\" must be a whole number from 0 to 2^64 - 1"},
    {"loss_scale", "[0,0]", "\"loss_scale\" must be a number above 0 and a count of steps"},
    {"loss_scale", "[1e300,0]", "\"loss_scale\" must be a number above 0 and a count of steps"},
    {"loss_scale", "[65536,-1]", "\"loss_scale\" must be a number above 0 and a count of steps"},
    {"loss_scale", "[65536]", "\"loss_scale\" must be a number above 0 and a count of steps"},
    {"loss_scale", "65536", "\"loss_scale\" must be an array, is 65536"},
    {"train_tokens", "0.5", "\"train_tokens\" must be a whole number from 0 to 2^64 - 1, is 0.5"},
    {"train_data", "\"x\"", "\"train_data\" must be a whole number from 0 to 2^64 - 1, is \"x\""},
    {"options", "[]", "options: must be an object, but is an array of 0"},
    {"options", "{\"seed\":1}", "options: \"seed\" must be a string, is 1"},
    {"options", "{\"a\":\"\",\"a\":\"\"}", "holds the key \"a\" twice"},
};

// The object's text with one member changed. The value may be no JSON that a tree could hold.
std::string changed(json object, const Change& change) {
    object.erase(change.field);
    std::string text = object.dump();
    if (change.value) text.insert(text.size() - 1, concat(",\"", change.field, "\":", change.value));
    return text;
}

// Replaces a file of a checkpoint, and makes the manifest agree with it.
void replace(const fs::path& checkpoint, const std::string& name, const std::string& content) {
    std::ofstream(checkpoint / name, std::ios::binary) << content;
    rewrite_manifest(checkpoint, step_of(checkpoint.filename().string()).value());
}

class HostileState : public testing::Test {
protected:
    static void SetUpTestSuite() {
        directory_ = std::make_unique<TempDirectory>();
        write_markov_shards(*directory_ / "data", 2000, 1000);
        TrainRun run = make_run();
        run.options.checkpoint_every = 2;
        run.options.max_steps = 4;
        ASSERT_EQ(run.run(), TrainOutcome::finished);
    }
    static void TearDownTestSuite() { directory_.reset(); }

    static TrainRun make_run() { return TrainRun(*directory_ / "data", *directory_ / "run"); }
    static fs::path newest() { return *directory_ / "run" / "checkpoint-00000004"; }

    // Resumes the run for a step, and expects that checkpoint 4 is passed over with this message.
    static void expect_resumed_from_the_one_before(const std::string& message) {
        TrainRun run = make_run();
        run.options.resume = true;
        std::ostringstream notes;
        run.hooks.notes = &notes;
        run.hooks.stop_requested = [&] { return !run.steps.empty(); };
        run.notes = &notes;
        EXPECT_EQ(run.run(), TrainOutcome::stopped) << message;
        ASSERT_FALSE(run.steps.empty());
        EXPECT_EQ(run.steps[0].step, 2) << message;
        EXPECT_NE(notes.str().find("ignoring " + newest().string() + ": "), std::string::npos) << notes.str();
        EXPECT_NE(notes.str().find(message), std::string::npos) << notes.str();
        EXPECT_EQ(notes.str().find("json.exception"), std::string::npos) << notes.str();
        fs::remove_all(newest().parent_path() / "checkpoint-00000003");
    }

    // What the newest checkpoint was.
    const std::string state_ = read_file(newest() / "trainer_state.json");
    const std::string config_ = read_file(newest() / "config.json");
    const std::string optimizer_ = read_file(newest() / "optimizer.safetensors");
    void TearDown() override {
        replace(newest(), "trainer_state.json", state_);
        replace(newest(), "config.json", config_);
        replace(newest(), "optimizer.safetensors", optimizer_);
    }

    static std::unique_ptr<TempDirectory> directory_;
};
std::unique_ptr<TempDirectory> HostileState::directory_;

TEST(TrainerState, json_keeps_every_bit) {
    const TrainerState state = some_state();
    const TrainerState read = parse_trainer_state(state.to_json().dump(), "state");
    EXPECT_EQ(read.to_json(), state.to_json());
    EXPECT_EQ(read.progress.position, state.progress.position);
    EXPECT_EQ(read.progress.loss_window.values(), state.progress.loss_window.values());
    EXPECT_EQ(read.progress.norm_window.values(), state.progress.norm_window.values());
    EXPECT_EQ(read.options, state.options);
}

TEST(TrainerState, fields_that_the_first_versions_did_not_write_may_be_absent) {
    json state = some_state().to_json();
    for (const char* field : {"loss_scale", "train_tokens", "train_data", "options"}) state.erase(field);
    EXPECT_EQ(parse_trainer_state(state.dump(), "state").train_data, std::nullopt);
}

TEST(TrainerState, every_cut_and_every_other_type_of_a_field_is_named) {
    const json state = some_state().to_json();
    const std::string text = state.dump();
    for (size_t size = 0; size < text.size(); size++) {
        EXPECT_EQ(error_of([&] { parse_trainer_state(text.substr(0, size), "a/file.json"); }).find("a/file.json: "),
                  0u);
    }
    const json values[] = {"text", -1.5, json::array({json::object()}), json::object({{"a", json::array()}}), true};
    for (const auto& [field, now] : state.items()) {
        for (const json& value : values) {
            if (value.is_string() && now.is_string()) continue;
            json other = state;
            other[field] = value;
            const std::string message = error_of([&] { parse_trainer_state(other.dump(), "a/file.json"); });
            EXPECT_EQ(message.find("a/file.json: "), 0u) << field << " " << value;
            EXPECT_NE(message.find(field), std::string::npos) << message;
            EXPECT_EQ(message.find("json.exception"), std::string::npos) << message;
        }
    }
}

TEST_F(HostileState, a_changed_field_is_named_and_the_checkpoint_before_is_used) {
    const json state = json::parse(state_);
    const fs::path run = newest().parent_path();
    for (const Change& change : kChanges) {
        replace(newest(), "trainer_state.json", changed(state, change));
        std::string report;
        const auto found = newest_checkpoint(
            run, [&](const std::string& text) { report += text; }, [](const auto& c) { read_trainer_state(c); });
        ASSERT_TRUE(found);
        EXPECT_EQ(found->step, 2) << change.message;
        EXPECT_NE(report.find(change.message), std::string::npos) << report;
        EXPECT_NE(
            report.find(change.field[0] == 'm' && change.message[0] == 'c' ? "config.json" : "trainer_state.json"),
            std::string::npos)
            << report;
        EXPECT_EQ(report.find("json.exception"), std::string::npos) << report;
    }
}

TEST_F(HostileState, training_resumes_from_the_checkpoint_before) {
    replace(newest(), "trainer_state.json", changed(json::parse(state_), {"step", "-1", ""}));
    expect_resumed_from_the_one_before("trainer_state.json: \"step\" must lie between");
}

TEST_F(HostileState, a_changed_config_is_named_and_training_resumes_from_the_checkpoint_before) {
    const Change changes[] = {
        {"model_type", "5", "config.json: \"model_type\" is 5; expected a string"},
        {"model_type", "\"mamba\"", "config.json: \"model_type\" is \"mamba\"; Kiln supports"},
        {"num_hidden_layers", "2", "config.json: its keys describe"},
        {"num_hidden_layers", "4294967297", "config.json: \"num_hidden_layers\" is 4294967297; expected 0 to"},
        {"hidden_size", nullptr, "config.json: lacks \"hidden_size\""},
        {"vocab_size", "1e9", "config.json: \"vocab_size\" is 1000000000.0; expected a whole number"},
        {"tie_word_embeddings", "\"no\"", "config.json: \"tie_word_embeddings\" is \"no\"; expected true or false"},
        {"rms_norm_eps", "[", "config.json: is not valid JSON"},
    };
    for (const Change& change : changes) {
        replace(newest(), "config.json", changed(json::parse(config_), change));
        expect_resumed_from_the_one_before(change.message);
    }
}

struct Value {
    const char *file, *tensor;
    int element;
    float value;
    const char* message;
};

const float kNan = std::nanf("");
const Value kValues[] = {
    {"optimizer.safetensors", "moment1.wte", 3, kNan, "'moment1.wte' holds nan at element 3"},
    {"optimizer.safetensors", "moment1.lnf_w", 15, INFINITY, "'moment1.lnf_w' holds inf at element 15"},
    {"optimizer.safetensors", "moment1.block.0.fc_w", 0, -INFINITY, "'moment1.block.0.fc_w' holds -inf at element 0"},
    {"optimizer.safetensors", "moment2.wte", 0, kNan, "'moment2.wte' holds nan at element 0"},
    {"optimizer.safetensors", "moment2.wte", 7, INFINITY, "'moment2.wte' holds inf at element 7"},
    {"optimizer.safetensors", "moment2.block.0.qkv_w", 9, -1e-30f, "'moment2.block.0.qkv_w' holds -1e-30 at element 9"},
    {"model.safetensors", "model.norm.weight", 5, kNan, "'model.norm.weight' holds nan at element 5"},
    {"model.safetensors", "model.layers.0.mlp.up_proj.weight", 1, INFINITY, "up_proj.weight' holds inf at element 1"},
};

// The file's bytes with one value changed.
std::string with_value(const fs::path& path, const Value& change) {
    const SafetensorsFile file(path);
    const StoredTensor* tensor = file.find(change.tensor);
    std::string bytes = read_file(path);
    uint64_t header = 0;
    std::memcpy(&header, bytes.data(), sizeof(header));
    std::memcpy(&bytes.at(8 + header + tensor->begin + 4 * size_t(change.element)), &change.value, 4);
    return bytes;
}

TEST_F(HostileState, values_that_training_cannot_have_left_are_named_and_the_checkpoint_before_is_used) {
    for (const Value& change : kValues) {
        const std::string before = read_file(newest() / change.file);
        replace(newest(), change.file, with_value(newest() / change.file, change));
        expect_resumed_from_the_one_before(change.message);
        if (std::string(change.file).starts_with("model")) {  // as a model to start from
            TrainRun run = make_run();
            run.options.model = newest();
            run.options.output.clear();
            EXPECT_NE(error_of([&] { run.run(); }).find(change.message), std::string::npos);
        }
        replace(newest(), change.file, before);
    }
}

TEST_F(HostileState, a_second_moment_of_minus_zero_is_one) {
    replace(newest(), "optimizer.safetensors",
            with_value(newest() / "optimizer.safetensors", {"", "moment2.wte", 0, -0.0f, ""}));
    TrainRun run = make_run();
    run.options.resume = true;
    run.options.max_steps = 5;
    run.run();
    EXPECT_EQ(run.steps.at(0).step, 4);
    fs::remove_all(newest().parent_path() / "checkpoint-00000005");
}

// It would make the second moment infinite, which is refused when it is loaded.
TEST(StepReport, a_gradient_whose_square_overflows_is_not_finite) {
    StepReport report;
    report.loss = 1;
    for (const double norm : {0.0, 1e19}) {
        report.norm = norm;
        EXPECT_TRUE(report.is_finite()) << norm;
    }
    for (const double norm : {1e20, 1e300, double(INFINITY), double(kNan)}) {
        report.norm = norm;
        EXPECT_FALSE(report.is_finite()) << norm;
    }
}

// As in a directory of shards that is removed, or prepared again, while training runs.
TEST(SampleTokenizer, changed_or_removed_files_change_nothing) {
    const TinyRun tiny;
    const TempDirectory output;
    const std::string tokenizer = read_file(tiny.data() / "tokenizer.json");
    TrainRun run(tiny.data() / "val_000000.bin", output.path());
    run.options.sample_every = 1;
    std::ostringstream results;
    run.hooks.results = &results;
    run.options.sample_tokens = 4;
    run.options.checkpoint_every = 1;
    run.options.max_steps = 3;
    run.hooks.on_step = [&](const StepReport& report) {
        if (report.step == 0) std::ofstream(tiny.data() / "tokenizer.json") << "{}";
        if (report.step == 1) fs::remove(tiny.data() / "tokenizer.json");
    };
    EXPECT_EQ(run.run(), TrainOutcome::finished);
    EXPECT_NE(results.str().find("--- sample at step 3\n"), std::string::npos) << results.str();
    EXPECT_EQ(read_file(output / "checkpoint-00000003/tokenizer.json"), tokenizer);
}

TEST_F(HostileState, without_another_checkpoint_the_reason_is_told) {
    const TempDirectory alone;
    fs::copy(newest(), alone / "checkpoint-00000004", fs::copy_options::recursive);
    replace(alone / "checkpoint-00000004", "trainer_state.json", "{}");
    TrainRun run = make_run();
    run.options.output = alone.path();
    run.options.resume = true;
    std::ostringstream notes;
    run.notes = &notes;
    EXPECT_NE(error_of([&] { run.run(); }).find("no checkpoint is complete"), std::string::npos);
    EXPECT_NE(notes.str().find("\"format\" must be a whole number, but is missing"), std::string::npos) << notes.str();
}

TEST_F(HostileState, a_checkpoint_under_the_name_of_another_step_is_refused) {
    const TempDirectory other;
    fs::copy(newest(), other / "checkpoint-00000009", fs::copy_options::recursive);
    EXPECT_NE(error_of([&] { verify_checkpoint(other / "checkpoint-00000009"); }).find("is that of step 4"),
              std::string::npos);
}

}  // namespace
}  // namespace kiln
