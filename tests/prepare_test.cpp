#include "tokenizer/prepare.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <map>
#include <random>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu_reference/error.h"
#include "tests/temp_directory.h"
#include "tokenizer/bpe_trainer.h"
#include "tokenizer/dataloader.h"
#include "tokenizer/file.h"
#include "tokenizer/sha256.h"
#include "tokenizer/shard.h"
#include "tokenizer/split_writer.h"
#include "tokenizer/tokenizer.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using Texts = std::vector<std::string>;

std::string words(std::mt19937& random, int n) {
    const char* const list[] = {"the", "poem", "of", "moon", "river", "\xE5\x94\x90", "\xE8\xAF\x97", "1234", "x\ny"};
    std::string text;
    for (int i = 0; i < n; i++) text += std::string(i ? " " : "") + list[random() % 9];
    return text;
}

class Prepare : public testing::Test {
protected:
    Prepare() {
        BpeTrainer trainer({.vocab_size = 300, .special_tokens = {"<|endoftext|>"}});
        std::mt19937 random(1);
        trainer.add_text(words(random, 2000), "text");
        tokenizer = std::make_unique<Tokenizer>(trainer.train());
        tokenizer->save(fs::path(dir / "tokenizer"));
        options.tokenizer = dir / "tokenizer";
        options.output = dir / "shards";
        options.documents.separator = "%";
        options.val_fraction = 0;
    }

    // Writes documents between lines of % and makes the file the only input.
    void input(const Texts& documents, const std::string& name = "input.txt") {
        std::string text;
        for (const std::string& document : documents) text += document + "\n%\n";
        options.inputs = {dir.write(name, text).string()};
    }
    Texts many(int n, unsigned seed = 7) {
        std::mt19937 random(seed);
        Texts documents;
        for (int i = 0; i < n; i++)
            documents.push_back(std::to_string(i) + " " + words(random, 1 + int(random() % 40)));
        return documents;
    }
    std::vector<int> tokens_of(const std::vector<fs::path>& shards) {
        std::vector<int> tokens;
        for (const fs::path& path : shards) {
            const Shard shard(path);
            shard.verify();
            const size_t before = tokens.size();
            tokens.resize(before + shard.info().num_tokens);
            shard.copy(0, shard.info().num_tokens, &tokens[before]);
        }
        return tokens;
    }
    // The documents that the shards hold, as text.
    Texts documents_of(const std::vector<fs::path>& shards) {
        Texts documents;
        std::vector<int> ids;
        const std::vector<int> tokens = tokens_of(shards);
        EXPECT_TRUE(tokens.empty() || tokens[0] == tokenizer->end_of_text());
        for (size_t i = 1; i <= tokens.size(); i++) {
            if (i == tokens.size() || tokens[i] == tokenizer->end_of_text()) {
                documents.push_back(tokenizer->decode(std::exchange(ids, {})));
            } else {
                ids.push_back(tokens[i]);
            }
        }
        return tokens.empty() ? Texts{} : documents;
    }
    DataPaths found() { return find_data(options.output.string()); }
    // Every file of the output directory with its content.
    std::map<std::string, std::string> snapshot(const fs::path& directory) {
        std::map<std::string, std::string> files;
        for (const auto& entry : fs::directory_iterator(directory)) {
            files[entry.path().filename()] = read_file(entry.path());
        }
        return files;
    }
    // "" if they hold the same, else the first file that differs: the contents would fill the screen.
    static std::string difference(const std::map<std::string, std::string>& a,
                                  const std::map<std::string, std::string>& b) {
        for (const auto& [name, content] : a) {
            if (!b.contains(name)) return name + " is extra";
            if (b.at(name) != content) return name + " differs";
        }
        for (const auto& [name, content] : b) {
            if (!a.contains(name)) return name + " is missing";
        }
        return "";
    }
    std::string error() {
        return error_of([&] { prepare(options); });
    }

    TempDirectory dir;
    std::unique_ptr<Tokenizer> tokenizer;
    PrepareOptions options;
};

