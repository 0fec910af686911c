// tests/hostile/: files that are not what their name says. Each gets the exit code and the message of
// tests/hostile/expected.txt, and nothing else happens.
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <map>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/data/evaluation.h"
#include "tokenizer/io/file.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/checkpoint/manifest.h"
#include "tools/cli/terminal.h"
#include "tools/commands/commands.h"
#include "tools/formats/llmc_debug.h"
#include "tools/train/options.h"
#include "tools/train/trainer_state.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

const fs::path kFiles = "tests/hostile", kGolden = "tests/fixtures/golden/gpt2";
const fs::path kTokenizer = "tests/fixtures/tokenizer/exhausted.json";

// A valid model of llm.c, of the smallest size.
const fs::path kLlmcModel = "tests/fuzz/corpus/llmc_model/float32";

class Hostile {
public:
    explicit Hostile(const fs::path& file) : file_(file), kind_(file.parent_path().filename()) {}

    // "EXIT MESSAGE" of the command that reads such a file, where FILE stands for the path.
    std::string outcome() const {
        int code = 0;
        std::string message = "accepted";
        testing::internal::CaptureStdout();
        testing::internal::CaptureStderr();
        try {
            code = readers().at(kind_)(*this);
        } catch (const UsageError& error) {
            code = 2, message = error.what();
        } catch (const Error& error) {
            code = 1, message = error.what();
        } catch (const std::exception& error) {
            code = -1, message = concat("not Kiln's own message: ", error.what());
        }
        testing::internal::GetCapturedStdout();
        testing::internal::GetCapturedStderr();
        message = printable(replace_invalid_utf8(message));  // as run_program prints it
        for (const fs::path& path : {placed_, file_, directory_.path()}) {
            const std::string name = path == directory_.path() ? "DIR" : "FILE";
            for (size_t at; !path.empty() && (at = message.find(path.string())) != message.npos;) {
                message.replace(at, path.string().size(), name);
            }
        }
        return concat(code, " ", message);
    }

private:
    using Arguments = std::vector<std::string>;

    // The file under another name, beside what it needs to be read.
    std::string placed(const std::string& name, const std::vector<fs::path>& beside = {}) const {
        for (const fs::path& path : beside) fs::copy_file(path, directory_ / path.filename().string());
        fs::copy_file(file_, placed_ = directory_ / name, fs::copy_options::overwrite_existing);
        return directory_.path();
    }
    std::string named(const std::string& name) const {
        placed(name);
        return placed_;
    }
    std::string beside_tokenizer(const std::string& name) const {
        fs::copy_file(kTokenizer, directory_ / "tokenizer.json");
        return placed(name);
    }
    int prepare(const std::string& extension) const {
        return command_prepare({"--input", named("in." + extension), "--tokenizer", kTokenizer, "--output",
                                directory_ / "out", "--strict", "--threads", "1"});
    }
    int import(const std::string& format, const std::string& model, const Arguments& more = {}) const {
        Arguments args = {"--from", format, "--input", model, "--output", directory_ / "out"};
        args.insert(args.end(), more.begin(), more.end());
        return command_import(args);
    }
    int import_tokenizer(const std::string& name) const {
        return command_tokenizer({"import", named(name), "--output", directory_ / "out"});
    }
    static int train(const Arguments& args) {
        TrainOptions options;
        OptionSet set("train_gpt2", "", {});
        add_train_options(set, options);
        return set.parse(args) ? 0 : 1;
    }

