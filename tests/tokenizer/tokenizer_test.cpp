#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/io/file.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

using Json = nlohmann::ordered_json;

const std::vector<const char*> kCorpora = {"english", "code", "runs", "han_nfkc", "awkward_nfc", "exhausted"};

Tokenizer fixture_tokenizer(const std::string& name) {
    return Tokenizer::load(tokenizer_fixture(name + ".json"));
}
Json fixture_json(const std::string& name) {
    return Json::parse(slurp(tokenizer_fixture(name + ".json")));
}

// A tokenizer of 256 bytes, a few merges and two special tokens.
Tokenizer small_tokenizer() {
    BpeTrainer trainer({.vocab_size = 270, .special_tokens = {"<|endoftext|>", "<s>"}});
    trainer.add_text("hello hello hello world world", "text");
    return trainer.train();
}

TEST(Tokenizer, ids_equal_hugging_faces_with_and_without_special_tokens) {
    for (const char* name : kCorpora) {
        const Tokenizer tokenizer = fixture_tokenizer(name);
        const auto lines = fixture_lines(std::string(name) + ".encoded.jsonl");
        ASSERT_GT(lines.size(), 20u);
        for (const auto& line : lines) {
            const std::string text = line.at("text");
            EXPECT_EQ(tokenizer.encode(text), line.at("ids").get<std::vector<int>>()) << name << ": " << text;
            EXPECT_EQ(tokenizer.encode(text, {.allow_special = true}), line.at("special_ids").get<std::vector<int>>())
                << name << ": " << text;
        }
    }
}

TEST(Tokenizer, any_bytes_round_trip_without_normalizer) {
    const Tokenizer tokenizer = fixture_tokenizer("english");
    std::mt19937 random(3);
    for (int round = 0; round < 300; ++round) {
        const std::string text = random_bytes(random, random() % 200);
        ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    }
}

TEST(Tokenizer, normalizer_refuses_text_that_is_not_utf8) {
    const std::string message = error_of([] { fixture_tokenizer("han_nfkc").encode("ab\xFF"); });
    EXPECT_NE(message.find("not UTF-8, first at byte 2"), std::string::npos) << message;
}

TEST(Tokenizer, special_tokens_in_text_are_text_unless_allowed) {
    const Tokenizer tokenizer = small_tokenizer();
    const std::string text = "hello<|endoftext|><s>";
    const std::vector<int> plain = tokenizer.encode(text);
    for (const int id : plain) EXPECT_FALSE(tokenizer.is_special(id));
    EXPECT_EQ(tokenizer.decode(plain), text);
    const std::vector<int> ids = tokenizer.encode(text, {.allow_special = true});
    ASSERT_GE(ids.size(), 3u);
    EXPECT_EQ(ids[ids.size() - 2], 0);
    EXPECT_EQ(ids.back(), 1);
    EXPECT_TRUE(tokenizer.is_special(0));
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_EQ(tokenizer.token_id("<s>"), 1);
    EXPECT_EQ(tokenizer.token_id("hello"), std::nullopt);
}

TEST(Tokenizer, longest_added_token_wins_and_non_special_ones_always_count) {
    Json json = fixture_json("exhausted");
    const int n = static_cast<int>(json["model"]["vocab"].size());
    for (const auto& [content, special] : {std::pair("<a>", true), {"<a><b>", true}, {"plain", false}}) {
        json["added_tokens"].push_back({{"id", n + static_cast<int>(json["added_tokens"].size()) - 1},
                                        {"content", content},
                                        {"normalized", false},
                                        {"special", special}});
    }
    const Tokenizer tokenizer = Tokenizer::parse(json.dump(), "test");
    EXPECT_EQ(tokenizer.encode("<a><b><a>plain", {.allow_special = true}), (std::vector<int>{n + 1, n, n + 2}));
    EXPECT_EQ(tokenizer.encode("plain"), (std::vector<int>{n + 2}));
    EXPECT_FALSE(tokenizer.is_special(n + 2));
    // In the saved file, the added tokens are not in the model's vocabulary.
    EXPECT_EQ(Tokenizer::parse(tokenizer.to_json(), "again").to_json(), tokenizer.to_json());
    EXPECT_EQ(Json::parse(tokenizer.to_json())["model"]["vocab"].size(), static_cast<size_t>(n));
}

