#include "tools/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/fake_engine.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tiny_run.h"
#include "tokenizer/io/file.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const char* const kModel = "llama:layers=1,dim=8,heads=2,kv_heads=1,ffn=12,vocab=11,ctx=16";

FakeEngine make_filled(float seed) {
    FakeEngine engine(parse_model(kModel));
    engine.fill(seed);
    return engine;
}

void flip_bit(const fs::path& path, size_t byte, int bit) {
    std::string content = read_file(path);
    content.at(byte) = char(content[byte] ^ 1 << bit);
    std::ofstream(path, std::ios::binary) << content;
}

std::vector<int64_t> steps_of(const fs::path& run) {
    std::vector<int64_t> steps;
    for (const CheckpointRef& checkpoint : list_checkpoints(run)) steps.push_back(checkpoint.step);
    return steps;
}

// Saves the given steps, each with weights of its own.
void save_steps(const fs::path& run, std::initializer_list<int64_t> steps) {
    for (const int64_t step : steps) save_checkpoint(run, step, make_filled(float(step)), {{"step", step}}, {});
}

TEST(Checkpoint, saved_state_loads_back_equal) {
    const TempDirectory directory;
    FakeEngine engine = make_filled(3), copy(parse_model(kModel));
    const json state = {{"step", 10}, {"window", {1.5, 0.1, 1e-300}}, {"seed", ~uint64_t(0)}};
    const fs::path checkpoint = save_checkpoint(directory / "run", 10, engine, state, {});
    EXPECT_EQ(checkpoint, directory / "run" / "checkpoint-00000010");
    verify_checkpoint(checkpoint);
    load_training_state(checkpoint, copy);
    EXPECT_EQ(json::parse(read_file(checkpoint / "trainer_state.json")), state);
    for (const Arena& arena : FakeEngine::saved()) {
        EXPECT_EQ(copy.arena(arena), engine.arena(arena));
    }
    EXPECT_TRUE(read_model_config(checkpoint) == parse_model(kModel));
    EXPECT_EQ(resolve_model_directory(directory / "run"), checkpoint);
    EXPECT_EQ(resolve_model_directory(checkpoint), checkpoint);
}

TEST(Checkpoint, holds_the_files_that_hugging_face_tools_look_for) {
    const TempDirectory directory;
    const fs::path checkpoint = save_checkpoint(directory / "run", 1, make_filled(1), json::object(), {});
    for (const char* name : {"model.safetensors", "config.json", "generation_config.json", "optimizer.safetensors",
                             "trainer_state.json", "manifest.json"}) {
        EXPECT_TRUE(fs::is_regular_file(checkpoint / name)) << name;
    }
}

TEST(Checkpoint, equal_states_give_equal_bytes) {
    const TempDirectory a, b;
    for (const TempDirectory* run : {&a, &b}) save_steps(run->path(), {7});
    for (const auto& entry : fs::directory_iterator(a / "checkpoint-00000007")) {
        EXPECT_EQ(read_file(entry.path()), read_file(b / "checkpoint-00000007" / entry.path().filename()));
    }
}

TEST(Checkpoint, saving_a_step_again_replaces_it) {
    const TempDirectory run;
    save_checkpoint(run.path(), 5, make_filled(1), {{"n", 1}}, {});
    const fs::path checkpoint = save_checkpoint(run.path(), 5, make_filled(2), {{"n", 2}}, {});
    verify_checkpoint(checkpoint);
    FakeEngine engine(parse_model(kModel));
    load_training_state(checkpoint, engine);
    EXPECT_EQ(json::parse(read_file(checkpoint / "trainer_state.json")).at("n"), 2);
    EXPECT_EQ(engine.arena(Arena::params), make_filled(2).arena(Arena::params));
    EXPECT_EQ(std::distance(fs::directory_iterator(run.path()), fs::directory_iterator()), 1);
}

TEST(Checkpoint, failed_save_leaves_what_was_there) {
    const TempDirectory run;
    save_steps(run.path(), {5});
    const std::string before = read_file(run / "checkpoint-00000005/manifest.json");
    class FailingEngine : public FakeEngine {
    public:
        using FakeEngine::FakeEngine;
        void read(const Arena& arena, size_t offset, std::span<float> out) const override {
            if (arena == Arena{"moment2"}) throw Error("no space left");
            FakeEngine::read(arena, offset, out);
        }
    };
    const FailingEngine engine(parse_model(kModel));
    EXPECT_THROW(save_checkpoint(run.path(), 5, engine, {}, {}), Error);
    EXPECT_THROW(save_checkpoint(run.path(), 6, engine, {}, {}), Error);
    verify_checkpoint(run / "checkpoint-00000005");
    EXPECT_EQ(read_file(run / "checkpoint-00000005/manifest.json"), before);
    EXPECT_EQ(std::distance(fs::directory_iterator(run.path()), fs::directory_iterator()), 1);
}

