// dev/data/*.sh with a server in place of Hugging Face, ModelScope and all other publishers.
#include <gtest/gtest.h>
#include <sys/file.h>
#include <zstd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "tests/support/http_server.h"
#include "tests/support/process.h"
#include "tests/support/tiny_run.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using Args = std::vector<std::string>;

std::string hash_of(std::string_view text) {
    return hex(sha256(text));
}

// Documents with a line `separator` after each.
std::string stories(int count, const std::string& separator) {
    std::string text;
    for (int i = 0; i < count; i++) text += "Story " + std::to_string(i) + ": the fox sat.\n" + separator;
    return text;
}

std::string records(int count, const std::string& key) {
    std::string text;
    for (int i = 0; i < count; i++) {
        text += "{\"id\": " + std::to_string(i) + ", \"" + key + "\": \"第" + std::to_string(i) +
                "回：床前明月光\\n\\\"疑是\\\"地上霜\"}\n";
    }
    return text;
}

class DataRecipes : public testing::Test {
protected:
    DataRecipes() {
        ::setenv("KILN", program_path("kiln").c_str(), 1);
        ::setenv("HF_ENDPOINT", server_.url().c_str(), 1);
        ::setenv("MODELSCOPE_ENDPOINT", server_.url("/modelscope").c_str(), 1);
        ::setenv("KILN_DATA_MIRROR", server_.url("/mirror").c_str(), 1);
        ::unsetenv("HF_TOKEN");
        BpeTrainer trainer({.vocab_size = 280, .special_tokens = {"<|endoftext|>"}});
        trainer.add_text(kTinyText, "text");
        fs::create_directory(tokenizer_);
        trainer.train().save(tokenizer_);
    }

    Finished run(const std::string& recipe, const Args& more = {}) {
        Args args{"--output", output_};
        args.insert(args.end(), more.begin(), more.end());
        return run_program("dev/data/" + recipe + ".sh", args);
    }

    // As Hugging Face has large files: a pointer with the hash, and a redirection to where the bytes are.
    void serve_hugging_face(const std::string& repository, const std::string& path, HttpServer::Answer answer,
                            const std::string& sha = "") {
        const std::string base = "/datasets/" + repository, file = "/cdn/" + path;
        server_.set(base + "/raw/main/" + path, {.body = "version https://git-lfs.github.com/spec/v1\noid sha256:" +
                                                         (sha.empty() ? hash_of(answer.body) : sha) + "\nsize 1\n"});
        server_.set(base + "/resolve/main/" + path, {.status = 302, .location = server_.url(file)});
        server_.set(file, std::move(answer));
    }

    void serve_tinystories(HttpServer::Answer train, const std::string& sha = "") {
        serve_hugging_face("roneneldan/TinyStories", "TinyStoriesV2-GPT4-train.txt", std::move(train), sha);
        serve_hugging_face("roneneldan/TinyStories", "TinyStoriesV2-GPT4-valid.txt",
                           {.body = stories(3, "<|endoftext|>\n")});
    }

    void expect_failure(const Finished& result, const Args& parts) {
        EXPECT_EQ(result.code, 1) << result.err;
        for (const std::string& part : parts) {
            EXPECT_NE(result.err.find(part), std::string::npos) << "lacks: " << part << "\n" << result.err;
        }
    }

    static Args recipes() {
        Args names;
        for (const auto& entry : fs::directory_iterator("dev/data")) {
            if (entry.path().extension() == ".sh" && entry.path().stem() != "common") {
                names.push_back(entry.path().stem());
            }
        }
        std::sort(names.begin(), names.end());
        return names;
    }

    bool was_asked_for(const std::string& path, const std::string& range) const {
        const auto all = server_.requests();
        return std::any_of(all.begin(), all.end(), [&](const auto& r) { return r.path == path && r.range == range; });
    }

    HttpServer server_;
    TempDirectory directory_;
    const fs::path output_ = directory_ / "out", tokenizer_ = directory_ / "tokenizer";
    const std::string text_ = stories(200, "<|endoftext|>\n");
};

