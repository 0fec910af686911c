// The real kiln: its output, its error messages and its exit codes.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <regex>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tests/support/process.h"
#include "tests/support/tiny_run.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"
#include "tokenizer/prepare/prepare.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/cli/version.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

Finished kiln_with(const std::vector<std::string>& args, const std::string& input = "", const fs::path& out = {}) {
    return run_program(program_path("kiln"), args, input, out);
}

void replace(const fs::path& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
}

void flip_bit(const fs::path& path, size_t byte) {
    std::string content = read_file(path);
    content.at(byte) = char(content[byte] ^ 1);
    replace(path, content);
}

class KilnCli : public testing::Test {
protected:
    // The program fails with `code` and a message that contains all of `parts`. It prints nothing to standard output.
    void expect_failure(int code, const std::vector<std::string>& args, const std::vector<std::string>& parts) {
        const Finished result = kiln_with(args);
        EXPECT_EQ(result.code, code) << result.err;
        EXPECT_EQ(result.out, "");
        EXPECT_TRUE(result.err.starts_with("kiln: ")) << result.err;
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
        for (const std::string& part : parts) EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    }
    void expect_generate_failure(const std::vector<std::string>& parts, const std::vector<std::string>& more = {}) {
        std::vector<std::string> args = {"generate", "--model", run_.run().string()};
        args.insert(args.end(), more.begin(), more.end());
        expect_failure(1, args, parts);
    }
    void expect_eval_failure(const std::vector<std::string>& parts) {
        expect_failure(1, {"eval", "--model", run_.run(), "--data", run_.data()}, parts);
    }
    std::vector<std::string> generate(const std::vector<std::string>& more) const {
        std::vector<std::string> args = {"generate", "--model", run_.run().string(), "--max-new-tokens", "8"};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }
    // A model directory as other tools write it.
    void remove_manifest() { fs::remove(run_.checkpoint / "manifest.json"); }

    TinyRun run_;
    fs::path shard_ = run_.data() / "val_000000.bin";
};

TEST_F(KilnCli, help_goes_to_standard_output) {
    for (const std::vector<std::string>& args :
         {std::vector<std::string>{"--help"}, {"help"}, {"generate", "--help"}, {"help", "eval"}}) {
        const Finished result = kiln_with(args);
        EXPECT_EQ(result.code, 0) << result.err;
        EXPECT_NE(result.out.find("kiln"), std::string::npos);
        EXPECT_EQ(result.err, "");
    }
    EXPECT_EQ(kiln_with({}).code, 2);
}

TEST_F(KilnCli, commands_of_other_programs_are_understood_by_their_meaning) {
    const auto suggests = [&](const std::string& given, const std::string& meant) {
        expect_failure(2, {given}, {concat("there is no command '", given, "'; did you mean ", meant)});
    };
    suggests("train", "train_gpt2 (train_gpt2cu on a GPU)");
    suggests("chat", "'generate --interactive'?");
    suggests("serve", "'generate --interactive' (there is no server)?");
    suggests("-v", "'--version'?");
    suggests("evaluate", "'eval'?");
    suggests("Tokenize", "'prepare' for files, or 'tokenizer encode'?");
    suggests("inspekt", "'inspect'?");
    expect_failure(2, {"generate", "--max-length", "3"}, {"did you mean --max-new-tokens?"});
    expect_failure(2, {"generate", "--model_path", "x"}, {"did you mean --model?"});
    EXPECT_EQ(kiln_with(generate({"--prompt", "the", "--max_new_tokens", "2"})).code, 0);
    for (const std::vector<std::string>& args : {std::vector<std::string>{"--version"}, {"version"}}) {
        EXPECT_EQ(kiln_with(args).out, concat("kiln ", kVersion, "\n"));
    }
}

TEST_F(KilnCli, generate_prints_the_same_text_for_the_same_seed) {
    const Finished first = kiln_with(generate({"--prompt", "the quick", "--seed", "3"}));
    ASSERT_EQ(first.code, 0) << first.err;
    EXPECT_TRUE(first.out.starts_with("the quick"));
    EXPECT_NE(first.err.find("tokens/s"), std::string::npos) << first.err;
    EXPECT_EQ(kiln_with(generate({"--prompt", "the quick", "--seed", "3"})).out, first.out);
    EXPECT_NE(kiln_with(generate({"--prompt", "the quick", "--seed", "4"})).out, first.out);
    const Finished bare = kiln_with(generate({"--prompt", "the quick", "--seed", "3", "--echo=0"}));
    EXPECT_EQ("the quick" + bare.out, first.out);
}

