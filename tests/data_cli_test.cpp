// kiln prepare, inspect and plot: the real program on good and bad data, its messages and exit codes.
#include <gtest/gtest.h>

#include "tests/process.h"
#include "tests/tiny_run.h"
#include "tokenizer/file.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using Args = std::vector<std::string>;

class DataCli : public testing::Test {
protected:
    Finished kiln(const Args& args) { return run_program(program_path("kiln"), args); }

    Finished prepare(const fs::path& input, const Args& more = {}) {
        Args args{"prepare", "--tokenizer", run_.data(), "--output", output(), "--input", input};
        args.insert(args.end(), more.begin(), more.end());
        return kiln(args);
    }

    // It fails with `code`, says every one of `parts` on standard error and nothing on standard output.
    void expect_failure(const Finished& result, int code, const Args& parts) {
        EXPECT_EQ(result.code, code) << result.err;
        EXPECT_EQ(result.out, "");
        for (const std::string& part : parts) {
            EXPECT_NE(result.err.find(part), std::string::npos) << "lacks: " << part << "\n" << result.err;
        }
    }

    fs::path write(const std::string& name, const std::string& content) { return dir_.write(name, content); }
    fs::path output() const { return dir_ / "shards"; }

    TinyRun run_;
    TempDirectory dir_;
};

TEST_F(DataCli, prepares_what_inspect_then_shows) {
    const fs::path text = write("poems.txt", "one fox\n%\n床前明月光\n%\nthe lazy dog\n%\n");
    const Finished made = prepare(text, {"--document-separator", "%", "--val-fraction", "0.1"});
    ASSERT_EQ(made.code, 0) << made.err;
    EXPECT_NE(made.out.find("of 2 documents"), std::string::npos) << made.out;
    EXPECT_NE(made.out.find("of 1 documents"), std::string::npos) << made.out;

    const Finished directory = kiln({"inspect", output()});
    ASSERT_EQ(directory.code, 0) << directory.err;
    EXPECT_NE(directory.out.find("train_000000.bin"), std::string::npos) << directory.out;
    EXPECT_NE(directory.out.find("checksum verified"), std::string::npos) << directory.out;
    const Finished shard = kiln({"inspect", output() / "train_000000.bin"});
    ASSERT_EQ(shard.code, 0) << shard.err;
    EXPECT_NE(shard.out.find("document 1      "), std::string::npos) << shard.out;

    expect_failure(prepare(text), 1, {"holds shards already", "--force"});
    EXPECT_EQ(prepare(text, {"--force"}).code, 0);
}

TEST_F(DataCli, inspects_tokenizers_checkpoints_runs_and_tensors) {
    for (const fs::path& path : {run_.checkpoint, run_.run(), run_.checkpoint / "model.safetensors"}) {
        const Finished result = kiln({"inspect", path});
        ASSERT_EQ(result.code, 0) << path << result.err;
        EXPECT_NE(result.out.find("model.embed_tokens.weight"), std::string::npos) << result.out;
    }
    EXPECT_NE(kiln({"inspect", run_.run()}).out.find("parameters"), std::string::npos);
    EXPECT_NE(kiln({"inspect", run_.checkpoint / "tokenizer.json"}).out.find("<|endoftext|>"), std::string::npos);
}

