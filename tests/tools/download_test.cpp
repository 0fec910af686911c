// Downloads from a server with every kind of fault, and published tokenizers in the cache.
#include "tools/fetch/download.h"

#include <gtest/gtest.h>

#include <future>

#include "tests/support/http_server.h"
#include "tests/support/process.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"
#include "tokenizer/tokenizer.h"
#include "tools/fetch/published_tokenizers.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

std::string hash_of(std::string_view text) {
    return hex(sha256(text));
}

// Bytes without a period, so that a wrong offset is noticed.
std::string make_body(size_t bytes) {
    std::string body;
    for (uint64_t i = 0; body.size() < bytes; i++) body += hash_of(std::to_string(i));
    return body.substr(0, bytes);
}

class DownloadTest : public testing::Test {
protected:
    static constexpr size_t kBytes = 300'000;  // many of libcurl's buffers

    void fetch(const std::string& path = "/file") {
        download({.url = server_.url(path), .path = file_, .sha256 = hash_of(body_), .max_bytes = kBytes + 10},
                 limits_);
    }
    // Expects that there is no file, and no part if `part_gone`.
    void expect_no_file(bool part_gone) {
        EXPECT_FALSE(fs::exists(file_));
        EXPECT_TRUE(!part_gone || fs::is_empty(directory_.path()));
    }
    fs::path part() const { return file_.string() + "." + hash_of(body_).substr(0, 8) + ".part"; }
    std::vector<std::string> ranges() const {
        std::vector<std::string> all;
        for (const auto& request : server_.requests()) all.push_back(request.range);
        return all;
    }

    TempDirectory directory_;
    HttpServer server_;
    const fs::path file_ = directory_ / "file";
    const std::string body_ = make_body(kBytes);
    DownloadLimits limits_{.connect = 5s, .stall = 1s, .attempts = 4, .pause = 1ms};
};

TEST_F(DownloadTest, the_file_arrives_whole_and_nothing_else_is_left) {
    server_.set("/file", {.body = body_});
    uint64_t last_done = 0, last_total = 0;
    download({.url = server_.url("/file"), .path = file_, .sha256 = hash_of(body_), .max_bytes = kBytes}, limits_,
             [&](uint64_t done, uint64_t total) {
                 EXPECT_GT(done, last_done);
                 last_done = done, last_total = total;
             });
    EXPECT_EQ(read_file(file_), body_);
    EXPECT_EQ(last_done, kBytes);
    EXPECT_EQ(last_total, kBytes);
    EXPECT_EQ(std::distance(fs::directory_iterator(directory_.path()), {}), 1);
}