TEST_F(KilnCli, generate_prints_valid_utf8_unless_told_otherwise) {
    // The model is untrained: most of its tokens are bytes, and few of these make a character.
    for (const std::string samples : {"1", "8"}) {
        const auto with = [&](const std::string& raw) {
            return kiln_with(generate({"--prompt", "the", "--ignore-eos", "--num-samples", samples, raw})).out;
        };
        const std::string raw = with("--raw"), text = with("--raw=0");
        EXPECT_NE(find_invalid_utf8(raw), std::nullopt) << raw;
        EXPECT_EQ(find_invalid_utf8(text), std::nullopt) << text;
        EXPECT_EQ(text, replace_invalid_utf8(raw));
    }
}

TEST_F(KilnCli, generate_without_a_prompt_starts_a_document) {
    for (const std::vector<std::string>& args : {generate({}), generate({"--prompt", ""})}) {
        const Finished result = kiln_with(args);
        EXPECT_EQ(result.code, 0) << result.err;
        EXPECT_NE(result.err.find("prompt: 1 tokens"), std::string::npos) << result.err;
    }
}

TEST_F(KilnCli, generate_prints_samples_in_the_order_of_the_prompts) {
    const fs::path file = run_.directory.write("prompts", "the\n\n明月\r\n");
    const Finished together =
        kiln_with(generate({"--prompt-file", file, "--prompt", "dog", "--num-samples", "2", "--slots", "4"}));
    ASSERT_EQ(together.code, 0) << together.err;
    std::vector<std::string> texts;
    for (size_t begin = 0; begin < together.out.size();) {
        const size_t end = std::min(together.out.find("\n---\n", begin), together.out.size() - 1);
        texts.push_back(together.out.substr(begin, end - begin));
        begin = end + 5;
    }
    ASSERT_EQ(texts.size(), 6u) << together.out;
    for (int i = 0; i < 6; i++) EXPECT_TRUE(texts[i].starts_with(i < 2 ? "dog" : i < 4 ? "the" : "明月")) << texts[i];
    EXPECT_NE(texts[0], texts[1]);
    EXPECT_EQ(kiln_with(generate({"--prompt", "dog"})).out, texts[0] + "\n");
    EXPECT_EQ(kiln_with(generate({"--prompt", "the"})).out, texts[2] + "\n");  // its place does not matter
    EXPECT_EQ(kiln_with(generate({"--prompt", "dog", "dog"})).out, concat(texts[0], "\n---\n", texts[1], "\n"));
    const Finished lines = kiln_with(generate({"--interactive"}), "the\ndog\nthe\n");
    EXPECT_EQ(lines.out, concat(texts[2].substr(3), "\n", texts[0].substr(3), "\n", texts[3].substr(3), "\n"));
}

TEST_F(KilnCli, a_file_is_one_prompt_with_all_its_lines) {
    const std::string text = "the\n\n明月\r\n", file = "FILE:" + run_.directory.write("prompt", text).string();
    const Finished from_file = kiln_with(generate({"--prompt", file})), typed = kiln_with(generate({"--prompt", text}));
    ASSERT_EQ(from_file.code, 0) << from_file.err;
    EXPECT_TRUE(from_file.out.starts_with(text)) << from_file.out;
    EXPECT_EQ(from_file.out, typed.out);
    expect_failure(1, generate({"--prompt", "FILE:"}), {"--prompt FILE: names no file"});
}

TEST_F(KilnCli, generate_interactive_answers_each_line_and_continues_after_a_bad_one) {
    const Finished result =
        kiln_with(generate({"--interactive", "--ignore-eos"}), "the\n\xff\n" + std::string(500, 'x') + "\ndog");
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.err.find("not UTF-8 at byte 0"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("leaves no room"), std::string::npos) << result.err;
    EXPECT_EQ(std::regex_replace(result.err, std::regex("tokens/s"), "").size() + 2 * 8, result.err.size());
}