    static const std::map<std::string, std::function<int(const Hostile&)>>& readers() {
        static const fs::path config = kGolden / "config.json", weights = kGolden / "model.safetensors";
        static const std::map<std::string, std::function<int(const Hostile&)>> all = {
            {"safetensors",
             [](const Hostile& h) {
                 return command_inspect({h.named("a.safetensors"), "--tensors"});
             }},
            {"gguf",
             [](const Hostile& h) {
                 return command_import(
                     {"--from", "gguf", "--input", h.named("a.gguf"), "--output", h.directory_ / "out"});
             }},
            {"config_json", [](const Hostile& h) { return command_inspect({h.placed("config.json", {weights})}); }},
            {"generation_config",
             [](const Hostile& h) {
                 return command_inspect({h.placed("generation_config.json", {config, weights})});
             }},
            {"safetensors_index",
             [](const Hostile& h) { return command_inspect({h.placed("model.safetensors.index.json", {config})}); }},
            {"trainer_state", [](const Hostile& h) { return parse_trainer_state(read_file(h.file_), h.file_), 0; }},
            {"manifest", [](const Hostile& h) { return verify_manifest(h.placed("manifest.json"), true), 0; }},
            {"metrics", [](const Hostile& h) { return command_plot({h.placed("metrics.jsonl")}); }},
            {"config_toml",
             [](const Hostile& h) {
                 return train({"--config", h.file_});
             }},
            {"tokenizer_json", [](const Hostile& h) { return command_inspect({h.named("tokenizer.json")}); }},
            {"tokenizer_model", [](const Hostile& h) { return command_inspect({h.named("tokenizer.model")}); }},
            {"special_tokens_map",
             [](const Hostile& h) { return command_inspect({h.beside_tokenizer("special_tokens_map.json")}); }},
            {"tokenizer_config",
             [](const Hostile& h) { return command_inspect({h.beside_tokenizer("tokenizer_config.json")}); }},
            {"tiktoken",
             [](const Hostile& h) {
                 return command_tokenizer(
                     {"import", h.named("a.tiktoken"), "--output", h.directory_ / "out", "--pre-tokenizer", "none"});
             }},
            {"merges",
             [](const Hostile& h) {
                 h.directory_.write("vocab.json", "{\"a\": 0, \"b\": 1}");
                 return command_inspect({h.placed("merges.txt")});
             }},
            {"llmc_model", [](const Hostile& h) { return h.import("llmc", h.named("model.bin")); }},
            {"llmc_state",
             [](const Hostile& h) {
                 return h.import("llmc", kLlmcModel, {"--state", h.named("state.bin")});
             }},
            {"llmc_debug",
             [](const Hostile& h) {
                 return read_llmc_debug_state(h.named("debug.bin"), LlmcModelFile(kLlmcModel)), 0;
             }},
            {"llmc_tokenizer", [](const Hostile& h) { return h.import_tokenizer("gpt2_tokenizer.bin"); }},
            {"llmc_evaluation", [](const Hostile& h) { return read_evaluation(h.named("val.bin")), 0; }},
            {"llama2c_model", [](const Hostile& h) { return h.import("llama2c", h.named("model.bin")); }},
            {"llama2c_tokenizer", [](const Hostile& h) { return h.import_tokenizer("tokenizer.bin"); }},
            {"shard", [](const Hostile& h) { return command_inspect({h.named("a.bin")}); }},
            {"shards_json", [](const Hostile& h) { return command_inspect({h.placed("shards.json")}); }},
            {"jsonl", [](const Hostile& h) { return h.prepare("jsonl"); }},
            {"csv", [](const Hostile& h) { return h.prepare("csv"); }},
            {"gz", [](const Hostile& h) { return h.prepare("txt.gz"); }},
            {"zst", [](const Hostile& h) { return h.prepare("txt.zst"); }},
            {"tar", [](const Hostile& h) { return h.prepare("tar"); }}};
        return all;
    }

    const TempDirectory directory_;
    const fs::path file_;
    const std::string kind_;
    mutable fs::path placed_;
};

TEST(HostileFiles, each_gets_its_message_and_exit_code) {
    std::map<std::string, std::string> expected, found;
    std::ifstream table(kFiles / "expected.txt");
    for (std::string line; std::getline(table, line);) expected[line.substr(0, line.find(' '))] = line;
    for (const auto& entry : fs::recursive_directory_iterator(kFiles)) {
        if (!entry.is_regular_file() || entry.path().filename() == "expected.txt") continue;
        const std::string name = entry.path().lexically_relative(kFiles);
        found[name] = concat(name, " ", Hostile(entry.path()).outcome());
        EXPECT_EQ(found[name], expected[name]);
    }
    EXPECT_GE(found.size(), 60u);
    EXPECT_EQ(found.size(), expected.size()) << "a file without a line, or a line without a file";
}

}  // namespace
}  // namespace kiln
