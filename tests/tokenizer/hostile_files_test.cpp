// Files that are damaged or not tokenizers: each gives one Error with the place, without a crash or much memory.
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/tokenizer.h"

namespace kiln {
namespace {

using Json = nlohmann::ordered_json;

// A valid tokenizer.json: 256 bytes, a merge, a special token.
Json valid() {
    Json json = Json::parse(slurp(tokenizer_fixture("exhausted.json")));
    EXPECT_EQ(error_of([&] { Tokenizer::parse(json.dump(), "f"); }), "");
    return json;
}

void expect_error(const std::string& text, const std::string& part) {
    const std::string message = error_of([&] { Tokenizer::parse(text, "f.json"); });
    EXPECT_EQ(message.substr(0, 6), "f.json") << message;
    EXPECT_NE(message.find(part), std::string::npos) << "message: " << message << "\nexpected: " << part;
    EXPECT_LT(message.size(), 400u);
}

struct Case {
    std::string part;  // of the message
    std::function<void(Json&)> change;
};

Json split_by(const Json& regex, const char* behavior = "Isolated") {
    return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", behavior}, {"invert", false}};
}

Json steps(const Json& first, bool use_regex = false) {
    const Json last = {{"type", "ByteLevel"}, {"use_regex", use_regex}};
    return {{"type", "Sequence"}, {"pretokenizers", {first, last}}};
}

TEST(HostileTokenizer, each_wrong_member_is_named) {
    const std::vector<Case> cases = {
        {"f.json: model: must be an object, but is null", [](Json& j) { j.erase("model"); }},
        {"model: must be an object, but is an array of 0", [](Json& j) { j["model"] = Json::array(); }},
        {"type \"Unigram\" is not supported; Kiln supports BPE", [](Json& j) { j["model"]["type"] = "Unigram"; }},
        {"\"type\" must be a string, is 3", [](Json& j) { j["model"]["type"] = 3; }},
        {"\"dropout\" is 0.1, which Kiln does not support", [](Json& j) { j["model"]["dropout"] = 0.1; }},
        {"\"byte_fallback\" must be true or false, is 1", [](Json& j) { j["model"]["byte_fallback"] = 1; }},
        {"\"end_of_word_suffix\" is \"</w>\"", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }},
        {"\"ignore_merges\" must be true or false, is 1", [](Json& j) { j["model"]["ignore_merges"] = 1; }},
        {"model.vocab: must be an object of tokens and ids, but is null", [](Json& j) { j["model"].erase("vocab"); }},
        {"the vocabulary is empty",
         [](Json& j) {
             j["model"]["vocab"] = Json::object();
             j["added_tokens"] = Json::array();
         }},
        {"token \"b\": its id must be a whole number from 0 to 2147483647, is \"5\"",
         [](Json& j) { j["model"]["vocab"]["b"] = "5"; }},
        {"token \"b\": its id must be a whole number from 0 to 2147483647, is 1.5",
         [](Json& j) { j["model"]["vocab"]["b"] = 1.5; }},
        {"token \"b\": its id must be a whole number from 0 to 2147483647, is -1",
         [](Json& j) { j["model"]["vocab"]["b"] = -1; }},
        {"its id must be a whole number from 0 to 2147483647, is 18446744073709551615",
         [](Json& j) { j["model"]["vocab"]["b"] = 18446744073709551615u; }},
        {"has id 2147483647, but there are only", [](Json& j) { j["model"]["vocab"]["b"] = 2147483647; }},
        {"have the same id 5", [](Json& j) { j["model"]["vocab"]["b"] = 5; }},
        {"has id 9000, but there are only", [](Json& j) { j["model"]["vocab"]["b"] = 9000; }},
        {"a token is empty", [](Json& j) { j["model"]["vocab"][""] = 999; }},
        {"model: \"merges\" must be an array, but is missing", [](Json& j) { j["model"].erase("merges"); }},
        {"merge 0 must be [\"left\", \"right\"]", [](Json& j) { j["model"]["merges"][0] = 7; }},
        {"merge 0 must be [\"left\", \"right\"]", [](Json& j) { j["model"]["merges"][0] = "ab"; }},
        {"merge 0 must be [\"left\", \"right\"]", [](Json& j) { j["model"]["merges"][0] = "a b c"; }},
        {"merge 0 must be [\"left\", \"right\"]",
         [](Json& j) {
             j["model"]["merges"][0] = {"a", "b", "c"};
         }},
        {"merge 0 names the token \"zz\", which is not in the vocabulary",
         [](Json& j) {
             j["model"]["merges"][0] = {"a", "zz"};
         }},
        {"merge 0 joins tokens",
         [](Json& j) {
             j["model"]["merges"][0] = {"q", "q"};
         }},
        {"\"added_tokens\" must be an array, is \"x\"", [](Json& j) { j["added_tokens"] = "x"; }},
        {"added token 0: must be an object, but is 1", [](Json& j) { j["added_tokens"][0] = 1; }},
        {"added token 0: \"content\" must be a string", [](Json& j) { j["added_tokens"][0].erase("content"); }},
        {"added token 0: its id must be a whole number from 0 to 2147483647, is null",
         [](Json& j) { j["added_tokens"][0].erase("id"); }},
        {"\"special\" must be true or false, is \"yes\"", [](Json& j) { j["added_tokens"][0]["special"] = "yes"; }},
        {"\"lstrip\" must be true or false, is 1", [](Json& j) { j["added_tokens"][0]["lstrip"] = 1; }},
        {"normalizer: type \"Lowercase\" is not supported; Kiln supports none, NFC, NFKC",
         [](Json& j) {
             j["normalizer"] = {{"type", "Lowercase"}};
         }},
        {"normalizer: must be an object, but is \"NFC\"", [](Json& j) { j["normalizer"] = "NFC"; }},
        {"pre_tokenizer: none is not supported; Kiln supports ByteLevel", [](Json& j) { j.erase("pre_tokenizer"); }},
        {"pre_tokenizer: type \"Whitespace\" is not supported; Kiln supports ByteLevel",
         [](Json& j) {
             j["pre_tokenizer"] = {{"type", "Whitespace"}};
         }},
        {"\"pretokenizers\" must be an array, but is missing",
         [](Json& j) {
             j["pre_tokenizer"] = {{"type", "Sequence"}};
         }},
        {"step 1: type \"Metaspace\" is not supported here",
         [](Json& j) {
             j["pre_tokenizer"] = steps({{"type", "Metaspace"}});
         }},
        {"last step: type \"Split\" is not supported",
         [](Json& j) {
             j["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split_by("a")}}};
         }},
        {"step 1: behavior \"Removed\" with invert false is not supported",
         [](Json& j) { j["pre_tokenizer"] = steps(split_by("a", "Removed")); }},
        {"step 1: pattern: \"Regex\" must be a string, is 7", [](Json& j) { j["pre_tokenizer"] = steps(split_by(7)); }},
        {"step 1: pattern: \"(a\" is not a regular expression: missing closing parenthesis",
         [](Json& j) { j["pre_tokenizer"] = steps(split_by("(a")); }},
        {"decoder: type \"WordPiece\" is not supported", [](Json& j) { j["decoder"]["type"] = "WordPiece"; }},
    };
    for (const Case& c : cases) {
        Json json = valid();
        c.change(json);
        expect_error(json.dump(), c.part);
    }
}

TEST(HostileTokenizer, what_is_not_json_is_named_with_its_place) {
    expect_error("", "byte 1 of 0: not JSON, or cut short");
    expect_error("hello", "byte 1 of 5: not JSON");
    expect_error("{\"model\": {\"vocab\": {\"\xFF\": 1}}}", "not JSON");
    expect_error("{\"model\": 1e999999}", "holds a number beyond those of a double");
    expect_error("[1, 2]", "must be an object, but is an array of 2");
    expect_error(std::string(1000, '\0'), "not JSON");
    expect_error("{\"a\": \"" + std::string(1 << 20, 'x'), "not JSON");  // and the message does not repeat it
}

TEST(HostileTokenizer, every_truncation_is_an_error) {
    const std::string text = valid().dump();
    for (size_t length = 0; length < text.size(); length += 1 + length / 200) {
        ASSERT_NE(error_of([&] { Tokenizer::parse(text.substr(0, length), "f.json"); }), "") << length;
    }
}

TEST(HostileTokenizer, deep_nesting_is_refused_at_its_byte) {
    expect_error(std::string(10000000, '['), "byte 64: nested deeper than 64 levels");
    expect_error("{\"normalizer\":" + std::string(100000, '{'), "nested deeper than 64 levels");
}

TEST(HostileTokenizer, long_names_are_quoted_in_part) {
    Json json = valid();
    json["model"]["vocab"]["b"] = 5;
    json["model"]["vocab"].erase("c");
    json["model"]["vocab"][std::string(1 << 20, 'y')] = 6;
    expect_error(json.dump(), "have the same id");
}

TEST(HostileTokenizer, flipped_bytes_load_or_are_an_error) {
    const std::string text = valid().dump();
    std::mt19937 random(4);
    int refused = 0;
    for (int round = 0; round < 3000; ++round) {
        std::string broken = text;
        for (int flips = 1 + random() % 3; flips > 0; --flips) {
            broken[random() % broken.size()] ^= static_cast<char>(1u << random() % 8);
        }
        try {
            Tokenizer::parse(broken, "f.json").encode("one two three <|endoftext|>");
        } catch (const Error&) {
            ++refused;
        }  // any other exception fails the test
    }
    EXPECT_GT(refused, 1000);
}

TEST(HostileTokenizer, directories_without_their_files_say_what_is_missing) {
    const TempDirectory directory;
    const auto message = [&] { return error_of([&] { Tokenizer::load(directory.path()); }); };
    EXPECT_NE(message().find("holds no tokenizer.json, nor vocab.json with merges.txt"), std::string::npos);
    directory.write("vocab.json", "{\"a\": 0, \"b\": 1, \"ab\": 2}");
    EXPECT_NE(message().find("holds no tokenizer.json"), std::string::npos);
    directory.write("merges.txt", "#version: 0.2\r\na b\r\n");
    EXPECT_EQ(message(), "");
    EXPECT_EQ(Tokenizer::load(directory.path()).encode("ab"), std::vector<int>{2});
    directory.write("merges.txt", "#version: 0.2\na b\nab\n");
    EXPECT_NE(message().find("merges.txt: line 3 must be two tokens and one space, but is \"ab\""), std::string::npos);
    directory.write("merges.txt", "#version: 0.2\na c\n");
    EXPECT_NE(message().find("merges.txt: line 2 names the token \"c\""), std::string::npos);
    directory.write("vocab.json", "{\"a\": 0, \"b\": 0}");
    EXPECT_NE(message().find("vocab.json: tokens \"a\" and \"b\" have the same id 0"), std::string::npos);
    EXPECT_NE(error_of([&] { Tokenizer::load(directory / "none"); }).find("no such tokenizer"), std::string::npos);
}

}  // namespace
}  // namespace kiln