TEST_F(KilnCli, generate_stops_where_transformers_stops) {
    remove_manifest();
    const fs::path generation = run_.checkpoint / "generation_config.json", config = run_.checkpoint / "config.json";
    const auto stops_at_once = [&] {
        const Finished result =
            kiln_with({"generate", "--model", run_.checkpoint, "--prompt", "the", "--max-new-tokens", "8"});
        EXPECT_EQ(result.code, 0) << result.err;
        return result.out == "the\n";
    };
    nlohmann::json every_id = nlohmann::json::array();
    for (int id = 0; id < run_.V; id++) every_id.push_back(id);
    EXPECT_FALSE(stops_at_once());
    replace(generation, R"({"eos_token_id": )" + every_id.dump() + "}");
    EXPECT_TRUE(stops_at_once());
    // config.json counts only without generation_config.json.
    nlohmann::json model = nlohmann::json::parse(read_file(config));
    model["eos_token_id"] = every_id;
    replace(config, model.dump());
    replace(generation, "{}");
    EXPECT_FALSE(stops_at_once());
    fs::remove(generation);
    EXPECT_TRUE(stops_at_once());
    model["eos_token_id"] = 3;
    replace(config, model.dump());
    EXPECT_FALSE(stops_at_once());
}

TEST_F(KilnCli, special_tokens_of_a_prompt_are_text_unless_allowed) {
    const std::string prompt = "the<|endoftext|>";
    const std::string expected = concat("prompt: ", Tokenizer::load(run_.data()).encode("the").size() + 1, " tokens");
    const Finished plain = kiln_with(generate({"--prompt", prompt}));
    EXPECT_NE(plain.err.find("note: 1 times the text holds a special token"), std::string::npos) << plain.err;
    for (const char* option : {"--allow-special", "--allow-special=<|endoftext|>"}) {
        const Finished allowed = kiln_with(generate({option, "--prompt", prompt}));
        EXPECT_EQ(allowed.code, 0) << allowed.err;
        EXPECT_EQ(allowed.err.find("note"), std::string::npos) << allowed.err;
        EXPECT_TRUE(allowed.err.starts_with(expected)) << allowed.err;
    }
    expect_generate_failure({"\"<none>\" is not a special token"}, {"--allow-special=<none>", "--prompt", "a"});
}

