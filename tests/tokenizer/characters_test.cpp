#include "tokenizer/huggingface/characters.h"

#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/huggingface/parts.h"

namespace kiln {
namespace {

using Ids = std::vector<int>;

Tokenizer train(const std::string& text, CharacterTrainerOptions options) {
    CharacterTrainer trainer(std::move(options));
    trainer.add_text(text, "text");
    return trainer.train();
}

TEST(CharacterTokenizer, ids_are_hugging_faces_and_the_file_is_read_and_written_as_it_is) {
    const Tokenizer tokenizer = Tokenizer::load(tokenizer_fixture("characters.json"));
    EXPECT_EQ(tokenizer.to_json(), slurp(tokenizer_fixture("characters.json")));
    const auto lines = fixture_lines("characters.jsonl");
    ASSERT_GT(lines.size(), 20u);
    for (const auto& line : lines) {
        const auto text = line.at("text").get<std::string>();
        EXPECT_EQ(tokenizer.encode(text, {.allow_special = true}), line.at("ids").get<Ids>()) << text;
    }
}

TEST(CharacterTokenizer, special_tokens_come_first_then_characters_by_code_point) {
    const Tokenizer tokenizer = train("ba\u6f22\nab", {.special_tokens = {"<|endoftext|>", "<unk>"}});
    EXPECT_EQ(tokenizer.vocab_size(), 6);
    EXPECT_EQ(tokenizer.encode("\nab\u6f22"), (Ids{2, 3, 4, 5}));
    EXPECT_EQ(tokenizer.decode({2, 3, 4, 5, 0}), "\nab\u6f22<|endoftext|>");
    EXPECT_EQ(tokenizer.end_of_text(), 0);
    EXPECT_EQ(tokenizer.encode("z<|endoftext|>", {.allow_special = true}), (Ids{1, 0}));
    const Tokenizer again = Tokenizer::parse(tokenizer.to_json(), "again");
    EXPECT_EQ(again.to_json(), tokenizer.to_json());
    EXPECT_EQ(again.encode("az\u6f22"), (Ids{3, 1, 5}));
}

TEST(CharacterTokenizer, rare_characters_are_left_out_for_unk) {
    const std::string text = "aaaabbbccd";
    EXPECT_EQ(train(text, {.min_frequency = 3, .special_tokens = {"<unk>"}}).encode("abcd"), (Ids{1, 2, 0, 0}));
    EXPECT_EQ(train(text, {.vocab_size = 4, .special_tokens = {"<unk>"}}).encode("abcd"), (Ids{1, 2, 3, 0}));
    EXPECT_EQ(error_of([&] { train(text, {.min_frequency = 3}); }),
              "2 of the text's 4 characters are left out, and no token stands for them; add <unk> to "
              "--special-tokens, or keep all characters");
}

TEST(CharacterTokenizer, unknown_characters_and_invalid_text_are_errors_that_name_the_place) {
    const Tokenizer tokenizer = train("ab", {.special_tokens = {"<|endoftext|>"}});
    EXPECT_NE(
        error_of([&] { tokenizer.encode("ab\u6f22"); }).find("the text holds \"\u6f22\" (code point 28450, byte 2"),
        std::string::npos);
    EXPECT_NE(error_of([&] { tokenizer.encode("ab\xFF"); }).find("not UTF-8, first at byte 2"), std::string::npos);
    EXPECT_NE(error_of([&] { train("a\xFF", {}); }).find("text: text that is not UTF-8, first at byte 1"),
              std::string::npos);
    EXPECT_NE(error_of([&] { train("", {}); }).find("there is no text"), std::string::npos);
}

TEST(CharacterTokenizer, normal_form_and_offsets_go_together) {
    const Tokenizer tokenizer = train("\uff11\uff12", {.normalizer = NormalizerKind::kNfkc});
    const Encoding encoding = tokenizer.encode_with_offsets("\uff122\uff11");
    EXPECT_EQ(encoding.ids, (Ids{1, 1, 0}));
    EXPECT_EQ(encoding.spans, (std::vector<TextSpan>{{0, 3}, {3, 4}, {4, 7}}));
}

TEST(CharacterTokenizer, streams_whole_characters) {
    const Tokenizer tokenizer = train("\u6f22\U0001F600", {});
    DecodeStream stream(tokenizer);
    EXPECT_EQ(stream.push(1) + stream.push(0) + stream.finish(), "\U0001F600\u6f22");
}

TEST(CharacterTokenizer, options_that_contradict_each_other_are_refused) {
    EXPECT_THROW(CharacterTrainer({.vocab_size = 2, .special_tokens = {"<a>", "<b>"}}), UsageError);
    EXPECT_THROW(CharacterTrainer({.special_tokens = {"$"}}), UsageError);
    EXPECT_THROW(CharacterTrainer({.special_tokens = {"<a>", "<a>"}}), UsageError);
}

TEST(CharacterTokenizer, word_level_files_of_another_kind_are_refused) {
    const auto message = [](auto&& change) {
        auto json = nlohmann::json::parse(slurp(tokenizer_fixture("characters.json")));
        change(json);
        return error_of([&] { Tokenizer::parse(json.dump(), "f.json"); });
    };
    EXPECT_NE(message([](auto& j) { j["model"]["vocab"]["word"] = 100; }).find("\"word\" is not one character"),
              std::string::npos);
    EXPECT_NE(message([](auto& j) {
                  j["pre_tokenizer"]["pattern"]["Regex"] = "\\s";
              }).find("word-level models are supported only"),
              std::string::npos);
    EXPECT_NE(message([](auto& j) { j["model"].erase("unk_token"); }).find("\"unk_token\" must be a string"),
              std::string::npos);
}

// vocab.json and merges.txt with the optional files in the same directory.
class SideFilesTest : public ::testing::Test {
protected:
    void SetUp() override {
        const Tokenizer english = Tokenizer::load(tokenizer_fixture("english.json"));
        english.save(directory_.path());
        std::filesystem::remove(directory_.path() / "tokenizer.json");
        for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
            std::filesystem::remove(directory_.path() / name);
        }
        next_ = english.vocab_size();
    }
    void write(const char* name, const std::string& text) { std::ofstream(directory_.path() / name) << text; }
    Tokenizer load() { return Tokenizer::load(directory_.path()); }
    std::string error() {
        return error_of([&] { load(); });
    }
    TempDirectory directory_;
    int next_ = 0;
};

TEST_F(SideFilesTest, added_tokens_extend_the_vocabulary_and_the_map_says_which_are_special) {
    write("added_tokens.json",
          nlohmann::json({{"<|im_end|>", next_}, {"<turn>", next_ + 1}, {"plain", next_ + 2}}).dump());
    write("special_tokens_map.json",
          R"({"eos_token": {"content": "<|im_end|>"}, "additional_special_tokens": ["<turn>"]})");
    const Tokenizer tokenizer = load();
    EXPECT_EQ(tokenizer.vocab_size(), next_ + 3);
    EXPECT_TRUE(tokenizer.is_special(next_) && tokenizer.is_special(next_ + 1));
    EXPECT_FALSE(tokenizer.is_special(next_ + 2));
    EXPECT_EQ(tokenizer.encode("<turn>plain", {.allow_special = true}), (Ids{next_ + 1, next_ + 2}));
    EXPECT_NE(tokenizer.encode("<turn>")[0], next_ + 1);

    TempDirectory saved;
    tokenizer.save(saved.path());
    EXPECT_EQ(nlohmann::json::parse(slurp(saved.path() / "added_tokens.json")),
              nlohmann::json::parse(slurp(directory_.path() / "added_tokens.json")));
    std::filesystem::remove(saved.path() / "tokenizer.json");
    EXPECT_TRUE(Tokenizer::load(saved.path()).to_json() == tokenizer.to_json());
}

TEST_F(SideFilesTest, the_class_decides_pre_tokenizer_and_normal_form) {
    EXPECT_EQ(load().encode("12").size(), load().encode("e\u030112").size() - load().encode("e\u0301").size());
    write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": {")" +
                                       std::to_string(next_) + R"(": {"content": "<|im_end|>", "special": true}}})");
    const Tokenizer qwen = load();
    EXPECT_TRUE(qwen.is_special(next_));
    EXPECT_EQ(qwen.decode(qwen.encode("e\u0301")), "\u00e9");
    EXPECT_NE(qwen.to_json().find("\"Split\""), std::string::npos);
}

TEST_F(SideFilesTest, what_is_wrong_is_named_with_its_file) {
    write("added_tokens.json", "[1]");
    EXPECT_NE(error().find("added_tokens.json: must be an object"), std::string::npos);
    write("added_tokens.json", R"({"<x>": "7"})");
    EXPECT_NE(error().find("added_tokens.json: \"<x>\": its id must be a whole number"), std::string::npos);
    write("added_tokens.json", R"({"<x>": 7})");
    EXPECT_EQ(load().token_id("<x>"), next_);  // as in transformers
    write("added_tokens.json", "{");
    EXPECT_NE(error().find("added_tokens.json: byte"), std::string::npos);
    write("added_tokens.json", "");  // as a failed download leaves it
    EXPECT_NE(error().find("added_tokens.json: is empty"), std::string::npos);
    std::filesystem::remove(directory_.path() / "added_tokens.json");
    write("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "a"}}})");
    EXPECT_NE(error().find("tokenizer_config.json: added_tokens_decoder: x"), std::string::npos);
    write("tokenizer_config.json", R"({"added_tokens_decoder": {"1": {}}})");
    EXPECT_NE(error().find("\"content\" must be a string"), std::string::npos);
}

}  // namespace
}  // namespace kiln
