// What -i names: find_data() and shards.json.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/temp_directory.h"
#include "tokenizer/data/dataloader.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/data/shard_index.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"

namespace kiln {
namespace {

using Paths = std::vector<std::filesystem::path>;

class FindData : public testing::Test {
protected:
    std::string error(const std::string& pattern) {
        return error_of([&] { find_data(pattern); });
    }
    // An index and its shards, of 1 document each.
    void write_index() {
        ShardIndex index;
        index.vocab_size = 300;
        index.end_of_text = 299;
        const auto add = [&](ShardIndex::Split& split, const std::string& name, int tokens) {
            const ShardInfo info = write_shard(dir / name, std::vector<int>(size_t(tokens), tokens),
                                               {.vocab_size = 300, .end_of_text = 299, .num_documents = 1});
            split.files.push_back({name, info.num_tokens, 1, hex(info.payload_xxh3)});
            split.tokens += info.num_tokens;
            split.documents++;
        };
        add(index.train, "b.bin", 10);
        add(index.train, "a.bin", 5);
        add(index.val, "v.bin", 4);
        index.train.text_bytes = 1234;
        index.tokenizer_sha256 = "abc";
        index.recipe = {{"val_fraction", 0.5}};
        write_shard_index(dir.path(), index);
    }
    // shards.json with `from` replaced by `to`, as version 1, which has no checksum of its own.
    void change_index(const std::string& from, const std::string& to) {
        std::string text = read_file(dir / kShardIndexName);
        ASSERT_NE(text.find(from), std::string::npos) << text;
        text.replace(text.find(from), from.size(), to);
        dir.write(kShardIndexName, text.replace(text.find("\"version\": 2"), 12, "\"version\": 1"));
    }
    TempDirectory dir;
};

TEST_F(FindData, directory_without_index_goes_by_names) {
    for (const char* name : {"x_train_1.bin", "x_train_0.bin", "x_val_0.bin", "other.bin", "train.txt"}) {
        dir.write(name, "");
    }
    const DataPaths found = find_data(dir.path().string());
    EXPECT_EQ(found.train, (Paths{dir / "x_train_0.bin", dir / "x_train_1.bin"}));
    EXPECT_EQ(found.val, Paths{dir / "x_val_0.bin"});
    EXPECT_EQ(found.tokenizer, "");
    dir.write("tokenizer.json", "{}");
    EXPECT_EQ(find_data(dir.path().string()).tokenizer, dir.path());
}

TEST_F(FindData, directory_with_index_goes_by_it) {
    write_index();
    dir.write("stray_train.bin", "");
    const DataPaths found = find_data(dir.path().string());
    EXPECT_EQ(found.train, (Paths{dir / "b.bin", dir / "a.bin"}));
    EXPECT_EQ(found.val, Paths{dir / "v.bin"});
    const ShardIndex index = read_shard_index(dir.path());
    EXPECT_EQ(index.train.text_bytes, 1234u);
    EXPECT_EQ(index.train.files[1].tokens, 5u);
    EXPECT_EQ(index.end_of_text, 299);
    EXPECT_EQ(index.recipe.at("val_fraction"), 0.5);
}

TEST_F(FindData, missing_shard_of_the_index_is_an_error) {
    write_index();
    std::filesystem::remove(dir / "a.bin");
    const std::string message = error(dir.path().string());
    EXPECT_NE(message.find("a.bin: missing, though"), std::string::npos) << message;
    EXPECT_NE(message.find("shards.json names it"), std::string::npos) << message;
}

TEST_F(FindData, damaged_index_is_an_error_naming_it) {
    for (const char* text :
         {"", "{", "[]", "{}", "null", "{\"format\":1}", "{\"format\":\"kiln-shards\",\"version\":2}",
          "{\"format\":\"kiln-shards\",\"version\":1,\"tokenizer\":{\"vocab_size\":\"x\"}}"}) {
        dir.write("shards.json", text);
        EXPECT_NE(error(dir.path().string()).find("shards.json: "), std::string::npos) << text;
    }
}

TEST_F(FindData, every_flipped_bit_and_every_cut_of_the_index_is_noticed) {
    write_index();
    const std::string text = read_file(dir / kShardIndexName);
    const auto expect_noticed = [&](const std::string& damaged) {
        dir.write(kShardIndexName, damaged);
        EXPECT_EQ(error_of([&] { read_shard_index(dir.path()); }).find((dir / kShardIndexName).string()), 0u)
            << damaged;
    };
    const bool all = std::getenv("KILN_LONG") != nullptr;
    for (size_t byte = 0; byte < text.size(); byte++) {
        if (all || byte % 10 == 0) expect_noticed(text.substr(0, byte));
        for (int bit = 0; bit < 8; bit++) {
            if (!all && bit != int(byte % 8)) continue;
            std::string flipped = text;
            flipped[byte] = char(flipped[byte] ^ 1 << bit);
            expect_noticed(flipped);
        }
    }
}

TEST_F(FindData, index_of_the_first_version_is_read) {
    write_index();
    change_index("1234", "1235");
    EXPECT_EQ(read_shard_index(dir.path()).train.text_bytes, 1235u);
}

TEST_F(FindData, index_that_leads_out_of_its_directory_is_an_error) {
    for (const std::string name : {"../a.bin", "/etc/passwd", "x/a.bin", "..", ""}) {
        write_index();
        change_index("b.bin", name);
        EXPECT_NE(error(dir.path().string()).find("is not the name of a file in this directory"), std::string::npos);
    }
}

TEST_F(FindData, index_of_other_shards_or_wrong_totals_is_an_error) {
    const struct {
        const char *from, *to, *expected;
    } cases[] = {
        {"\"tokens\": 15", "\"tokens\": 16", "15 tokens and 2 documents, but it gives totals of 16 and 2"},
        {"\"documents\": 2", "\"documents\": 3", "but it gives totals of 15 and 3"},
        {"\"tokens\": 10", "\"tokens\": 11", "b.bin: is not the shard that"},
        {"\"vocab_size\": 300", "\"vocab_size\": 301", "b.bin: is not the shard that"},
        {"\"tokens\": 15", "\"tokens\": \"15\"", "\"tokens\" must be a whole number, is \"15\""},
        {"\"tokens\": 15", "\"tokens\": -1", "\"tokens\" must lie between 0 and 9223372036854775807, is -1"},
        {"\"name\": \"b.bin\"", "\"name\": 7", "\"name\" must be a string, is 7"},
        {"\"recipe\"", "\"receipt\"", "\"recipe\" is missing"},
    };
    for (const auto& c : cases) {
        write_index();
        change_index(c.from, c.to);
        const std::string message = error(dir.path().string());
        EXPECT_NE(message.find(c.expected), std::string::npos) << message;
        EXPECT_EQ(message.find("exception"), std::string::npos) << message;
        EXPECT_NE(message.find("kiln prepare"), std::string::npos) << message;
    }
}

TEST_F(FindData, unfinished_directory_is_an_error) {
    dir.write("train_000000.bin", "");
    dir.write(kUnfinishedName, "");
    EXPECT_NE(error(dir.path().string()).find("interrupted"), std::string::npos);
    write_index();  // a kill after the last step but one leaves the marker
    EXPECT_EQ(find_data(dir.path().string()).train.size(), 2u);
}

TEST_F(FindData, glob_gives_its_matches_in_order) {
    for (const char* name : {"s_2.bin", "s_1.bin", "t.bin", "tokenizer.json"}) dir.write(name, "");
    const DataPaths found = find_data((dir / "s_*.bin").string());
    EXPECT_EQ(found.train, (Paths{dir / "s_1.bin", dir / "s_2.bin"}));
    EXPECT_TRUE(found.val.empty());
    EXPECT_EQ(found.tokenizer, dir.path());
}

TEST_F(FindData, file_gives_itself_even_if_its_name_looks_like_a_glob) {
    const auto path = dir.write("a[1].bin", "");
    EXPECT_EQ(find_data(path.string()).train, Paths{path});
}

TEST_F(FindData, nothing_found_says_what_was_looked_for) {
    EXPECT_NE(error((dir / "none").string()).find("none: not found"), std::string::npos);
    EXPECT_NE(error((dir / "*.bin").string()).find("*.bin: no file matches"), std::string::npos);
    EXPECT_NE(error("").find("no data given"), std::string::npos);
}

TEST_F(FindData, directory_without_shards_says_what_to_do) {
    EXPECT_NE(error(dir.path().string()).find("no shards in this directory"), std::string::npos);
    dir.write("poems.txt", "text");
    const std::string message = error(dir.path().string());
    EXPECT_NE(message.find("it holds text (poems.txt): run `kiln prepare"), std::string::npos) << message;
    dir.write("data.bin", "");
    EXPECT_NE(error(dir.path().string()).find("1 other .bin files; name them by a glob"), std::string::npos);
}

}  // namespace
}  // namespace kiln
