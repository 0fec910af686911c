// The real kiln import and kiln export, and what other commands do with the results.
#include <gtest/gtest.h>

#include "tests/support/process.h"
#include "tests/support/tiny_run.h"
#include "tokenizer/io/file.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using Args = std::vector<std::string>;

class ConversionCli : public testing::Test {
protected:
    Finished kiln(const Args& args) const { return run_program(program_path("kiln"), args); }
    Args exported(const fs::path& output, const Args& more = {}) const {
        Args args{"export", "--model", run_.run(), "--to", "hf", "--output", output};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }
    void expect_done(const Args& args) const {
        const Finished result = kiln(args);
        EXPECT_EQ(result.code, 0) << result.err;
        EXPECT_EQ(result.out, "");
        EXPECT_TRUE(result.err.starts_with("wrote ")) << result.err;
    }
    void expect_failure(int code, const Args& args, const std::string& part) const {
        const Finished result = kiln(args);
        EXPECT_EQ(result.code, code) << result.err;
        EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    }

    TinyRun run_;
    fs::path out_ = run_.directory / "out";
};

TEST_F(ConversionCli, exported_run_is_imported_with_the_same_bytes_and_says_the_same) {
    expect_done(exported(out_));
    for (const char* file : {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"}) {
        EXPECT_EQ(read_file(out_ / file), read_file(run_.checkpoint / file)) << file;
    }
    expect_done({"import", "--from", "hf", "--input", out_, "--output", run_.directory / "in"});
    for (const auto& entry : fs::directory_iterator(out_)) {
        EXPECT_EQ(read_file(run_.directory / "in" / entry.path().filename()), read_file(entry.path())) << entry;
    }
    const auto text_of = [&](const fs::path& model) {
        return kiln({"generate", "--model", model, "--prompt", "the quick", "--temperature", "0", "--max-new-tokens",
                     "8"})
            .out;
    };
    EXPECT_EQ(text_of(run_.directory / "in"), text_of(run_.run()));
}

TEST_F(ConversionCli, training_starts_from_a_narrow_model) {
    for (const char* type : {"f16", "bf16"}) {
        const fs::path model = run_.directory / type;
        expect_done(exported(model, {"--type", type}));
        const Finished trained =
            run_program(program_path("train_gpt2"), {"-i", run_.data() / "val_000000.bin", "-e", model, "-x", "1", "-b",
                                                     "1", "-o", run_.directory / "trained", "--overwrite"});
        EXPECT_EQ(trained.code, 0) << trained.err;
        // Half of the bytes, except the header.
        EXPECT_LT(fs::file_size(model / "model.safetensors"),
                  fs::file_size(run_.checkpoint / "model.safetensors") * 6 / 10);
    }
}

TEST_F(ConversionCli, existing_output_is_replaced_only_if_asked_and_only_if_it_is_a_model) {
    expect_done(exported(out_));
    const std::string before = read_file(out_ / "model.safetensors");
    expect_failure(1, exported(out_, {"--type", "bf16"}), "exists already");
    EXPECT_EQ(read_file(out_ / "model.safetensors"), before);
    expect_done(exported(out_, {"--type", "bf16", "--overwrite"}));
    EXPECT_NE(read_file(out_ / "model.safetensors"), before);
    expect_failure(1, exported(run_.run(), {"--overwrite"}), "only a model directory is replaced");
    expect_failure(1, exported(run_.checkpoint, {"--overwrite"}), "only a model directory is replaced");
    EXPECT_TRUE(fs::exists(run_.checkpoint / "trainer_state.json"));
}

TEST_F(ConversionCli, wrong_words_are_told) {
    expect_failure(2, exported(out_, {"--type", "q5_1"}), "--type q5_1: the format hf has f32, f16, bf16");
    expect_failure(2, {"export", "--model", run_.run(), "--to", "hg", "--output", out_}, "--to");
    expect_failure(1, {"import", "--from", "hf", "--input", run_.directory / "none", "--output", out_}, "none");
    expect_failure(2, {"import", "--from", "hf", "--output", out_}, "--input");
    EXPECT_FALSE(fs::exists(out_));
}

TEST_F(ConversionCli, nothing_but_a_model_of_the_format_is_replaced) {
    const auto to_gguf = [&](const fs::path& output) {
        return Args{"export", "--model", run_.run(), "--to", "gguf", "--output", output, "--overwrite"};
    };
    const fs::path text = run_.directory.write("text", "precious"), file = run_.directory / "a.gguf";
    expect_failure(1, to_gguf(text), "text: is not a file of this format, so it is not replaced");
    EXPECT_EQ(read_file(text), "precious");
    expect_done(to_gguf(file));
    expect_done(to_gguf(file));
    expect_done(exported(out_));
    const std::string weights = read_file(out_ / "model.safetensors");
    const auto into_input = [&](const char* name) {
        return Args{"export", "--model", out_, "--to", "gguf", "--output", out_ / name, "--overwrite"};
    };
    expect_failure(1, into_input("model.safetensors"), "is not a file of this format");
    EXPECT_EQ(read_file(out_ / "model.safetensors"), weights);
    // A directory with a file of the user.
    write_file_atomic(out_ / "notes", "mine");
    expect_failure(1, exported(out_, {"--overwrite"}), "holds notes, which is no file of a model");
    EXPECT_EQ(read_file(out_ / "notes"), "mine");
    fs::create_symlink("nowhere", run_.directory / "link");
    expect_failure(1, {"export", "--model", run_.run(), "--to", "gguf", "--output", run_.directory / "link"},
                   "is a link to a path that does not exist");
}

TEST_F(ConversionCli, files_of_one_conversion_need_names_of_their_own) {
    expect_failure(2,
                   {"export", "--model", run_.run(), "--to", "llmc", "--output", run_.directory / "m.bin", "--state",
                    run_.directory / "sub/../m.bin"},
                   "is also --output");
}

TEST_F(ConversionCli, a_tokenizer_of_another_vocabulary_is_refused) {
    expect_done(exported(out_));
    const fs::path other = run_.directory / "other";
    std::string words;  // of many kinds, so that there is enough to merge
    for (int i = 0; i < 2000; i++) words += concat(i * i * 7919, " ");
    expect_done({"tokenizer", "train", "--input", run_.directory.write("text", words), "--vocab-size", "600",
                 "--output", other});
    expect_failure(1,
                   {"import", "--from", "hf", "--input", out_, "--tokenizer", other, "--output", run_.directory / "in"},
                   "but the model has");
    EXPECT_FALSE(fs::exists(run_.directory / "in"));
}

}  // namespace
}  // namespace kiln