TEST_F(KilnCli, generate_stops_at_the_context_and_says_so) {
    const Finished result = kiln_with({"generate", "--model", run_.checkpoint, "--prompt", "the", "--ignore-eos"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.err.find("context of 24 tokens was full"), std::string::npos) << result.err;
}

TEST_F(KilnCli, eval_counts_every_token_once) {
    double losses[2];
    int i = 0;
    for (const std::string T : {"24", "7"}) {
        const Finished result =
            kiln_with({"eval", "--model", run_.run(), "--data", run_.data(), "--sequence-length", T, "-b", "3"});
        ASSERT_EQ(result.code, 0) << result.err;
        std::smatch match;
        ASSERT_TRUE(std::regex_search(result.out, match,
                                      std::regex("split val\ntokens (\\d+)\nloss ([\\d.]+)\nperplexity ([\\d.]+)\n"
                                                 "bits_per_byte ([\\d.]+)\n")))
            << result.out;
        EXPECT_EQ(std::stoll(match[1]), run_.num_tokens - 1);
        const double loss = losses[i++] = std::stod(match[2]);
        EXPECT_NEAR(std::stod(match[3]), std::exp(loss), 1e-3);
        const double bits = loss * double(run_.num_tokens - 1) / std::log(2.0) / double(run_.text_bytes);
        EXPECT_NEAR(std::stod(match[4]), bits, 1e-5);
        EXPECT_NEAR(loss, std::log(run_.V), 0.1);  // the weights are random
    }
    EXPECT_NE(losses[0], losses[1]);
}

// Each token of the text is one byte, and the model gives every token the same probability, so the bits per byte are
// the same for any size of shards, although the first token of each shard is no target.
TEST_F(KilnCli, bits_per_byte_do_not_depend_on_the_size_of_shards) {
    const fs::path weights = run_.checkpoint / "model.safetensors";
    std::string content = read_file(weights);
    uint64_t header;
    std::memcpy(&header, content.data(), sizeof header);
    std::fill(content.begin() + ptrdiff_t(sizeof header + header), content.end(), '\0');
    replace(weights, content);
    remove_manifest();
    for (const uint64_t shard_tokens : {1000, 5, 2}) {
        PrepareOptions options;
        options.inputs = {run_.directory.write("digits.txt", "31415926535897932384626433832795028841").string()};
        options.tokenizer = run_.data();
        options.output = run_.directory / std::to_string(shard_tokens);
        options.shard_tokens = shard_tokens;
        options.val_fraction = 0;
        ASSERT_EQ(prepare(options).train.tokens, 39u);
        const Finished result = kiln_with({"eval", "--model", run_.checkpoint, "--data", options.output});
        const std::string bits = formatted("bits_per_byte %.6f\n", std::log2(run_.V));
        EXPECT_NE(result.out.find(bits), std::string::npos) << shard_tokens << result.out << result.err;
    }
}

TEST_F(KilnCli, eval_refuses_data_of_another_tokenizer) {
    const auto write = [&](unsigned char first_of_hash, const std::vector<std::string>& more = {}) {
        ShardInfo info{.vocab_size = run_.V, .num_documents = 1, .count = 1};
        info.tokenizer_sha256 = sha256(read_file(run_.data() / "tokenizer.json"));
        info.tokenizer_sha256[0] ^= first_of_hash;
        write_shard(shard_, std::vector<int>{1, 2, 3}, info);
        std::vector<std::string> args{"eval", "--model", run_.run(), "--data", shard_};
        args.insert(args.end(), more.begin(), more.end());
        return kiln_with(args);
    };
    EXPECT_EQ(write(0).err, "");
    const Finished other = write(1);
    EXPECT_EQ(other.code, 1);
    EXPECT_NE(other.err.find("was made with another tokenizer"), std::string::npos) << other.err;
    EXPECT_NE(other.err.find("--force"), std::string::npos) << other.err;
    EXPECT_EQ(write(1, {"--force"}).code, 0);
    // train_gpt2 warns: a model may learn a new tokenizer.
    const Finished trained =
        run_program(program_path("train_gpt2"), {"-i", shard_, "-j", shard_, "-e", run_.run(), "-t", "2", "--dry-run"});
    EXPECT_NE(trained.err.find("was made with another tokenizer"), std::string::npos) << trained.err;
}

TEST_F(KilnCli, eval_says_why_bits_per_byte_are_not_known) {
    const Finished file = kiln_with({"eval", "--model", run_.run(), "--data", shard_});
    EXPECT_NE(file.out.find("bits_per_byte n/a (bytes of text are only known"), std::string::npos)
        << file.out << file.err;
    const Finished part =
        kiln_with({"eval", "--model", run_.run(), "--data", run_.data(), "--max-batches", "1", "--batch-size", "1"});
    EXPECT_NE(part.out.find("bits_per_byte n/a (--max-batches"), std::string::npos) << part.out;
    EXPECT_NE(part.out.find("tokens 24\n"), std::string::npos) << part.out;
}

// Wrong usage: exit code 2, before anything is opened.
TEST_F(KilnCli, wrong_usage_is_explained) {
    expect_failure(2, {"genrate"}, {"'genrate'", "'generate'"});
    expect_failure(2, {"generate", "--modle", "x"}, {"modle", "--model"});
    expect_failure(2, {"generate"}, {"--model", "required"});
    expect_failure(2, {"eval", "--model", "x"}, {"--data", "required"});
    expect_failure(2, generate({"--temperature", "warm"}), {"--temperature", "warm"});
    expect_failure(2, generate({"--temperature", "-1"}), {"--temperature", "-1"});
    expect_failure(2, generate({"--temperature", "nan"}), {"--temperature", "nan"});
    expect_failure(2, generate({"--top-p", "1.5"}), {"--top-p", "1.5"});
    expect_failure(2, generate({"--top-k", "1.5"}), {"--top-k", "1.5"});
    expect_failure(2, generate({"--num-samples", "0"}), {"--num-samples", "0"});
    expect_failure(2, generate({"--max-new-tokens", "99999999999999999999"}), {"--max-new-tokens"});
    expect_failure(2, generate({"--seed", "-1"}), {"--seed", "-1"});
    expect_failure(2, generate({"--interactive", "--prompt", "x"}), {"--interactive", "--prompt"});
    expect_failure(2, generate({"--interactive", "--prompt-file", "x"}), {"--interactive", "--prompt-file"});
    expect_failure(2, {"eval", "--model", run_.run(), "--data", run_.data(), "--sequence-length", "25"},
                   {"--sequence-length is 25", "context is 24"});
    expect_failure(2, {"eval", "--model", run_.run(), "--data", run_.data(), "--split", "dev"}, {"--split", "test"});
}

TEST_F(KilnCli, model_that_is_not_there_is_named) {
    const fs::path none = run_.directory / "none", empty = run_.directory / "empty";
    fs::create_directory(empty);
    expect_failure(1, {"generate", "--model", none}, {none, "no such directory"});
    expect_failure(1, {"generate", "--model", shard_}, {shard_, "is neither a directory nor a model file of llm.c"});
    expect_failure(1, {"generate", "--model", empty}, {empty, "neither a model (config.json) nor a whole checkpoint"});
}

TEST_F(KilnCli, damaged_checkpoint_is_named_with_its_file) {
    const fs::path weights = run_.checkpoint / "model.safetensors";
    const std::string whole = read_file(weights);
    flip_bit(weights, whole.size() - 5);
    expect_generate_failure({weights, "manifest.json", "neither a model"});
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {weights, "damaged"});
    replace(weights, whole.substr(0, whole.size() - 1));
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {weights, std::to_string(whole.size() - 1)});
    fs::remove(weights);
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {weights});
    replace(weights, whole);
    flip_bit(run_.checkpoint / "manifest.json", 100);
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {run_.checkpoint / "manifest.json"});
}

