// tokenizer.json files of the shapes of published models: parity with Hugging Face's ids, and saved without a change.
// Also special tokens in text, as in tiktoken, and round trips of any bytes.
#include <gtest/gtest.h>

#include <random>

#include "tests/support/parity_subject.h"
#include "tests/support/random_text.h"

namespace kiln {
namespace {

using Json = nlohmann::ordered_json;

Json shapes() {
    return Json::parse(slurp(tokenizer_fixture("shapes.json")));
}

Tokenizer tokenizer_of(const Json& row) {
    Json json = Json::parse(slurp(tokenizer_fixture("parity.json")));
    json.update(row.at("shape"));
    json["model"]["ignore_merges"] = row.at("ignore_merges");
    return Tokenizer::parse(json.dump(), "shape");
}

std::vector<std::string> strings_with(const Json& settings, const Json& texts) {
    const Alphabet alphabet(texts, settings.at("weight"));
    SplitMix64 random(31);
    std::vector<std::string> strings(settings.at("strings").get<size_t>());
    for (std::string& text : strings) text = alphabet.string(random, settings.at("longest"));
    return strings;
}

// Hashes of the ids without and with special tokens.
Json hashes(const Tokenizer& tokenizer, const std::vector<std::string>& strings) {
    RowHash plain, special;
    for (const std::string& text : strings) {
        plain.add(tokenizer.encode(text));
        special.add(tokenizer.encode(text, {.allow_special = true}));
    }
    return {plain.digits(), special.digits()};
}

TEST(TokenizerShapes, published_shapes_have_hugging_faces_ids_and_are_written_as_they_were) {
    const Json all = shapes();
    ASSERT_GT(all.at("shapes").size(), 12u);
    for (const auto& [name, row] : all.at("shapes").items()) {
        const Tokenizer tokenizer = tokenizer_of(row);
        EXPECT_EQ(hashes(tokenizer, strings_with(all, row.at("texts"))), row.at("ids"))
            << name << ": see where with: build/venv/bin/python dev/fixtures/make_shape_fixtures.py --explain " << name
            << " > FILE; KILN_SHAPE_LINES=FILE build/tests/tokenizer/published_shapes_test";
        EXPECT_EQ(hex(sha256(tokenizer.to_json())).substr(0, 16), row.at("saved").get<std::string>()) << name;
    }
}

TEST(TokenizerShapes, explained_strings_have_hugging_faces_ids) {
    const char* const path = std::getenv("KILN_SHAPE_LINES");
    if (!path) GTEST_SKIP() << "for the lines that make_shape_fixtures.py --explain writes";
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        const Json json = Json::parse(line);
        static const Tokenizer tokenizer = tokenizer_of(shapes().at("shapes").at(json.at("shape").get<std::string>()));
        const std::string text = json.at("text");
        ASSERT_EQ(Json(tokenizer.encode(text)), json.at("ids")) << line;
        ASSERT_EQ(Json(tokenizer.encode(text, {.allow_special = true})), json.at("special_ids")) << line;
    }
}

class EveryPreTokenizer : public testing::TestWithParam<std::string> {
protected:
    static Tokenizer by_ranks(const std::vector<SpecialToken>& special = {}) {
        return make_tokenizer(parse_tiktoken(slurp(tokenizer_fixture("parity.tiktoken")), "parity.tiktoken",
                                             {.last = PreTokenizer::parse(GetParam(), "test")}, special),
                              "parity.tiktoken");
    }
};

TEST_P(EveryPreTokenizer, special_tokens_in_text_have_tiktokens_ids) {
    const Json all = shapes(), expected = all.at("tiktoken");
    std::vector<SpecialToken> special;
    for (const auto& [content, id] : expected.at("special_tokens").items()) special.push_back({content, id});
    const Tokenizer tokenizer = by_ranks(special);
    EXPECT_EQ(hashes(tokenizer, strings_with(all, expected.at("texts"))), expected.at("hashes").at(GetParam()));
}

TEST_P(EveryPreTokenizer, any_bytes_come_back) {
    const Tokenizer tokenizer = by_ranks();
    const auto check = [&](const std::string& text) { ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text); };
    for (int a = 0; a < 256; ++a) {
        check(std::string(1, static_cast<char>(a)));
        for (int b = 0; b < 256; ++b) check({static_cast<char>(a), static_cast<char>(b)});
    }
    std::string all;
    for (uint32_t c = 0; c <= kMaxCodePoint; ++c) {
        if (c < 0xD800 || c > 0xDFFF) append_utf8(all, c);
    }
    check(all);
    std::mt19937 random(4);
    const Alphabet alphabet;
    SplitMix64 awkward(5);
    for (int round = 0; round < 30000; ++round) {
        std::string text = alphabet.string(awkward, 20);
        for (size_t flips = random() % 4; flips > 0; --flips)
            text[random() % text.size()] = static_cast<char>(random());
        check(text);
        check(random_bytes(random, random() % 40));
    }
}

TEST_P(EveryPreTokenizer, stream_shows_whole_characters_and_loses_none) {
    const Tokenizer tokenizer = by_ranks();
    const Alphabet alphabet;
    SplitMix64 random(6);
    for (int round = 0; round < 5000; ++round) {
        const std::string text = alphabet.string(random, 20);
        DecodeStream stream(tokenizer);
        std::string shown;
        for (const int id : tokenizer.encode(text)) {
            const std::string part = stream.push(id);
            ASSERT_EQ(find_invalid_utf8(part), std::nullopt) << text;
            shown += part;
        }
        ASSERT_EQ(shown, text);
        ASSERT_EQ(stream.finish(), "");
    }
}

INSTANTIATE_TEST_SUITE_P(PreTokenizers, EveryPreTokenizer, pre_tokenizers_to_compare(), pre_tokenizer_name);

}  // namespace
}  // namespace kiln