TEST_F(DataRecipes, a_closed_network_is_told_at_once_by_every_recipe) {
    std::string closed;
    {
        const HttpServer server;
        closed = server.url();
    }
    ::setenv("HF_ENDPOINT", closed.c_str(), 1);
    ::setenv("KILN_DATA_MIRROR", closed.c_str(), 1);
    for (const std::string& recipe : recipes()) {
        const auto start = std::chrono::steady_clock::now();
        const Finished result = run(recipe);
        const bool hub = read_file("dev/data/" + recipe + ".sh").find("hugging_face ") != std::string::npos;
        expect_failure(result, {"dev/data/" + recipe + ".sh: 127.0.0.1", "cannot be reached",
                                hub ? "--mirror https://hf-mirror.com" : "KILN_DATA_MIRROR"});
        EXPECT_EQ(result.err.find(hub ? "KILN_DATA_MIRROR" : "hf-mirror"), std::string::npos) << result.err;
        // What could be fetched by hand: a path and an address.
        EXPECT_NE(result.err.find("\n  " + (output_ / "raw").string() + "/"), std::string::npos) << result.err;
        EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5)) << recipe;
        fs::remove_all(output_);
    }
}

TEST_F(DataRecipes, every_recipe_has_help_and_refuses_unknown_options) {
    EXPECT_GE(recipes().size(), 12u);
    for (const std::string& recipe : recipes()) {
        const Finished help = run(recipe, {"--help"});
        EXPECT_EQ(help.code, 0) << recipe;
        EXPECT_NE(help.out.find("Usage: dev/data/" + recipe + ".sh"), std::string::npos) << help.out;
        EXPECT_LT(help.out.find("\nExamples:\n  dev/data/" + recipe + ".sh\n"), help.out.find("Usage: ")) << help.out;
    }
    for (const Args& wrong :
         {Args{"--tokeniser", "x"}, Args{"--files", "0"}, Args{"--mirror"}, Args{"--mirror", "x"}}) {
        EXPECT_EQ(run("sanguo", wrong).code, 2) << wrong[0];
    }
    EXPECT_TRUE(server_.requests().empty());
}

TEST_F(DataRecipes, files_are_listed_with_their_addresses_and_without_fetching_them) {
    for (const std::string& recipe : recipes()) {
        const Finished result = run(recipe, {"--list"});
        EXPECT_EQ(result.code, 0) << result.err;
        EXPECT_TRUE(result.out.starts_with("  " + (output_ / "raw").string() + "/")) << result.out;
        EXPECT_NE(result.out.find("  " + server_.url("/")), std::string::npos) << result.out;
    }
    EXPECT_NE(run("tinystories", {"--list"}).out.find("valid.txt  "), std::string::npos);
    EXPECT_TRUE(server_.requests().empty());
    EXPECT_FALSE(fs::exists(output_));
}

TEST_F(DataRecipes, options_without_effect_are_told) {
    const Finished result = run("alpaca", {"--mirror", "modelscope", "--files", "2", "--tokenizer", "gpt2"});
    for (const char* option : {"--mirror", "--files", "--tokenizer"}) {
        EXPECT_NE(result.err.find(std::string(option) + " has no effect here"), std::string::npos) << result.err;
    }
}

TEST_F(DataRecipes, text_becomes_shards_and_a_second_run_downloads_nothing) {
    serve_tinystories({.body = text_});
    const Finished first = run("tinystories", {"--tokenizer", tokenizer_});
    ASSERT_EQ(first.code, 0) << first.err;
    EXPECT_EQ(read_file(output_ / "raw/train.txt"), text_);
    EXPECT_NE(first.out.find("shards: "), std::string::npos) << first.out;
    EXPECT_TRUE(fs::exists(output_ / "shards/shards.json"));
    const size_t requests = server_.requests().size();
    const Finished second = run("tinystories", {"--tokenizer", tokenizer_});
    EXPECT_EQ(second.code, 0) << second.err;
    EXPECT_EQ(server_.requests().size(), requests);
    for (const auto& entry : fs::recursive_directory_iterator(output_)) {
        EXPECT_NE(entry.path().extension(), ".part") << entry.path();
    }
}