TEST_F(DownloadTest, a_cut_connection_is_resumed_where_it_broke) {
    server_.set("/file", {.body = body_, .cuts = 2, .cut_after = 100'000});
    fetch();
    EXPECT_EQ(read_file(file_), body_);
    EXPECT_EQ(ranges(), (std::vector<std::string>{"", "bytes=100000-", "bytes=200000-"}));
}

TEST_F(DownloadTest, a_part_of_an_earlier_process_is_resumed) {
    server_.set("/file", {.body = body_});
    write_file_atomic(part(), body_.substr(0, 123'456));
    fetch();
    EXPECT_EQ(read_file(file_), body_);
    EXPECT_EQ(ranges(), std::vector<std::string>{"bytes=123456-"});
}

TEST_F(DownloadTest, a_part_that_is_complete_needs_no_network) {
    write_file_atomic(part(), body_);
    fetch("/gone");
    EXPECT_EQ(read_file(file_), body_);
    EXPECT_TRUE(ranges().empty());
}

TEST_F(DownloadTest, a_server_without_ranges_gives_the_whole_again) {
    server_.set("/file", {.body = body_, .ranges = false, .cuts = 1, .cut_after = 100'000});
    fetch();
    EXPECT_EQ(read_file(file_), body_);
    EXPECT_EQ(ranges(), (std::vector<std::string>{"", "bytes=100000-"}));
}

TEST_F(DownloadTest, a_range_that_starts_elsewhere_does_not_spoil_the_file) {
    server_.set("/file", {.body = body_, .wrong_range = true, .cuts = 1, .cut_after = 100'000});
    fetch();
    EXPECT_EQ(read_file(file_), body_);
    EXPECT_EQ(ranges(), (std::vector<std::string>{"", "bytes=100000-", ""}));
}

TEST_F(DownloadTest, a_part_that_is_longer_or_of_another_file_is_dropped) {
    server_.set("/file", {.body = body_});
    for (const std::string& junk : {std::string(kBytes + 5, 'x'), std::string(1000, 'x'), std::string(kBytes, 'x')}) {
        write_file_atomic(part(), junk);
        fetch();
        EXPECT_EQ(read_file(file_), body_) << junk.size();
        fs::remove(file_);
    }
}

TEST_F(DownloadTest, a_file_that_changes_between_two_requests_is_fetched_anew) {
    server_.set("/file", {.body = std::string(kBytes, 'o'), .cuts = 1, .cut_after = 100'000, .then = body_});
    fetch();
    EXPECT_EQ(read_file(file_), body_);
    EXPECT_EQ(ranges(), (std::vector<std::string>{"", "bytes=100000-", ""}));
}

TEST_F(DownloadTest, wrong_bytes_are_refused_and_not_kept) {
    std::string wrong = body_;
    wrong[kBytes / 2] ^= 1;
    for (const std::string& served : {wrong, body_.substr(0, kBytes - 1), std::string()}) {
        server_.set("/file", {.body = served});
        const std::string message = error_of([&] { fetch(); });
        EXPECT_NE(message.find("SHA-256 is " + hash_of(served)), std::string::npos) << message;
        EXPECT_NE(message.find("expected " + hash_of(body_)), std::string::npos) << message;
        EXPECT_NE(message.find(server_.url("/file")), std::string::npos) << message;
        expect_no_file(true);
    }
}

TEST_F(DownloadTest, a_body_that_ends_early_without_a_length_is_not_taken_for_the_file) {
    server_.set("/file", {.body = body_, .length = false, .cuts = 1, .cut_after = 100'000});
    EXPECT_NE(error_of([&] { fetch(); }).find("SHA-256"), std::string::npos);
    expect_no_file(true);
    fetch();
    EXPECT_EQ(read_file(file_), body_);
}

TEST_F(DownloadTest, more_than_the_bound_is_refused) {
    for (const bool length : {true, false}) {
        server_.set("/file", {.body = body_ + std::string(1'000'000, 'x'), .length = length});
        const std::string message = error_of([&] { fetch(); });
        EXPECT_NE(message.find("larger than the 300010 bytes"), std::string::npos) << message;
        EXPECT_TRUE(!fs::exists(part()) || fs::file_size(part()) <= kBytes + 10);
        expect_no_file(false);
    }
}

TEST_F(DownloadTest, a_stalled_transfer_is_given_up_and_resumed) {
    server_.set("/file", {.body = body_, .cuts = 1, .cut_after = 100, .stalls = true});
    fetch();
    EXPECT_EQ(read_file(file_), body_);
    EXPECT_EQ(ranges(), (std::vector<std::string>{"", "bytes=100-"}));
}

TEST_F(DownloadTest, what_never_ends_well_is_given_up_and_keeps_its_part) {
    server_.set("/file", {.body = body_, .cuts = 100, .cut_after = 10});
    const std::string message = error_of([&] { fetch(); });
    EXPECT_NE(message.find("4 attempts; the next call resumes"), std::string::npos) << message;
    EXPECT_EQ(read_file(part()), body_.substr(0, 40));
    expect_no_file(false);
}

TEST_F(DownloadTest, statuses_are_told_and_only_those_that_pass_are_tried_again) {
    server_.set("/busy", {.body = "<html>busy</html>", .status = 503});
    std::string message = error_of([&] { fetch("/busy"); });
    EXPECT_NE(message.find("the server answers 503 (4 attempts)"), std::string::npos) << message;
    EXPECT_EQ(ranges().size(), 4u);
    server_.set("/file", {.body = body_, .busy = 2});
    fetch();
    EXPECT_EQ(read_file(file_), body_);
    fs::remove(file_);
    EXPECT_EQ(ranges().size(), 7u);
    message = error_of([&] { fetch("/none"); });
    EXPECT_NE(message.find("the server answers 404"), std::string::npos) << message;
    EXPECT_EQ(ranges().size(), 8u);
    server_.set("/endless",
                {.body = "the page that says so", .status = 410, .cuts = 1, .cut_after = 5, .stalls = true});
    message = error_of([&] { fetch("/endless"); });
    EXPECT_NE(message.find("the server answers 410"), std::string::npos) << message;
    expect_no_file(true);
}

TEST_F(DownloadTest, redirects_are_followed_but_not_for_ever) {
    server_.set("/moved", {.status = 302, .location = server_.url("/file")});
    server_.set("/file", {.body = body_, .cuts = 1, .cut_after = 100'000});
    fetch("/moved");
    EXPECT_EQ(read_file(file_), body_);
    fs::remove(file_);
    server_.set("/circle", {.status = 302, .location = server_.url("/circle")});
    EXPECT_NE(error_of([&] { fetch("/circle"); }).find("redirects"), std::string::npos);
    server_.set("/local", {.status = 302, .location = "file:///etc/passwd"});
    EXPECT_NE(error_of([&] { fetch("/local"); }).find("rotocol"), std::string::npos);
}

TEST_F(DownloadTest, the_proxy_of_the_environment_is_asked) {
    ::setenv("http_proxy", server_.url().c_str(), 1);
    ::setenv("no_proxy", "", 1);
    server_.set("http://publisher.invalid/file", {.body = body_});
    download({.url = "http://publisher.invalid/file", .path = file_, .sha256 = hash_of(body_), .max_bytes = kBytes});
    ::unsetenv("http_proxy");
    ::setenv("no_proxy", "*", 1);
    EXPECT_EQ(read_file(file_), body_);
}

TEST_F(DownloadTest, a_closed_network_is_an_error_at_once) {
    std::string closed;
    {
        const HttpServer server;
        closed = server.url("/file");
    }
    const auto start = std::chrono::steady_clock::now();
    for (const std::string& url : {closed, std::string("http://no-such-host.invalid/file")}) {
        const std::string message =
            error_of([&] { download({.url = url, .path = file_, .sha256 = hash_of(body_), .max_bytes = 1}); });
        EXPECT_NE(message.find(url), std::string::npos) << message;
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
    expect_no_file(true);
}

// A published tokenizer of two tiny files.
class FetchPublished : public DownloadTest {
protected:
    FetchPublished() {
        server_.set("/a/encoder.json", {.body = vocab_});
        server_.set("/a/vocab.bpe", {.body = merges_});
        published_ = {.name = "tiny",
                      .base = server_.url(),
                      .files = {{"a/encoder.json", hash_of(vocab_)}, {"a/vocab.bpe", hash_of(merges_)}},
                      .pre_tokenizer = PreTokenizerKind::kGpt2,
                      .special_tokens = {{"<|endoftext|>", 256}}};
        options_.cache = directory_ / "cache";
        options_.limits = limits_;
    }
    std::string fetch_error() {
        return error_of([&] { fetch_published(published_, options_); });
    }

    const std::string vocab_ = "{\"a\":0}", merges_ = "#version: 0.2\n";
    PublishedTokenizer published_;
    FetchOptions options_;
};

TEST_F(FetchPublished, is_downloaded_once_and_then_read_from_the_cache) {
    for (int i = 0; i < 2; i++) {
        const auto paths = fetch_published(published_, options_);
        ASSERT_EQ(paths.size(), 2u);
        EXPECT_EQ(read_file(paths[0]), vocab_);
        EXPECT_EQ(read_file(paths[1]), merges_);
        EXPECT_EQ(server_.requests().size(), 2u);
    }
}

TEST_F(FetchPublished, a_damaged_cache_is_fetched_anew) {
    const fs::path path = fetch_published(published_, options_)[0];
    write_file_atomic(path, "{\"a\":1}");
    EXPECT_EQ(read_file(fetch_published(published_, options_)[0]), vocab_);
    EXPECT_EQ(server_.requests().size(), 3u);
}

TEST_F(FetchPublished, a_mirror_is_asked_instead) {
    published_.base = "http://no-such-host.invalid";
    options_.mirror = server_.url("/");
    EXPECT_EQ(read_file(fetch_published(published_, options_)[1]), merges_);
}

TEST_F(FetchPublished, a_directory_serves_as_mirror_without_a_network) {
    options_.mirror = directory_ / "files";
    EXPECT_NE(fetch_error().find("encoder.json: not found in the directory"), std::string::npos) << fetch_error();
    directory_.write("files/encoder.json", vocab_);
    directory_.write("files/a/vocab.bpe", merges_);
    EXPECT_EQ(read_file(fetch_published(published_, options_)[1]), merges_);
    directory_.write("files/encoder.json", "{}");
    EXPECT_NE(fetch_error().find("encoder.json: its SHA-256 is not that of the published file, " + hash_of(vocab_)),
              std::string::npos);
    EXPECT_TRUE(server_.requests().empty());
}

TEST_F(FetchPublished, failures_say_what_is_wanted_and_how_to_do_without) {
    published_.base = "http://no-such-host.invalid";
    const std::string message = fetch_error();
    for (const char* part : {"tiny needs encoder.json", "http://no-such-host.invalid/a/encoder.json", "--mirror URL",
                             "KILN_MIRROR", "--mirror DIR"}) {
        EXPECT_NE(message.find(part), std::string::npos) << message;
    }
    options_.cache = directory_.write("file", "");
    EXPECT_NE(fetch_error().find("--cache"), std::string::npos) << fetch_error();
}

TEST_F(FetchPublished, several_at_once_all_get_the_files_and_one_of_them_downloads) {
    server_.set("/a/encoder.json", {.body = vocab_, .cuts = 1, .cut_after = 3, .stalls = true});
    std::vector<std::future<std::string>> readers;
    for (int i = 0; i < 4; i++) {
        readers.push_back(
            std::async(std::launch::async, [this] { return read_file(fetch_published(published_, options_)[0]); }));
    }
    for (auto& reader : readers) EXPECT_EQ(reader.get(), vocab_);
    EXPECT_EQ(server_.requests().size(), 3u);
}

TEST_F(FetchPublished, a_vocabulary_with_merges_encodes_as_the_original) {
    BpeTrainer trainer({.vocab_size = 300, .special_tokens = {"<|endoftext|>"}});
    trainer.add_file(directory_.write("text", "the cat sat on the mat, the rat sat on the cat\n"));
    const Tokenizer original = trainer.train();
    original.save(directory_ / "original");
    fs::create_directory(directory_ / "mirror");
    fs::rename(directory_ / "original/vocab.json", directory_ / "mirror/encoder.json");
    fs::rename(directory_ / "original/merges.txt", directory_ / "mirror/vocab.bpe");
    published_.files[0].sha256 = hash_of(read_file(directory_ / "mirror/encoder.json"));
    published_.files[1].sha256 = hash_of(read_file(directory_ / "mirror/vocab.bpe"));
    options_.mirror = directory_ / "mirror";
    const Tokenizer imported = load_published(published_, options_);
    EXPECT_EQ(imported.encode("the mat 猫"), original.encode("the mat 猫"));
    EXPECT_EQ(imported.end_of_text(), original.end_of_text());
}

TEST(PublishedTokenizers, the_table_is_well_formed) {
    for (const PublishedTokenizer& tokenizer : published_tokenizers()) {
        EXPECT_EQ(find_published(tokenizer.name), &tokenizer);
        EXPECT_TRUE(tokenizer.base.starts_with("https://"));
        EXPECT_FALSE(tokenizer.files.empty());
        for (const auto& file : tokenizer.files) {
            EXPECT_EQ(file.sha256.size(), 64u) << file.path;
            EXPECT_EQ(file.sha256.find_first_not_of("0123456789abcdef"), std::string::npos) << file.path;
        }
    }
    EXPECT_EQ(find_published("gpt-2"), nullptr);
}

TEST(KilnTokenizerImport, says_at_once_what_it_cannot_fetch) {
    const TempDirectory directory;
    const Finished result =
        run_program(program_path("kiln"), {"tokenizer", "import", "gpt2", "--output", directory / "out", "--cache",
                                           directory / "cache", "--mirror", "http://no-such-host.invalid"});
    EXPECT_EQ(result.code, 1);
    EXPECT_NE(result.err.find("http://no-such-host.invalid/gpt-2/encodings/main/encoder.json"), std::string::npos)
        << result.err;
    EXPECT_FALSE(fs::exists(directory / "out"));
}

}  // namespace
}  // namespace kiln
