// Pipes, and links to devices that never end, in place of the files that commands read or write.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class SpecialFiles : public TrainProgram {
protected:
    // The exit code is 124 if the program has not ended in time.
    Finished run_limited(const std::string& program, const Args& args) {
        return run_program("/usr/bin/timeout", Args{"20", program_path(program)} + args);
    }

    // Whether the command fails, and says so, with either of them in place of the file.
    void expect_refused(const fs::path& file, const std::string& program, const Args& args) {
        const fs::path kept = file.string() + ".kept";
        fs::rename(file, kept);
        for (const bool pipe : {true, false}) {
            if (pipe) {
                ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
            } else {
                fs::create_symlink("/dev/zero", file);
            }
            const Finished result = run_limited(program, args);
            EXPECT_TRUE(result.code == 1 || result.code == 2) << file << ": " << result.code << "\n" << result.err;
            EXPECT_NE(result.err.find(file.string()), std::string::npos) << result.err;
            const bool named = result.err.find(pipe ? "is a pipe" : "is a device") != std::string::npos;
            EXPECT_TRUE(named || result.err.find("not a regular file") != std::string::npos) << result.err;
            fs::remove(file);
        }
        fs::rename(kept, file);
    }
};

TEST_F(SpecialFiles, in_place_of_the_files_of_a_run_are_refused_at_once) {
    const Args start = {"-i",        data(), "-e", "llama:layers=1,dim=16,heads=2,kv_heads=1,ctx=16",
                        "-b",        "4",    "-x", "2",
                        "-v",        "1",    "-o", run(),
                        "--threads", "1"};
    ASSERT_EQ(run_limited("train_gpt2", start).code, 0);
    const fs::path checkpoint = run() / "checkpoint-00000002";
    const Args resume = {"-o", run(), "--resume", "-x", "4"};
    expect_refused(run() / "config.toml", "train_gpt2", resume);
    expect_refused(run() / "metrics.jsonl", "kiln", {"plot", "--run", run()});
    expect_refused(checkpoint / "manifest.json", "train_gpt2", resume);
    expect_refused(checkpoint / "trainer_state.json", "train_gpt2", resume);
    expect_refused(checkpoint / "config.json", "kiln", {"eval", "--model", checkpoint, "--data", data()});
    expect_refused(checkpoint / "model.safetensors", "kiln", {"inspect", checkpoint / "model.safetensors"});
    expect_refused(data() / "train_000.bin", "train_gpt2", start + Args{"--overwrite"});
    expect_refused(data() / "val_000.bin", "kiln", {"inspect", data() / "val_000.bin"});

    for (const char* log : {"main.log", "metrics.jsonl"}) {  // written to
        fs::remove(run() / log);
        ASSERT_EQ(mkfifo((run() / log).c_str(), 0600), 0);
        const Finished result = run_limited("train_gpt2", resume);
        EXPECT_EQ(result.code, 1) << result.err;
        EXPECT_NE(result.err.find(log), std::string::npos) << result.err;
        fs::remove(run() / log);
    }
}

TEST_F(SpecialFiles, in_place_of_the_files_of_a_tokenizer_and_of_an_index_are_refused_at_once) {
    const fs::path tokenizer = directory_ / "tokenizer", shards = directory_ / "shards";
    const fs::path text = directory_.write("text.txt", "the quick brown fox\n\njumps over the lazy dog\n");
    const Args prepare = {"prepare",  "--input", text,          "--tokenizer", tokenizer,
                          "--output", shards,    "--documents", "paragraph"};
    ASSERT_EQ(
        run_limited("kiln", {"tokenizer", "train", "--input", text, "--output", tokenizer, "--vocab-size", "300"}).code,
        0);
    ASSERT_EQ(run_limited("kiln", prepare).code, 0);
    expect_refused(tokenizer / "tokenizer.json", "kiln", prepare + Args{"--overwrite"});
    expect_refused(tokenizer / "tokenizer_config.json", "kiln", prepare + Args{"--overwrite"});
    expect_refused(shards / "shards.json", "kiln", {"inspect", shards});
    expect_refused(shards / "train_000000.bin", "kiln", {"inspect", shards});
}

}  // namespace
}  // namespace kiln