TEST_F(DataRecipes, an_interrupted_download_is_resumed) {
    serve_tinystories({.body = text_, .cuts = 1, .cut_after = 1000});
    const Finished cut = run("tinystories", {"--download-only"});
    ASSERT_EQ(cut.code, 0) << cut.err;
    EXPECT_EQ(read_file(output_ / "raw/train.txt"), text_);
    EXPECT_TRUE(was_asked_for("/cdn/TinyStoriesV2-GPT4-train.txt", "bytes=1000-"));

    fs::remove(output_ / "raw/train.txt");
    write_file_atomic(output_ / "raw/train.txt.part", text_.substr(0, 2000));  // of an earlier, killed run
    ASSERT_EQ(run("tinystories", {"--download-only"}).code, 0);
    EXPECT_EQ(read_file(output_ / "raw/train.txt"), text_);
    EXPECT_TRUE(was_asked_for("/cdn/TinyStoriesV2-GPT4-train.txt", "bytes=2000-"));
}

TEST_F(DataRecipes, parts_that_cannot_be_resumed_start_again) {
    for (const bool ranges : {true, false}) {
        for (const std::string& part : {text_.substr(0, 500), std::string(700, 'x'), text_, text_ + "longer"}) {
            serve_tinystories({.body = text_, .ranges = ranges});
            fs::create_directories(output_ / "raw");
            write_file_atomic(output_ / "raw/train.txt.part", part);
            const Finished result = run("tinystories", {"--download-only"});
            EXPECT_EQ(result.code, 0) << result.err;
            EXPECT_EQ(read_file(output_ / "raw/train.txt"), text_) << ranges << " " << part.size();
            fs::remove_all(output_);
        }
    }
}

TEST_F(DataRecipes, a_wrong_checksum_is_refused_and_nothing_kept) {
    serve_tinystories({.body = text_}, hash_of("other"));
    expect_failure(run("tinystories"), {"SHA-256 is " + hash_of(text_), "expected " + hash_of("other")});
    EXPECT_FALSE(fs::exists(output_ / "raw/train.txt"));
    EXPECT_FALSE(fs::exists(output_ / "raw/train.txt.part"));

    const std::pair<const char*, const char*> pinned[] = {
        {"tinyshakespeare",
         "/raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/"
         "input.txt"},
        {"hellaswag", "/raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl"},
        {"alpaca",
         "/raw.githubusercontent.com/tatsu-lab/stanford_alpaca/761dc5bfbdeeffa89b8bff5d038781a4055f796a/"
         "alpaca_data.json"},
        {"sms_spam", "/archive.ics.uci.edu/static/public/228/sms+spam+collection.zip"}};
    for (const auto& [recipe, path] : pinned) {
        fs::remove_all(output_);
        server_.set(std::string("/mirror") + path, {.body = "an error page"});
        expect_failure(run(recipe), {"SHA-256 is " + hash_of("an error page"), "nothing of it was kept"});
        for (const auto& entry : fs::directory_iterator(output_ / "raw")) ADD_FAILURE() << entry.path();
    }
}

TEST_F(DataRecipes, what_a_server_refuses_is_told_and_not_tried_again) {
    expect_failure(run("belle"), {"there is no such file"});
    server_.set("/datasets/BAAI/CCI3-HQ/raw/main/data/part_000000.jsonl", {.body = "gated", .status = 401});
    expect_failure(run("cci3"), {"refused (401)", "HF_TOKEN"});
    server_.set("/mirror/www.gutenberg.org/cache/epub/23950/pg23950.txt", {.body = "busy", .status = 503});
    EXPECT_EQ(server_.requests().size(), 2u);
    expect_failure(run("sanguo"), {"four attempts", "503"});
    EXPECT_FALSE(fs::exists(output_ / "raw/pg23950.txt"));
}

TEST_F(DataRecipes, the_token_goes_to_hugging_face_and_not_where_it_redirects_to) {
    ::setenv("HF_TOKEN", "secret", 1);
    const std::string body = records(2, "instruction"), path = "/datasets/BelleGroup/train_0.5M_CN/";
    serve_hugging_face("BelleGroup/train_0.5M_CN", "Belle_open_source_0.5M.json", {.body = body});
    std::string elsewhere = server_.url("/cdn/Belle_open_source_0.5M.json");
    elsewhere.replace(elsewhere.find("127.0.0.1"), 9, "localhost");
    server_.set(path + "resolve/main/Belle_open_source_0.5M.json", {.status = 302, .location = elsewhere});
    const Finished result = run("belle");
    ASSERT_EQ(result.code, 0) << result.err;
    for (const auto& request : server_.requests()) {
        EXPECT_EQ(request.authorization, request.path.starts_with("/datasets/") ? "Bearer secret" : "") << request.path;
    }
    EXPECT_EQ(server_.requests().size(), 3u);
}