TEST(Tokenizer, an_added_token_decodes_to_its_own_content_and_not_to_its_normal_form) {
    Json json = fixture_json("han_nfkc");
    const int id = static_cast<int>(json["model"]["vocab"].size() + json["added_tokens"].size());
    json["added_tokens"].push_back({{"id", id}, {"content", "<\uff21\ufb01>"}, {"normalized", true}});
    const Tokenizer tokenizer = Tokenizer::parse(json.dump(), "test");
    const int last = tokenizer.vocab_size() - 1;
    for (const char* text : {"<\uff21\ufb01>", "<Afi>"}) EXPECT_EQ(tokenizer.encode(text), (std::vector<int>{last}));
    EXPECT_EQ(tokenizer.decode({last}), "<\uff21\ufb01>");
}

TEST(Tokenizer, added_tokens_take_white_space_around_them_and_ignore_longer_words) {
    Json json = fixture_json("exhausted");
    const int n = static_cast<int>(json["model"]["vocab"].size());
    const auto add = [&](const char* content, const char* option, int id) {
        json["added_tokens"].push_back({{"id", id}, {"content", content}, {"normalized", false}, {option, true}});
    };
    add("<l>", "lstrip", n);
    add("<r>", "rstrip", n + 1);
    add("word", "single_word", n + 2);
    const Tokenizer tokenizer = Tokenizer::parse(json.dump(), "test");
    const int x = tokenizer.encode("x")[0];
    EXPECT_EQ(tokenizer.encode("x \u3000<l>x"), (std::vector<int>{x, n, x}));
    EXPECT_EQ(tokenizer.encode("x<r> \n<l> <r>"), (std::vector<int>{x, n + 1, n, tokenizer.encode(" ")[0], n + 1}));
    EXPECT_EQ(tokenizer.encode("word"), (std::vector<int>{n + 2}));
    EXPECT_EQ(tokenizer.encode("!word!")[1], n + 2);
    for (const char* text : {"sword", "words", "word_", "\u00e9word", "word\u0301", "word\u200d"}) {
        EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
        for (const int id : tokenizer.encode(text)) EXPECT_NE(id, n + 2) << text;
    }
}