TEST_F(Prepare, documents_come_back_in_order_each_after_end_of_text) {
    const Texts documents = many(15000);  // several batches a thread
    input(documents);
    const ShardIndex index = prepare(options);
    EXPECT_TRUE(documents_of(found().train) == documents);
    EXPECT_TRUE(found().val.empty());
    EXPECT_EQ(index.train.documents, 15000u);
    EXPECT_EQ(index.train.tokens, tokens_of(found().train).size());
    size_t bytes = 0;
    for (const std::string& document : documents) bytes += document.size();
    EXPECT_EQ(index.train.text_bytes, bytes);
    EXPECT_EQ(read_shard_index(options.output).train.text_bytes, bytes);
}

TEST_F(Prepare, end_of_text_written_in_the_text_is_plain_text) {
    input({"a<|endoftext|>b"});
    EXPECT_EQ(prepare(options).train.documents, 1u);
    EXPECT_EQ(documents_of(found().train), Texts{"a<|endoftext|>b"});
}

TEST_F(Prepare, threads_change_no_byte) {
    input(many(15000));
    options.val_fraction = 0.1;
    options.shard_tokens = 100'000;
    options.documents.piece_bytes = 64;  // documents of several pieces too
    std::map<std::string, std::string> first;
    for (const int threads : {1, 2, 5}) {
        options.threads = threads;
        options.force = true;
        prepare(options);
        if (first.empty()) first = snapshot(options.output);
        EXPECT_EQ(difference(snapshot(options.output), first), "") << threads;
    }
    EXPECT_GT(first.size(), 8u);
}

TEST_F(Prepare, pieces_of_a_document_give_the_tokens_of_the_whole) {
    std::mt19937 random(3);
    const std::string document = words(random, 20000);
    input({document});
    options.documents.piece_bytes = 100;
    prepare(options);
    std::vector<int> expected = tokenizer->encode(document);
    expected.insert(expected.begin(), tokenizer->end_of_text());
    EXPECT_EQ(tokens_of(found().train), expected);
}

TEST_F(Prepare, pieces_of_a_document_get_no_prefix_space_of_their_own) {
    BpeTrainer trainer({.vocab_size = 300, .special_tokens = {"<|endoftext|>"}, .add_prefix_space = true});
    std::mt19937 random(1);
    trainer.add_text(words(random, 2000), "text");
    tokenizer = std::make_unique<Tokenizer>(trainer.train());
    tokenizer->save(fs::path(dir / "tokenizer"));
    const std::string document = words(random, 200000);  // about a megabyte: several pieces
    input({document});
    prepare(options);
    EXPECT_TRUE(documents_of(found().train) == Texts{" " + document});
}

TEST_F(Prepare, shards_are_full_but_the_last_and_know_their_place) {
    input(many(400));
    options.shard_tokens = 1000;
    const ShardIndex index = prepare(options);
    const size_t n = index.train.files.size();
    ASSERT_EQ(n, (index.train.tokens + 999) / 1000);
    uint64_t documents = 0;
    for (size_t i = 0; i < n; i++) {
        const Shard shard(options.output / index.train.files[i].name);
        EXPECT_EQ(shard.info().num_tokens, i + 1 < n ? 1000 : index.train.tokens - 1000 * (n - 1));
        EXPECT_EQ(shard.info().index, int(i));
        EXPECT_EQ(shard.info().count, int(n));
        EXPECT_EQ(shard.info().vocab_size, tokenizer->vocab_size());
        EXPECT_EQ(shard.info().end_of_text, tokenizer->end_of_text());
        EXPECT_EQ(index.train.files[i].tokens, shard.info().num_tokens);
        EXPECT_EQ(index.train.files[i].documents, uint64_t(shard.info().num_documents));
        EXPECT_EQ(index.train.files[i].xxh3, hex_u64(shard.info().payload_xxh3));
        documents += index.train.files[i].documents;
    }
    EXPECT_EQ(documents, 400u);
}

TEST_F(Prepare, tokens_that_fill_the_last_shard_exactly_make_no_empty_one) {
    input({"abc"});
    options.shard_tokens = tokenizer->encode("abc").size() + 1;
    EXPECT_EQ(prepare(options).train.files.size(), 1u);
}

