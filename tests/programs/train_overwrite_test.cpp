// What --overwrite removes, and when: never what the new run begins with, and nothing before it is known to start.
#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/tokenizer.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class TrainOverwrite : public TrainProgram {
protected:
    // Trains the run that is to be overwritten.
    TrainOverwrite() {
        const Finished first = train(kModel, {"-x", "2", "-n", "1"});
        EXPECT_EQ(first.code, 0) << first.err;
    }
    Finished train(const std::string& model, const Args& more) const {
        return train_cpu(Args{"-i", data(), "-e", model, "-b", "4", "-x", "1", "-o", run(), "--threads", "1"} + more);
    }
    // With --overwrite; the program says why it cannot, and the run is as it was.
    void expect_kept(const std::string& model, const Args& more, int code, const std::string& why) const {
        const std::string log = read_file(run() / "metrics.jsonl");
        const Finished result = train(model, more + Args{"--overwrite"});
        EXPECT_EQ(result.code, code) << model << "\n" << result.err;
        EXPECT_NE(result.err.find(why), std::string::npos) << model << "\n" << result.err;
        EXPECT_EQ(result.err.find("filesystem error"), std::string::npos) << result.err;
        EXPECT_EQ(read_file(run() / "metrics.jsonl"), log);
        for (const char* file : {"config.toml", "loss.svg", "model/manifest.json", "checkpoint-00000001/manifest.json",
                                 "checkpoint-00000002/model.safetensors"}) {
            EXPECT_TRUE(fs::exists(run() / file)) << model << ": " << file;
        }
    }
    fs::path copy(const fs::path& from, const char* name) const {
        fs::copy(from, directory_ / name, fs::copy_options::recursive);
        return directory_ / name;
    }

    static constexpr const char* kModel = "llama:layers=1,dim=16,heads=2,kv_heads=1,ctx=16";
    const fs::path checkpoint_ = run() / "checkpoint-00000002";
};

TEST_F(TrainOverwrite, does_not_remove_the_model_that_it_starts_from_by_whatever_name) {
    fs::create_symlink(run() / "model", directory_ / "link");
    fs::create_symlink("link", directory_ / "chain");
    const std::string checkpoint = checkpoint_, chain = directory_ / "chain";
    for (const std::string& name : {checkpoint, checkpoint + "/", checkpoint + "//", checkpoint + "/.",
                                    (run() / "../run/checkpoint-00000002/").string(), run().string() + "/",
                                    (run() / "model/").string(), chain, chain + "/"}) {
        expect_kept(name, {}, 2, "in the run that would be removed");
    }
}

TEST_F(TrainOverwrite, removes_nothing_if_the_new_run_cannot_start) {
    const fs::path model = copy(checkpoint_, "bad_model");
    fs::remove(model / "manifest.json");
    fs::resize_file(model / "model.safetensors", 10000);
    expect_kept(model, {}, 1, "the file is truncated");

    const fs::path shards = copy(data(), "bad_data");
    std::string shard = read_file(shards / "train_000.bin");
    shard.back() ^= 1;
    write_file_atomic(shards / "train_000.bin", shard);
    expect_kept(kModel, {"-i", shards}, 1, "do not match their checksum");

    // The shard does not say its vocabulary, so that the first batch finds the wrong token.
    std::fill(shard.begin() + 12, shard.begin() + 1024, '\0');
    const fs::path plain = directory_.write("plain.bin", shard);
    expect_kept(concat(kModel, ",vocab=8"), {"-i", plain}, 1, "plain.bin: token ");

    fs::remove(run() / "main.log");
    fs::create_directories(run() / "main.log/of_the_user");
    expect_kept(kModel, {}, 1, "main.log is a directory");
}

TEST_F(TrainOverwrite, leaves_directories_of_the_user) {
    fs::remove(run() / "best");
    fs::create_directories(run() / "best/of_the_user");
    fs::create_directories(run() / "checkpoint-5/of_the_user");  // as Hugging Face's Trainer names it
    EXPECT_EQ(train(kModel, {"--overwrite"}).code, 0);
    EXPECT_TRUE(fs::exists(run() / "best/of_the_user"));
    EXPECT_TRUE(fs::exists(run() / "checkpoint-5/of_the_user"));
    EXPECT_FALSE(fs::exists(checkpoint_));
}

TEST_F(TrainOverwrite, a_resumed_run_leaves_another_picture_in_place_of_its_loss_curve) {
    write_file_atomic(run() / "loss.svg", "theirs");
    const Finished result = train_cpu({"-o", run(), "--resume", "-x", "3"});
    EXPECT_EQ(result.code, 0);
    EXPECT_NE(result.err.find("loss.svg: is not a loss curve that Kiln has drawn; it stays"), std::string::npos)
        << result.err;
    EXPECT_EQ(read_file(run() / "loss.svg"), "theirs");
}

// A run whose --tokenizer is a checkpoint.
TEST_F(TrainOverwrite, a_run_is_resumed_with_its_copy_of_a_tokenizer_that_is_gone) {
    BpeTrainer trainer({.vocab_size = 262, .special_tokens = {"<|endoftext|>"}});
    trainer.add_text("low lower lowest low lower", "text");
    const fs::path first = directory_ / "tokenizer";
    trainer.train().save(first);
    const std::string tokenizer = read_file(first / "tokenizer.json");
    ASSERT_EQ(train(kModel, {"--overwrite", "--tokenizer", first, "-x", "2", "-n", "1", "-v", "0"}).code, 0);
    expect_kept(kModel, {"--tokenizer", checkpoint_ / ""}, 2, "in the run that would be removed");

    const Args resume{"-o", run(), "--resume", "-n", "1", "-nk", "1"};
    const Finished own = train_cpu(resume + Args{"--tokenizer", checkpoint_, "-x", "4"});
    ASSERT_EQ(own.code, 0) << own.err;
    ASSERT_FALSE(fs::exists(checkpoint_));  // it is too old to be kept
    const Finished last = train_cpu(resume + Args{"-x", "5", "-s", "5"});
    EXPECT_EQ(last.code, 0) << last.err;
    EXPECT_NE(last.err.find(checkpoint_.string() + ": holds no tokenizer any more; the copy in "), std::string::npos)
        << last.err;
    EXPECT_EQ(read_file(run() / "checkpoint-00000005/tokenizer.json"), tokenizer);
    EXPECT_NE(train(kModel, {"-o", directory_ / "other", "--tokenizer", checkpoint_}).err.find("no such tokenizer"),
              std::string::npos);
}

}  // namespace
}  // namespace kiln