TEST(Checkpoint, unwritable_run_is_named) {
    const TempDirectory directory;
    const fs::path file = directory.write("file", "x");
    const std::string message = error_of([&] { save_checkpoint(file, 5, make_filled(1), {}, {}); });
    EXPECT_NE(message.find(file.string()), std::string::npos) << message;
}

TEST(Checkpoint, tokenizer_file_of_any_name_gets_the_usual_one) {
    const TempDirectory directory;
    const TinyRun run;
    fs::copy_file(run.data() / "tokenizer.json", directory / "my\xFF.json");
    save_checkpoint(directory.path(), 1, make_filled(1), {}, ModelFiles(directory / "my\xFF.json", {}));
    EXPECT_EQ(find_tokenizer(directory / "checkpoint-00000001").filename(), "tokenizer.json");
}

TEST(Checkpoint, missing_tokenizer_directory_is_an_error_and_no_checkpoint) {
    const TempDirectory run;
    EXPECT_THROW(save_checkpoint(run.path(), 1, make_filled(1), {}, ModelFiles(run / "none", {})), Error);
    EXPECT_TRUE(list_checkpoints(run.path()).empty());
}

TEST(Checkpoint, keeps_what_the_model_came_with) {
    const TinyRun run;  // whose checkpoint is the model to start from
    const fs::path config = run.checkpoint / "config.json", generation = run.checkpoint / "generation_config.json";
    json model = json::parse(read_file(config));
    model["eos_token_id"] = {5, 6};
    model["pad_token_id"] = 7;
    write_file_atomic(config, model.dump());
    write_file_atomic(generation, R"({"eos_token_id": [5, 6], "temperature": 0.6})");
    write_file_atomic(run.checkpoint / "chat_template.jinja", "{{ messages }}");

    const TempDirectory next;
    fs::path from = run.checkpoint;
    for (const int64_t step : {1, 2}) {  // the second one starts from the first
        const ModelFiles files(run.data(), from);
        EXPECT_EQ(stop_tokens(files), (std::vector<int>{5, 6}));
        from = save_checkpoint(next.path(), step, make_filled(1), {}, files);
        const json kept = json::parse(read_file(from / "config.json"));
        EXPECT_EQ(kept["eos_token_id"], json({5, 6}));
        EXPECT_EQ(kept["pad_token_id"], 7);
        EXPECT_EQ(read_file(from / "generation_config.json"), read_file(generation));
        EXPECT_EQ(read_file(from / "chat_template.jinja"), "{{ messages }}");
        EXPECT_EQ(stop_tokens(from), (std::vector<int>{5, 6}));
    }
    // With another tokenizer, these ids would be wrong.
    json other = json::parse(read_file(run.data() / "tokenizer.json"));
    other["added_tokens"][0]["content"] = "</s>";
    other["model"]["vocab"].erase("<|endoftext|>");
    other["model"]["vocab"]["</s>"] = 0;
    const ModelFiles files(next.write("other/tokenizer.json", other.dump()).parent_path(), run.checkpoint);
    EXPECT_EQ(stop_tokens(files).size(), 1u);
    EXPECT_FALSE(files.token_ids.contains("pad_token_id"));
}

TEST(Checkpoint, a_damaged_tokenizer_is_taken_from_neither_checkpoint_nor_shards) {
    const TinyRun run;
    verify_tokenizer(run.checkpoint);
    verify_tokenizer(run.data());
    flip_bit(run.checkpoint / "tokenizer.json", 100, 3);
    EXPECT_NE(error_of([&] { verify_tokenizer(run.checkpoint); }).find("tokenizer.json"), std::string::npos);
    flip_bit(run.data() / "tokenizer.json", 100, 3);
    EXPECT_NE(error_of([&] { verify_tokenizer(run.data()); }).find("tokenizer.json"), std::string::npos);
}

TEST(Checkpoint, list_is_newest_first_and_only_of_checkpoints) {
    const TempDirectory run;
    save_steps(run.path(), {9, 10, 2});
    for (const char* name : {".saving-checkpoint-00000099", "checkpoint-x", "checkpoint-", "checkpoint-12.tmp"}) {
        fs::create_directory(run / name);
    }
    run.write("checkpoint-00000050", "a file");
    EXPECT_EQ(steps_of(run.path()), (std::vector<int64_t>{10, 9, 2}));
    EXPECT_TRUE(list_checkpoints(run / "none").empty());
}

TEST(Checkpoint, one_left_half_replaced_is_still_found) {
    const TempDirectory run;
    save_steps(run.path(), {3, 4});
    fs::rename(run / "checkpoint-00000004", run / "checkpoint-00000004.replaced");
    const auto newest = newest_checkpoint(run.path(), nullptr);
    ASSERT_TRUE(newest);
    EXPECT_EQ(newest->step, 4);
    prune_checkpoints(run.path(), 1, 0);
    EXPECT_EQ(steps_of(run.path()), (std::vector<int64_t>{4}));
}

