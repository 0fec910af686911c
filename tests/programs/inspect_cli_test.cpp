// kiln inspect of checkpoints, runs and directories of runs.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tests/support/manifests.h"
#include "tests/support/process.h"
#include "tests/support/tiny_run.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/links.h"
#include "tools/checkpoint/names.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using Args = std::vector<std::string>;

class InspectCli : public testing::Test {
protected:
    Finished kiln(const Args& args) { return run_program(program_path("kiln"), args); }

    // It fails with `code`, says every one of `parts` on standard error and nothing on standard output.
    void expect_failure(const Finished& result, int code, const Args& parts) {
        EXPECT_EQ(result.code, code) << result.err;
        EXPECT_EQ(result.out, "");
        for (const std::string& part : parts) {
            EXPECT_NE(result.err.find(part), std::string::npos) << "lacks: " << part << "\n" << result.err;
        }
    }

    TinyRun run_;
};

TEST_F(InspectCli, inspects_tokenizers_checkpoints_runs_and_tensors) {
    const std::string row = concat("\ntensors         11 of type F32, ",
                                   bytes_text(4.0 * double(count_parameters(run_.config))), "; --tensors lists them\n");
    for (const fs::path& path : {run_.checkpoint, run_.run(), run_.checkpoint / "model.safetensors"}) {
        const Finished summary = kiln({"inspect", path}), all = kiln({"inspect", path, "--tensors"});
        ASSERT_EQ(summary.code, 0) << path << summary.err;
        EXPECT_EQ(summary.out.find(".weight"), std::string::npos) << summary.out;
        EXPECT_NE(summary.out.find(row), std::string::npos) << summary.out;
        EXPECT_NE(all.out.find("  model.embed_tokens.weight "), std::string::npos) << all.out;
        const auto lines = [](const std::string& text) { return std::count(text.begin(), text.end(), '\n'); };
        const bool weights = path.extension() == ".safetensors";
        EXPECT_EQ(lines(all.out), lines(summary.out) + (weights ? 11 : 11 + 2 * 8)) << all.out;
    }
    fs::create_directory_symlink(run_.checkpoint.filename(), run_.run() / "best");
    const std::string run = kiln({"inspect", run_.run()}).out;
    EXPECT_NE(run.find("parameters"), std::string::npos);
    EXPECT_NE(run.find(run_.checkpoint.string() + ", by its validation loss"), std::string::npos) << run;
    EXPECT_NE(kiln({"inspect", run_.checkpoint / "tokenizer.json"}).out.find("<|endoftext|>"), std::string::npos);
}

TEST_F(InspectCli, inspect_shows_how_far_a_checkpoint_is_and_verifies_its_files) {
    const fs::path checkpoint = run_.checkpoint, next = run_.run() / "checkpoint-00000011";
    for (const fs::path& path : {checkpoint, run_.run()}) {
        const Finished shown = kiln({"inspect", path});
        ASSERT_EQ(shown.code, 0) << shown.err;
        for (const char* row :
             {"step            10, updates applied 9, skipped 1\n", "position        sequence 40 of 24 tokens, epoch ",
              "options         all have their defaults\n", "values          weights and optimizer state are finite\n",
              "  optimizer.safetensors ", "\noptimizer       ", " bytes, as the manifest says\n"}) {
            EXPECT_NE(shown.out.find(row), std::string::npos) << row << shown.out;
        }
    }
    // What it shows before the fault is right.
    const auto expect_damaged = [&](const fs::path& path, const Args& parts) {
        Finished shown = kiln({"inspect", path});
        const std::string out = std::exchange(shown.out, "");
        expect_failure(shown, 1, parts);
        return out;
    };
    const std::string whole = concat("the newest whole checkpoint of the run: ", checkpoint.string());
    fs::copy(checkpoint, next, fs::copy_options::recursive);
    expect_damaged(next, {"manifest.json: is that of step 10", whole});
    fs::remove(next / "manifest.json");
    fs::remove(next / "trainer_state.json");
    write_file_atomic(next / "trainer_state.json", R"({"format": 1, "step": -1})");
    rewrite_manifest(next, 11);
    expect_damaged(next, {"trainer_state.json: \"step\" must lie between", whole});

    for (const char* name : {"config.json", "tokenizer.json"}) fs::resize_file(checkpoint / name, 20);
    const std::string out =
        expect_damaged(checkpoint, {"config.json: is {", "tokenizer.json: is {", "checkpoint of the run: none"});
    EXPECT_NE(out.find(" bytes, not as the manifest says\n"), std::string::npos) << out;
}

TEST_F(InspectCli, inspect_of_a_run_verifies_every_checkpoint_and_says_which_are_damaged) {
    const fs::path checkpoint = run_.checkpoint;
    for (const int64_t step : {5, 8, 11}) {
        fs::copy(checkpoint, run_.run() / checkpoint_name(step), fs::copy_options::recursive);
        const fs::path state = run_.run() / checkpoint_name(step) / "trainer_state.json";
        auto json = nlohmann::json::parse(read_file(state));
        json["step"] = json["updates"] = step;
        write_file_atomic(state, json.dump());
        rewrite_manifest(run_.run() / checkpoint_name(step), step);
    }
    link_checkpoint(run_.run(), kBestLink, run_.run() / checkpoint_name(8));
    for (const int64_t step : {11, 8}) {
        const fs::path weights = run_.run() / checkpoint_name(step) / "model.safetensors";
        std::string bytes = read_file(weights);
        bytes[bytes.size() / 2] ^= 1;
        write_file_atomic(weights, bytes);
    }
    const Finished shown = kiln({"inspect", run_.run()});
    EXPECT_EQ(shown.code, 1);
    EXPECT_NE(shown.err.find("2 of 4 checkpoints are damaged: checkpoint-00000011, checkpoint-00000008"),
              std::string::npos)
        << shown.err;
    for (const char* line :
         {"checkpoint-00000011, damaged: ", "checkpoint-00000010, whole\n",
          "checkpoint-00000008, damaged: ", "checkpoint-00000005, whole\n", "\nbest            leads to ",
          "checkpoint-00000008, which is damaged\n", "\noptimizer       "}) {
        EXPECT_NE(shown.out.find(line), std::string::npos) << line << shown.out;
    }
}

TEST_F(InspectCli, inspect_of_a_directory_of_runs_lists_them_and_prepare_names_the_command_that_imports) {
    const Finished runs = kiln({"inspect", run_.directory.path()});
    EXPECT_EQ(runs.code, 0) << runs.err;
    EXPECT_NE(runs.out.find(concat(run_.run().string(), ", its newest checkpoint is checkpoint-00000010\n")),
              std::string::npos)
        << runs.out;
    expect_failure(kiln({"prepare", "--input", "x", "--tokenizer", "gpt2", "--output", "shards"}), 2,
                   {"`kiln tokenizer import gpt2 --output tok`"});
}

}  // namespace
}  // namespace kiln