TEST_F(DataRecipes, a_server_that_is_busy_is_asked_again) {
    const std::string base = "/datasets/BelleGroup/train_0.5M_CN/", path = "main/Belle_open_source_0.5M.json";
    const std::string body = records(2, "instruction");
    server_.set(base + "raw/" + path, {.body = "oid sha256:" + hash_of(body) + "\n", .busy = 1});
    server_.set(base + "resolve/" + path, {.body = body, .busy = 1});
    const Finished result = run("belle");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.err.find("no checksum"), std::string::npos) << result.err;
    EXPECT_EQ(server_.requests().size(), 4u);
}

TEST_F(DataRecipes, two_at_once_do_not_write_to_one_directory) {
    fs::create_directories(output_);
    const int lock = ::open((output_ / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_EQ(::flock(lock, LOCK_EX), 0);
    expect_failure(run("sanguo"), {"another process is writing to"});
    ::close(lock);
}

TEST_F(DataRecipes, sanguo_trains_a_tokenizer_and_makes_a_chapter_a_document) {
    std::string book = "License text\r\n*** START OF THE PROJECT GUTENBERG EBOOK 23950 ***\r\n\r\n";
    for (int i = 0; i < 40; i++) book += "第" + std::to_string(i) + "回：宴桃園\r\n話說天下大勢，分久必合\r\n\r\n";
    book += "*** END OF THE PROJECT GUTENBERG EBOOK 23950 ***\r\nMore license\r\n";
    server_.set("/mirror/www.gutenberg.org/cache/epub/23950/pg23950.txt", {.body = book});
    const Finished result = run("sanguo");
    ASSERT_EQ(result.code, 0) << result.err;
    const std::string text = read_file(output_ / "raw/sanguo.txt");
    EXPECT_EQ(text.find("icense"), std::string::npos);
    EXPECT_EQ(text.find('\r'), std::string::npos);
    EXPECT_TRUE(fs::exists(output_ / "tokenizer-train-8192/tokenizer.json"));
    const ShardIndex index = read_shard_index(output_ / "shards");
    EXPECT_EQ(index.train.documents + index.val.documents, 40);
}

TEST_F(DataRecipes, modelscope_stands_in_for_hugging_face) {
    const std::string base = "/modelscope/", name = "AI-ModelScope/wikipedia-cn-20230720-filtered",
                      file = "wikipedia-cn-20230720-filtered.jsonl", text = records(100, "completion");
    const auto serve = [&](const std::string& sha) {
        server_.set(base + "datasets/" + name + "/resolve/master/" + file, {.body = text});
        server_.set(base + "api/v1/datasets/" + name + "/repo/tree?Revision=master&Root=&PageSize=2000",
                    {.body = "{\"Code\": 200, \"Data\": {\"Files\": [{\"Path\": \"README.md\", \"Sha256\": \"" +
                             hash_of("x") + "\"}, {\"Name\": \"n\", \"Path\": \"" + file + "\", \"Sha256\": \"" + sha +
                             "\", \"Size\": 3}]}}"});
    };
    serve(hash_of("other"));
    expect_failure(run("wikipedia_zh", {"--mirror", "modelscope"}), {"SHA-256 is " + hash_of(text)});
    serve(hash_of(text));
    const Finished result = run("wikipedia_zh", {"--mirror", "modelscope"});
    ASSERT_EQ(result.code, 0) << result.err;
    // The tokenizer saw the text without JSON around it.
    const std::string sample = read_file(output_ / "raw/sample.txt");
    EXPECT_TRUE(sample.starts_with("第0回：床前明月光\n\"疑是\"地上霜\n第1回")) << sample.substr(0, 100);
    const ShardIndex index = read_shard_index(output_ / "shards");
    EXPECT_EQ(index.train.documents + index.val.documents, 100);
}

TEST_F(DataRecipes, several_files_of_a_large_set_are_taken) {
    for (int i = 0; i < 3; i++) {
        serve_hugging_face("BAAI/CCI3-HQ", "data/part_00000" + std::to_string(i) + ".jsonl",
                           {.body = records(20 + i, "text")});
    }
    const Finished result = run("cci3", {"--files", "3", "--tokenizer", tokenizer_, "--", "--val-fraction", "0"});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(read_shard_index(output_ / "shards").train.documents, 63);

    fs::remove_all(output_);
    for (const char* part : {"valid", "test"}) {
        server_.set(std::string("/mirror/openaipublic.blob.core.windows.net/gpt-2/output-dataset/v1/webtext.") + part +
                        ".jsonl",
                    {.body = records(30, "text")});
    }
    const Finished webtext = run("gpt2_output", {"--tokenizer", "train", "--", "--val-fraction", "0"});
    ASSERT_EQ(webtext.code, 0) << webtext.err;
    EXPECT_EQ(read_shard_index(output_ / "shards").train.documents, 60);
}

TEST_F(DataRecipes, fineweb_edu_comes_as_shards_or_through_duckdb_as_text) {
    const std::string shards = "karpathy/fineweb-edu-100B-gpt2-token-shards";
    for (const char* name : {"edu_fineweb_val_000000.bin", "edu_fineweb_train_000001.bin"}) {
        serve_hugging_face(shards, name, {.body = name});
    }
    ASSERT_EQ(run("fineweb_edu", {"--download-only"}).code, 0);
    EXPECT_TRUE(fs::exists(output_ / "raw/edu_fineweb_train_000001.bin"));

    serve_hugging_face("HuggingFaceFW/fineweb-edu", "sample/10BT/000_00000.parquet", {.body = "PAR1"});
    const fs::path duckdb = directory_.write(
        "bin/duckdb",
        "#!/bin/bash\nto=${2##*TO \\'}\nprintf '{\"text\":\"one\"}\\n{\"text\":\"two\"}\\n' >\"${to%%\\'*}\"\n");
    fs::permissions(duckdb, fs::perms::owner_all);
    const std::string path = std::getenv("PATH");
    ::setenv("PATH", (duckdb.parent_path().string() + ":" + path).c_str(), 1);
    const Finished result = run("fineweb_edu", {"--tokenizer", "train", "--", "--val-fraction", "0"});
    ::setenv("PATH", path.c_str(), 1);
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(read_shard_index(output_ / "shards").train.documents, 2);
}

TEST_F(DataRecipes, json_arrays_and_zstd_become_shards) {
    std::string array;
    std::istringstream lines(records(50, "completion"));
    for (std::string line; std::getline(lines, line);) array += (array.empty() ? "[" : ",\n") + line;
    serve_hugging_face("pleisto/wikipedia-cn-20230720-filtered", "wikipedia-cn-20230720-filtered.json",
                       {.body = array + "]\n"});
    const Finished wikipedia = run("wikipedia_zh");
    ASSERT_EQ(wikipedia.code, 0) << wikipedia.err;
    const ShardIndex index = read_shard_index(output_ / "shards");
    EXPECT_EQ(index.train.documents + index.val.documents, 50);

    fs::remove_all(output_);
    const std::string text = records(30, "text");
    std::string compressed(ZSTD_compressBound(text.size()), '\0');
    compressed.resize(ZSTD_compress(compressed.data(), compressed.size(), text.data(), text.size(), 3));
    serve_hugging_face("monology/pile-uncopyrighted", "val.jsonl.zst", {.body = compressed});
    const Finished pile = run("pile_sample", {"--tokenizer", tokenizer_, "--", "--val-fraction", "0"});
    ASSERT_EQ(pile.code, 0) << pile.err;
    EXPECT_EQ(read_shard_index(output_ / "shards").train.documents, 30);
}

TEST_F(DataRecipes, instructions_end_in_a_checked_file) {
    serve_hugging_face("BelleGroup/train_0.5M_CN", "Belle_open_source_0.5M.json", {.body = records(2, "instruction")});
    const Finished result = run("belle");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(read_file(output_ / "raw/belle_0.5m.jsonl"), records(2, "instruction"));
}

}  // namespace
}  // namespace kiln