TEST(Tokenizer, saved_and_loaded_is_the_same_in_every_form) {
    for (const char* name : kCorpora) {
        const Tokenizer tokenizer = fixture_tokenizer(name);
        EXPECT_TRUE(tokenizer.to_json() == slurp(tokenizer_fixture(std::string(name) + ".json"))) << name;
        const TempDirectory directory;
        tokenizer.save(directory / "saved");
        EXPECT_TRUE(Tokenizer::load(directory / "saved").to_json() == tokenizer.to_json()) << name;
        for (const char* file : {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"}) {
            EXPECT_TRUE(std::filesystem::exists(directory / "saved" / file)) << file;
        }
        // vocab.json and merges.txt have all ids, but no normalizer and no prefix space.
        std::filesystem::remove(directory / "saved" / "tokenizer.json");
        const Tokenizer bare = Tokenizer::load(directory / "saved");
        ASSERT_EQ(bare.vocab_size(), tokenizer.vocab_size());
        for (int id = 0; id < bare.vocab_size(); ++id) ASSERT_EQ(bare.token_bytes(id), tokenizer.token_bytes(id));
        EXPECT_EQ(bare.end_of_text(), tokenizer.end_of_text());
        if (std::string(name) == "english") {
            const std::string text = slurp(tokenizer_fixture("english.txt"));
            EXPECT_EQ(bare.encode(text), tokenizer.encode(text));
        }
    }
}

TEST(Tokenizer, vocab_json_is_one_line_in_id_order_and_merges_have_their_header) {
    const TempDirectory directory;
    const Tokenizer tokenizer = small_tokenizer();
    tokenizer.save(directory.path());
    const std::string vocab = slurp(directory / "vocab.json"), merges = slurp(directory / "merges.txt");
    EXPECT_EQ(vocab.find('\n'), std::string::npos);
    const Json ids = Json::parse(vocab);
    int next = 0;
    for (const auto& [token, id] : ids.items()) EXPECT_EQ(id.get<int>(), next++);
    EXPECT_EQ(next, tokenizer.vocab_size());
    EXPECT_EQ(merges.substr(0, 17), "#version: 0.2\ne l");
}

TEST(Tokenizer, old_form_of_merges_is_read) {
    Json json = fixture_json("english");
    for (auto& merge : json["model"]["merges"]) {
        merge = concat(merge[0].get<std::string>(), " ", merge[1].get<std::string>());
    }
    EXPECT_TRUE(Tokenizer::parse(json.dump(), "old").to_json() == slurp(tokenizer_fixture("english.json")));
}

TEST(Tokenizer, other_files_in_the_directory_are_kept) {
    const TempDirectory directory;
    small_tokenizer().save(directory / "a");
    directory.write("a/tokenizer_config.json", "{\"chat_template\": \"{{ x }}\"}");
    Tokenizer::load(directory / "a").save(directory / "b");
    EXPECT_EQ(slurp(directory / "b/tokenizer_config.json"), "{\"chat_template\": \"{{ x }}\"}");
}

TEST(Tokenizer, two_processes_never_save_into_one_directory_at_once) {
    const TempDirectory directory;
    {
        const DirectoryLock other(directory.path());
        const std::string error = error_of([&] { small_tokenizer().save(directory.path()); });
        EXPECT_NE(error.find("another process is writing to it"), std::string::npos) << error;
        EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
    }
    small_tokenizer().save(directory.path());
}

TEST(Tokenizer, several_threads_encode_as_one_does) {
    const Tokenizer tokenizer = fixture_tokenizer("english");
    const std::string text = slurp(tokenizer_fixture("english.txt"));
    const std::vector<int> expected = tokenizer.encode(text);
    std::vector<std::vector<int>> results(4);
    std::vector<std::thread> threads;
    for (auto& result : results) {
        threads.emplace_back([&] {
            for (int i = 0; i < 20; ++i) result = tokenizer.encode(text);
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST(Tokenizer, end_of_text_is_the_first_known_name_or_an_error) {
    const auto with = [](std::vector<std::string> special) {
        BpeTrainer trainer({.vocab_size = 300, .special_tokens = std::move(special)});
        trainer.add_text("text", "text");
        return trainer.train();
    };
    EXPECT_EQ(with({"<s>", "</s>"}).end_of_text(), 1);
    EXPECT_EQ(with({"<|im_end|>", "<|endoftext|>"}).end_of_text(), 1);
    EXPECT_NE(error_of([&] { with({"<s>"}).end_of_text(); }).find("no end-of-text token"), std::string::npos);
}

TEST(Tokenizer, ids_out_of_range_are_errors) {
    const Tokenizer tokenizer = small_tokenizer();
    EXPECT_NE(error_of([&] {
                  tokenizer.decode({0, 1 << 30});
              }).find("token id 1073741824 is out of range"),
              std::string::npos);
    EXPECT_NE(error_of([&] { tokenizer.token_bytes(-1); }).find("token id -1"), std::string::npos);
    EXPECT_FALSE(tokenizer.is_special(-1));
    EXPECT_FALSE(tokenizer.is_special(1 << 30));
}

TEST(DecodeStream, never_shows_half_a_character) {
    const Tokenizer tokenizer = fixture_tokenizer("exhausted");  // few merges: most characters take several tokens
    const std::string text = "a\u00e9\u6f22\U0001F600 z";
    DecodeStream stream(tokenizer);
    std::string shown;
    for (const int id : tokenizer.encode(text)) {
        const std::string part = stream.push(id);
        EXPECT_EQ(find_invalid_utf8(part), std::nullopt);
        shown += part;
    }
    EXPECT_EQ(shown + stream.finish(), text);
}

TEST(DecodeStream, invalid_bytes_are_passed_on_unchanged) {
    const Tokenizer tokenizer = fixture_tokenizer("exhausted");
    const auto push = [&](DecodeStream& stream, const std::string& bytes) {
        std::string shown;
        for (const int id : tokenizer.encode(bytes)) shown += stream.push(id);
        return shown;
    };
    DecodeStream stream(tokenizer);
    EXPECT_EQ(push(stream, "\xFF\x80"), "\xFF\x80");
    EXPECT_EQ(push(stream, "\xE6\xBC"), "");
    EXPECT_EQ(push(stream, "x"), "\xE6\xBCx");
    EXPECT_EQ(push(stream, "\xE6\xBC"), "");
    EXPECT_EQ(stream.finish(), "\xE6\xBC");
    EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace kiln