TEST_F(Prepare, validation_is_about_the_fraction_and_stays_when_data_is_added) {
    Texts documents = many(2000);
    documents.push_back(documents[3]);
    input(documents);
    options.val_fraction = 0.1;
    prepare(options);
    const Texts train = documents_of(found().train), val = documents_of(found().val);
    EXPECT_EQ(train.size() + val.size(), documents.size());
    EXPECT_NEAR(double(val.size()), 200, 5 * std::sqrt(2000 * 0.1 * 0.9));  // 5 sigma of the binomial
    for (const std::string& document : val) EXPECT_EQ(std::count(train.begin(), train.end(), document), 0);
    Texts more = many(500, 8);
    more.insert(more.begin() + 100, documents.begin(), documents.end());
    input(more);
    options.force = true;
    prepare(options);
    const Texts val_now = documents_of(found().val), train_now = documents_of(found().train);
    for (const std::string& d : val) EXPECT_NE(std::find(val_now.begin(), val_now.end(), d), val_now.end());
    for (const std::string& d : train) EXPECT_NE(std::find(train_now.begin(), train_now.end(), d), train_now.end());
}

TEST_F(Prepare, small_data_gets_one_validation_document) {
    options.val_fraction = 1e-9;
    options.force = true;
    for (const int n : {2, 3, 20, 300}) {
        const Texts documents = many(n, unsigned(n));
        input(documents);
        const ShardIndex index = prepare(options);
        EXPECT_EQ(index.val.documents, 1u);
        EXPECT_EQ(index.train.documents, uint64_t(n - 1));
        Texts all = documents_of(found().train), val = documents_of(found().val);
        all.insert(all.end(), val.begin(), val.end());
        EXPECT_TRUE(std::is_permutation(all.begin(), all.end(), documents.begin(), documents.end())) << n;
        EXPECT_EQ(read_shard_index(options.output).val.text_bytes, val[0].size());
    }
    input({"only one"});
    EXPECT_TRUE(prepare(options).val.files.empty());
    EXPECT_EQ(documents_of(found().train), Texts{"only one"});
    options.val_fraction = 0;
    input(many(5));
    EXPECT_TRUE(prepare(options).val.files.empty());
}

// The candidate for validation may be too long to keep back: then it is training data like any other.
TEST_F(Prepare, documents_too_long_to_keep_back_are_trained_on) {
    ShardInfo like;
    like.vocab_size = 300;
    like.end_of_text = 0;
    fs::create_directory(options.output);
    SplitWriter writer(options.output, 1e-9, 1 << 30, like);
    const std::vector<int> part(1 << 20, 5);
    for (const uint64_t hash : {uint64_t(3) << 60, uint64_t(1) << 60}) {
        writer.begin_document(hash);
        for (int i = 0; i < 5; i++) writer.append(part, 1);
        writer.end_document();
    }
    ShardIndex index;
    writer.finish(index);
    EXPECT_EQ(index.train.documents, 2u);
    EXPECT_EQ(index.train.tokens, 2 * (5 * part.size() + 1));
    EXPECT_EQ(index.train.text_bytes, 10u);
    EXPECT_TRUE(index.val.files.empty());
}

TEST_F(Prepare, the_tokenizer_lies_beside_the_shards) {
    input(many(3));
    const ShardIndex index = prepare(options);
    for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt"}) {
        EXPECT_EQ(read_file(options.output / name), read_file(options.tokenizer / name)) << name;
    }
    EXPECT_EQ(found().tokenizer, options.output);
    const auto digest = sha256(read_file(options.output / "tokenizer.json"));
    EXPECT_EQ(Shard(found().train[0]).info().tokenizer_sha256, digest);
    EXPECT_EQ(index.tokenizer_sha256, hex({reinterpret_cast<const char*>(digest.data()), digest.size()}));
}

TEST_F(Prepare, output_feeds_the_loader) {
    input(many(200));
    options.val_fraction = 0.2;
    prepare(options);
    DataLoaderOptions loader;
    loader.shards = found().train;
    loader.vocab_size = tokenizer->vocab_size();
    loader.T = 16;
    EXPECT_NO_THROW(DataLoader(loader).next());
    loader.shards = found().val;
    EXPECT_NO_THROW(DataLoader(loader).next());
}

