// Models, training states and tokenizers of llm.c and llama2.c in the programs.
#include "tests/support/train_program.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

const std::string kModel = "tests/fixtures/llmc/model.bin";  // gpt2:layers=2,dim=24,heads=3,vocab=97,ctx=29

class LlmcCli : public TrainProgram {
protected:
    static Finished kiln_with(const Args& args) { return run_program(program_path("kiln"), args); }
    // Runs the command, which must succeed, and returns its standard output.
    static std::string kiln(const Args& args) {
        const Finished result = kiln_with(args);
        EXPECT_EQ(result.code, 0) << result.err;
        return result.out;
    }
    void train(const std::string& model, const fs::path& output) const {
        const Finished result = train_cpu({"-i", data(), "-e", model, "-b", "2", "-t", "16", "-x", "4", "-n", "2", "-s",
                                           "0", "-v", "0", "-o", output});
        ASSERT_EQ(result.code, 0) << result.err;
    }
    void expect_failure(int code, const Args& args, const std::string& message) {
        const Finished result = kiln_with(args);
        EXPECT_EQ(result.code, code) << result.err;
        EXPECT_NE(result.err.find(message), std::string::npos) << result.err;
    }
};

TEST_F(LlmcCli, training_starts_from_a_model_file_as_from_its_import) {
    kiln({"import", "--from", "llmc", "--input", kModel, "--output", directory_ / "model"});
    train(kModel, directory_ / "file");
    train(directory_ / "model", directory_ / "imported");
    EXPECT_EQ(read_file(directory_ / "file/main.log"), read_file(directory_ / "imported/main.log"));
    EXPECT_EQ(read_file(directory_ / "file/checkpoint-00000004/model.safetensors"),
              read_file(directory_ / "imported/checkpoint-00000004/model.safetensors"));
}

TEST_F(LlmcCli, commands_take_a_model_file_as_a_model) {
    kiln({"import", "--from", "llmc", "--input", kModel, "--output", directory_ / "model"});
    const Args eval = {"eval", "--data", data(), "--sequence-length", "16", "--model"};
    EXPECT_EQ(kiln(eval + Args{kModel}), kiln(eval + Args{directory_ / "model"}));
    EXPECT_NE(kiln({"inspect", kModel}).find("gpt2:layers=2,dim=24,heads=3"), std::string::npos);
    kiln({"export", "--model", directory_ / "model", "--to", "llmc", "--output", directory_ / "again.bin"});
    EXPECT_EQ(read_file(directory_ / "again.bin"), read_file(kModel));
}

TEST_F(LlmcCli, a_checkpoint_goes_to_llmc_and_back) {
    train(kModel, run());
    const Args export_it = {"export", "--model", run() / "checkpoint-00000002", "--to", "llmc"};
    kiln(export_it + Args{"--output", directory_ / "model_00000002.bin", "--state", directory_ / "state.bin"});
    kiln({"import", "--from", "llmc", "--input", directory_ / "model_00000002.bin", "--state", directory_ / "state.bin",
          "--output", directory_ / "back"});
    for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
        EXPECT_EQ(read_file(directory_ / "back/checkpoint-00000002" / name),
                  read_file(run() / "checkpoint-00000002" / name));
    }
    // The sequence length of an imported run is its context here, since that is below 1024.
    const Finished resumed =
        train_cpu({"-i", data(), "-b", "2", "-x", "4", "-s", "0", "-v", "0", "-o", directory_ / "back", "-y", "1"});
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_TRUE(read_file(directory_ / "back/main.log").starts_with("s:2 trl:"));
    EXPECT_TRUE(fs::exists(directory_ / "back/checkpoint-00000004"));
}

TEST_F(LlmcCli, wrong_use_is_told) {
    const std::string out = directory_ / "out";
    expect_failure(2, {"import", "--from", "hf", "--input", kModel, "--state", kModel, "--output", out},
                   "--state is only for --from llmc");
    expect_failure(2, {"export", "--model", kModel, "--to", "hf", "--state", kModel, "--output", out},
                   "--state is only for --to llmc");
    expect_failure(1, {"import", "--from", "llmc", "--input", kModel, "--state", kModel, "--output", out},
                   "is not a training state of llm.c");
    expect_failure(1, {"export", "--model", kModel, "--to", "llama2c", "--output", out},
                   "llama2.c's programs compute only Llama");
    expect_failure(1, {"export", "--model", kModel, "--to", "llmc", "--output", kModel}, "exists already");
    expect_failure(1, {"eval", "--model", "README.md", "--data", data()},
                   "is neither a directory nor a model file of llm.c");
    EXPECT_FALSE(fs::exists(out));
}

TEST_F(LlmcCli, a_llama_of_llama2c_goes_in_and_out) {
    const std::string model = "tests/fixtures/llama2c/model.bin";
    kiln({"import", "--from", "llama2c", "--input", model, "--output", directory_ / "model"});
    kiln({"export", "--model", directory_ / "model", "--to", "llama2c", "--output", directory_ / "again.bin"});
    EXPECT_EQ(read_file(directory_ / "again.bin"), read_file(model));
}

}  // namespace
}  // namespace kiln