TEST_F(KilnCli, model_without_a_manifest_is_checked_too) {
    remove_manifest();
    const fs::path weights = run_.checkpoint / "model.safetensors", config = run_.checkpoint / "config.json";
    const std::string whole = read_file(weights), config_text = read_file(config);
    replace(weights, whole.substr(0, whole.size() - 1));
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {weights, "truncated"});
    replace(weights, "");
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {weights, "too few"});
    replace(weights, "PK\x03\x04 something of another kind altogether");
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {weights, "not a safetensors file"});
    fs::remove(weights);
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {"neither model.safetensors nor"});
    replace(weights, whole);
    replace(config, "");
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {config, "not valid JSON"});
    replace(config, "{\"model_type\": \"mamba\"}");
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {config, "\"mamba\"", "llama"});
    nlohmann::json wider = nlohmann::json::parse(config_text);
    wider.erase("kiln");
    wider["intermediate_size"] = 64;
    replace(config, wider.dump());
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {weights, "mlp.gate_proj.weight", "(64, 32)"});
}

TEST_F(KilnCli, checkpoint_without_manifest_is_skipped_in_a_run) {
    remove_manifest();
    expect_generate_failure({run_.run(), "neither a model", "manifest.json"});
}

TEST_F(KilnCli, unusable_tokenizer_is_named) {
    remove_manifest();
    const fs::path tokenizer = run_.checkpoint / "tokenizer.json";
    replace(tokenizer, "{\"model\": ");
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {tokenizer});
    fs::remove(tokenizer), fs::remove(run_.checkpoint / "vocab.json");
    expect_failure(1, {"generate", "--model", run_.checkpoint}, {run_.checkpoint, "holds no tokenizer", "--tokenizer"});
    expect_failure(1, {"generate", "--model", run_.checkpoint, "--tokenizer", run_.directory / "none"}, {"none"});

    BpeTrainer trainer({.vocab_size = 300});
    trainer.add_text("one two three four five six seven eight nine ten eleven twelve one two three four five\n", "t");
    const fs::path other = run_.directory / "other";
    fs::create_directory(other);
    trainer.train().save(other);
    expect_failure(1, {"generate", "--model", run_.checkpoint, "--tokenizer", other},
                   {other, "the tokenizer has", "another model"});
}