TEST_F(Prepare, existing_shards_are_replaced_only_by_force) {
    input(many(30));
    options.shard_tokens = 100;
    EXPECT_GT(prepare(options).train.files.size(), 5u);
    const auto before = snapshot(options.output);
    input(many(4));
    const std::string message = error();
    EXPECT_NE(message.find("holds shards already"), std::string::npos) << message;
    EXPECT_NE(message.find("--force"), std::string::npos) << message;
    EXPECT_EQ(difference(snapshot(options.output), before), "");
    options.force = true;
    prepare(options);
    EXPECT_EQ(documents_of(found().train), many(4));
    size_t bins = 0;
    for (const auto& entry : fs::directory_iterator(options.output)) bins += entry.path().extension() == ".bin";
    EXPECT_EQ(bins, found().train.size());  // nothing of the old data stays
}

TEST_F(Prepare, failed_run_leaves_a_directory_that_is_refused_and_can_be_redone) {
    Texts documents = many(30);
    documents[20] += "\xFF";
    input(documents);
    EXPECT_NE(error().find("input.txt:"), std::string::npos);
    EXPECT_NE(error_of([&] { found(); }).find("interrupted"), std::string::npos);
    input(many(30));
    prepare(options);
    EXPECT_EQ(documents_of(found().train), many(30));
    EXPECT_FALSE(fs::exists(options.output / kUnfinishedName));
}

// kill -9 at many moments of a run: what is left is either whole or refused, and the next run does not trip over it.
TEST_F(Prepare, killed_run_never_leaves_a_directory_that_looks_whole) {
    input(many(2000));
    options.shard_tokens = 8000;
    options.val_fraction = 0.05;
    options.threads = 2;
    const auto start = std::chrono::steady_clock::now();
    prepare(options);
    const auto duration =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start);
    const auto whole = snapshot(options.output);
    const int rounds = 20;
    int refused = 0;
    for (int round = 0; round < rounds; round++) {
        fs::remove_all(options.output);
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            error();
            _exit(0);
        }
        usleep(useconds_t(duration.count() * round / rounds));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        if (!error_of([&] { found(); }).empty()) {
            refused++;
            ASSERT_EQ(error(), "") << "after a kill in round " << round;
        }
        fs::remove(options.output / kUnfinishedName);  // may outlive a kill after shards.json: then it says nothing
        ASSERT_EQ(difference(snapshot(options.output), whole), "") << round;
    }
    EXPECT_GT(refused, 3);
}

TEST_F(Prepare, progress_ends_with_the_totals) {
    input(many(500));
    PrepareProgress last;
    const ShardIndex index = prepare(options, [&](const PrepareProgress& p) {
        EXPECT_GE(p.tokens, last.tokens);
        last = p;
    });
    EXPECT_EQ(last.bytes_read, last.bytes_total);
    EXPECT_EQ(last.bytes_total, fs::file_size(options.inputs[0]));
    EXPECT_EQ(last.documents, 500u);
    EXPECT_EQ(last.tokens, index.train.tokens);
}

TEST_F(Prepare, wrong_requests_say_so_and_touch_nothing) {
    input({" ", "\n"});
    EXPECT_NE(error().find("the input holds no text"), std::string::npos) << error();
    fs::remove_all(options.output);
    input({"text"});
    options.val_fraction = 1;
    EXPECT_NE(error().find("validation fraction of 1"), std::string::npos);
    options.val_fraction = 0;
    options.shard_tokens = kMaxShardTokens + 1;
    EXPECT_NE(error().find("a shard holds 1 to 1073741824"), std::string::npos);
    options.shard_tokens = 1000;
    options.tokenizer = dir / "none";
    EXPECT_NE(error().find("none"), std::string::npos);
    options.tokenizer = dir / "tokenizer";
    EXPECT_FALSE(fs::exists(options.output));
    options.output = dir.write("file", "x");
    EXPECT_NE(error().find("file: "), std::string::npos) << error();
    options.output = dir / "shards";
    options.inputs = {(dir / "missing.txt").string()};
    EXPECT_NE(error().find("missing.txt: not found"), std::string::npos);
}

}  // namespace
}  // namespace kiln