TEST(Checkpoint, missing_files_are_noticed) {
    for (const char* name : {"manifest.json", "model.safetensors", "trainer_state.json", "config.json"}) {
        const TempDirectory run;
        save_steps(run.path(), {1});
        fs::remove(run / "checkpoint-00000001" / name);
        const std::string message = error_of([&] { verify_checkpoint(run / "checkpoint-00000001"); });
        EXPECT_NE(message.find(name), std::string::npos) << message;
        EXPECT_NE(error_of([&] { resolve_model_directory(run.path()); }).find(name), std::string::npos);
    }
}

// Who evaluates or generates would take an older model's results for the newest one's.
TEST(Checkpoint, readers_of_a_run_learn_that_its_newest_checkpoint_is_passed_over) {
    const TempDirectory run;
    save_steps(run.path(), {1, 2});
    fs::remove(run / "checkpoint-00000002/config.json");
    std::string said;
    const auto report = [&](const std::string& text) { said += text; };
    EXPECT_EQ(resolve_model_directory(run.path(), report), run / "checkpoint-00000001");
    EXPECT_NE(said.find("warning: ignoring " + (run / "checkpoint-00000002").string()), std::string::npos) << said;
}

TEST(Checkpoint, manifest_of_another_version_is_refused) {
    const TempDirectory run;
    save_steps(run.path(), {1});
    const fs::path path = run / "checkpoint-00000001/manifest.json";
    json manifest = json::parse(read_file(path));
    manifest["version"] = 2;
    std::ofstream(path) << manifest.dump(1) << "\n";
    EXPECT_NE(error_of([&] { verify_checkpoint(path.parent_path()); }).find("version 2"), std::string::npos);
}

TEST(Checkpoint, pruning_keeps_the_newest_and_the_major_ones) {
    const TempDirectory run;
    save_steps(run.path(), {1, 2, 3, 4, 5, 6, 7});
    fs::create_directory(run / ".saving-checkpoint-00000008");
    run.write("keep.txt", "not ours");
    prune_checkpoints(run.path(), 2, 3);
    EXPECT_EQ(steps_of(run.path()), (std::vector<int64_t>{7, 6, 3}));
    EXPECT_FALSE(fs::exists(run / ".saving-checkpoint-00000008"));
    EXPECT_TRUE(fs::exists(run / "keep.txt"));
    prune_checkpoints(run.path(), 0, 0);
    EXPECT_EQ(steps_of(run.path()).size(), 3u);
}

TEST(Checkpoint, what_is_not_of_kiln_is_neither_pruned_nor_replaced) {
    const TempDirectory run;
    for (const char* file : {"checkpoint-1/weights", "checkpoint-00000003/weights", "checkpoint-00000004"}) {
        run.write(file, "theirs");
    }
    save_steps(run.path(), {2, 3, 4, 3});
    prune_checkpoints(run.path(), 1, 0);
    EXPECT_EQ(steps_of(run.path()), (std::vector<int64_t>{4, 1}));
    for (const char* file :
         {"checkpoint-1/weights", "checkpoint-00000003.other/weights", "checkpoint-00000004.other"}) {
        EXPECT_EQ(read_file(run / file), "theirs") << file;
    }
}

TEST(Checkpoint, pruning_never_removes_the_newest_whole_one) {
    const TempDirectory run;
    save_steps(run.path(), {1, 2, 3, 4});
    for (const char* name : {"checkpoint-00000003", "checkpoint-00000004"}) fs::remove(run / name / "config.json");
    prune_checkpoints(run.path(), 1, 0);
    EXPECT_EQ(newest_checkpoint(run.path(), nullptr)->step, 2);
}

TEST(Checkpoint, weights_of_another_model_are_refused) {
    const TempDirectory run;
    save_steps(run.path(), {1});
    FakeEngine other(parse_model("llama:layers=2,dim=8,heads=2,kv_heads=1,ffn=12,vocab=11,ctx=16"));
    const std::string message = error_of([&] { load_weights(run / "checkpoint-00000001", other); });
    EXPECT_NE(message.find("layers=2"), std::string::npos) << message;
}

TEST(Checkpoint, weights_without_optimizer_do_not_resume) {
    const TempDirectory run;
    save_steps(run.path(), {1});
    fs::remove(run / "checkpoint-00000001/optimizer.safetensors");
    FakeEngine engine(parse_model(kModel));
    EXPECT_NE(error_of([&] { load_training_state(run / "checkpoint-00000001", engine); }).find("optimizer.safetensors"),
              std::string::npos);
    load_weights(run / "checkpoint-00000001", engine);
    EXPECT_EQ(engine.arena(Arena::params), make_filled(1).arena(Arena::params));
}

TEST(Checkpoint, model_directory_that_is_none_is_explained) {
    const TempDirectory directory;
    const fs::path file = directory.write("file", "x");
    EXPECT_NE(error_of([&] { resolve_model_directory(directory / "none"); }).find("no such directory"),
              std::string::npos);
    EXPECT_NE(error_of([&] { resolve_model_directory(file); }).find("is neither a directory nor a model file of llm.c"),
              std::string::npos);
    EXPECT_NE(error_of([&] { resolve_model_directory(directory.path()); }).find("neither a model"), std::string::npos);
}

}  // namespace
}  // namespace kiln