TEST_F(KilnCli, bad_prompts_are_named) {
    const fs::path file = run_.directory.write("prompts", "good\nb\xff");
    expect_generate_failure({"--prompt", "not UTF-8 at byte 3"}, {"--prompt", "abc\xe9t\xe9"});
    expect_generate_failure({file, "not UTF-8 at byte 6"}, {"--prompt", "FILE:" + file.string()});
    expect_generate_failure({file, "not UTF-8 at byte 6"}, {"--prompt-file", file});
    replace(file, "\n \n");
    expect_generate_failure({file, "holds no prompt"}, {"--prompt-file", file});
    replace(file, "");
    expect_generate_failure({file, "is empty"}, {"--prompt", "FILE:" + file.string()});
    expect_generate_failure({"gone"}, {"--prompt", "FILE:" + (run_.directory / "gone").string()});
    expect_generate_failure({"gone"}, {"--prompt-file", run_.directory / "gone"});
    expect_generate_failure({"leaves no room in the model's context of 24 tokens"},
                            {"--prompt", std::string(500, 'x')});
}

TEST_F(KilnCli, bad_shards_are_named) {
    expect_failure(1, {"eval", "--model", run_.run(), "--data", run_.directory / "none"}, {"none"});
    const std::string whole = read_file(shard_);
    replace(shard_, "");
    expect_eval_failure({shard_});
    replace(shard_, whole.substr(0, whole.size() - 1));
    expect_eval_failure({shard_});
    replace(shard_, "PK" + whole.substr(2));
    expect_eval_failure({shard_});
    std::string version = whole;
    version[4] = 9;
    replace(shard_, version);
    expect_eval_failure({shard_, "9"});
    replace(shard_, whole);
    flip_bit(shard_, whole.size() - 1);
    expect_eval_failure({shard_});
}

TEST_F(KilnCli, shards_of_another_vocabulary_are_refused) {
    std::filesystem::remove(run_.data() / "shards.json");  // which would be checked first
    write_shard(shard_, std::vector<int>{1, 2, 3}, {.vocab_size = run_.V + 1, .num_documents = 1, .count = 1});
    expect_eval_failure({shard_, std::to_string(run_.V + 1), std::to_string(run_.V), "prepare the data"});
    // llm.c's shards do not store the size of their vocabulary, so the tokens are checked.
    std::string bare = read_file(shard_);
    for (int byte = 12; byte < kShardHeaderBytes; byte++) bare[byte] = 0;
    bare[kShardHeaderBytes + 5] = 9;  // the third token: 9 * 256 + 3
    replace(shard_, bare);
    expect_eval_failure({shard_, "token 2 is 2307"});
    write_shard(shard_, std::vector<int>{1}, {.vocab_size = run_.V, .num_documents = 1, .count = 1});
    expect_eval_failure({"nothing to predict"});
}

TEST_F(KilnCli, standard_output_on_a_full_disk_is_a_failure) {
    write_file_atomic(run_.run() / "metrics.jsonl", "{\"step\":0,\"train_loss\":5.5,\"text\":\"fox\"}\n");
    for (const std::vector<std::string>& args : {std::vector<std::string>{"--help"},
                                                 {"generate", "--help"},
                                                 {"--version"},
                                                 {"tokenizer", "--help"},
                                                 {"tokenizer", "encode", "--tokenizer", run_.data()},
                                                 {"prepare", "--input", run_.run() / "metrics.jsonl", "--text-key",
                                                  "text", "--tokenizer", run_.data(), "--output", run_.run() / "data"},
                                                 {"inspect", run_.run()},
                                                 {"plot", run_.run()},
                                                 {"plot", "--run", run_.run(), "--print-config"},
                                                 generate({}),
                                                 generate({"--num-samples", "2"}),
                                                 {"eval", "--model", run_.run(), "--data", run_.data()}}) {
        const Finished result = kiln_with(args, "text\n", "/dev/full");
        EXPECT_EQ(result.code, 1) << args[0];
        EXPECT_NE(result.err.find("standard output: cannot be written: No space left on device"), std::string::npos)
            << result.err;
    }
}

}  // namespace
}  // namespace kiln