TEST_F(DataCli, prepare_refuses_what_holds_no_text) {
    expect_failure(prepare(dir_ / "nope.txt"), 1, {"nope.txt: not found"});
    expect_failure(prepare(write("empty.txt", "")), 1, {"holds no text", "0 bytes"});
    expect_failure(prepare(write("blank.txt", "\n \n\n"), {"--documents", "line"}), 1, {"holds no text"});
    expect_failure(prepare(write("bad.txt",
                                 "good\nb\xFF"
                                 "d\n")),
                   1, {"bad.txt:2: byte 6 ", "is not UTF-8", "iconv"});
    expect_failure(prepare(write("k.jsonl", "{\"text\":\"a\"}\n{\"txt\":\"b\"}\n")), 1,
                   {"k.jsonl:2", "no field \"text\"", "it has: txt", "--text-key"});
    expect_failure(prepare(write("n.jsonl", "{\"text\": 3}\n")), 1, {"n.jsonl:1", "number where text is expected"});
    expect_failure(prepare(write("s.jsonl", "{\"text\": \"\\ud800\"}\n")), 1, {"s.jsonl:1", "surrogate"});
    expect_failure(prepare(write("t.jsonl", "{\"text\": \"a\"} x\n")), 1, {"t.jsonl:1", "expected end of input"});
    expect_failure(prepare(write("deep.json", std::string(1000000, '['))), 1, {"deep.json:1"});
    EXPECT_FALSE(fs::exists(output() / "shards.json"));
}

TEST_F(DataCli, prepare_refuses_wrong_requests) {
    const fs::path text = write("a.txt", "text");
    expect_failure(prepare(text, {"--val-fraction", "nan"}), 2, {"--val-fraction: nan", "[0, 0.5]"});
    expect_failure(prepare(text, {"--shard-tokens", "2147483648"}), 2, {"--shard-tokens", "[1, 1073741824]"});
    expect_failure(prepare(text, {"--documents", "lines"}), 2, {"--documents: \"lines\"", "did you mean line?"});
    expect_failure(prepare(text, {"--thread", "2"}), 2, {"unknown option --thread; did you mean --threads?"});
    expect_failure(kiln({"prepare", "--input", text, "--tokenizer", dir_ / "none", "--output", output()}), 1, {"none"});
    expect_failure(kiln({"prepare", "--input", text, "--tokenizer", run_.data(), "--output", text}), 1,
                   {"a.txt: the directory cannot be created"});
}

TEST_F(DataCli, inspect_names_what_it_cannot_read) {
    expect_failure(kiln({"inspect", dir_ / "nope"}), 1, {"nope: not found"});
    expect_failure(kiln({"inspect", write("short.bin", "x")}), 1, {"short.bin: not a shard"});
    expect_failure(kiln({"inspect", write("foreign.bin", std::string(5000, 'x'))}), 1, {"foreign.bin: not a shard"});
    expect_failure(kiln({"inspect", "/dev/null"}), 1, {"/dev/null", "not a regular file"});
    const fs::path shard = run_.data() / "val_000000.bin";
    std::string bytes = read_file(shard);
    bytes.back() ^= 1;
    write_file_atomic(shard, bytes);
    const Finished damaged = kiln({"inspect", shard});
    EXPECT_EQ(damaged.code, 1);
    EXPECT_NE((damaged.out + damaged.err).find("do not match their checksum"), std::string::npos) << damaged.err;
}

TEST_F(DataCli, plot_draws_a_run_and_refuses_what_is_none) {
    const fs::path svg = dir_ / "loss.svg";
    fs::create_directories(dir_ / "run");
    const auto plot = [&] { return kiln({"plot", "--run", dir_ / "run", "--output", svg}); };
    expect_failure(plot(), 1, {"metrics.jsonl: not found"});
    write("run/metrics.jsonl", "");
    expect_failure(plot(), 1, {"holds no loss yet"});
    write("run/metrics.jsonl", "garbage\n");
    expect_failure(plot(), 1, {"metrics.jsonl:1: not a line of metrics"});
    write("run/metrics.jsonl",
          "{\"step\":0,\"loss\":3.5}\n{\"step\":1,\"loss\":3.25}\n{\"step\":2,\"val_loss\":3.0}\n");
    const Finished drawn = plot();
    ASSERT_EQ(drawn.code, 0) << drawn.err;
    EXPECT_TRUE(read_file(svg).starts_with("<svg")) << read_file(svg).substr(0, 80);
}

}  // namespace
}  // namespace kiln
