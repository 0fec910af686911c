#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>

#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/tokenizer.h"

namespace kiln {
namespace {

using Spans = std::vector<TextSpan>;

const Tokenizer& fixture(const std::string& name) {
    static std::map<std::string, Tokenizer> loaded;
    const auto found = loaded.find(name);
    if (found != loaded.end()) return found->second;
    return loaded.emplace(name, Tokenizer::load(tokenizer_fixture(name + ".json"))).first->second;
}

// How many characters begin before byte `at`.
size_t characters(std::string_view text, size_t at) {
    return static_cast<size_t>(
        std::count_if(text.begin(), text.begin() + at, [](char c) { return (c & 0xC0) != 0x80; }));
}

TEST(Offsets, are_hugging_faces_in_characters) {
    const auto lines = fixture_lines("offsets.jsonl");
    ASSERT_GT(lines.size(), 50u);
    for (const auto& line : lines) {
        const auto text = line.at("text").get<std::string>();
        const Encoding encoding = fixture(line.at("tokenizer")).encode_with_offsets(text, {.allow_special = true});
        ASSERT_EQ(encoding.ids, line.at("ids").get<std::vector<int>>()) << text;
        ASSERT_EQ(encoding.spans.size(), encoding.ids.size());
        for (size_t i = 0; i < encoding.ids.size(); ++i) {
            const auto [begin, end] = encoding.spans[i];
            // A token within a character: they count the whole character.
            const size_t first = characters(text, begin + 1) - 1, last = characters(text, end);
            const auto expected = line.at("offsets").at(i).get<std::array<size_t, 2>>();
            if (begin == end) continue;  // a space put in front: they say that it is the first character
            EXPECT_EQ((std::array{first, last}), expected) << text << " token " << i;
        }
    }
}

TEST(Offsets, cover_the_text_without_gaps_when_nothing_is_normalized) {
    std::mt19937 random(41);
    for (const char* name : {"english", "code", "runs"}) {
        for (int round = 0; round < 300; ++round) {
            const std::string text = random_bytes(random, random() % 60);
            const Encoding encoding = fixture(name).encode_with_offsets(text);
            ASSERT_EQ(encoding.ids, fixture(name).encode(text));
            size_t end = 0;
            for (size_t i = 0; i < encoding.ids.size(); ++i) {
                const TextSpan span = encoding.spans[i];
                ASSERT_EQ(span.begin, end);
                end = span.end;
                const std::string_view bytes = fixture(name).token_bytes(encoding.ids[i]);
                const std::string own = text.substr(span.begin, span.end - span.begin);
                ASSERT_TRUE(bytes == own || bytes == " " + own);  // "runs" puts a space in front
            }
            ASSERT_EQ(end, text.size());
        }
    }
}

TEST(Offsets, a_space_put_in_front_is_in_no_span) {
    const Encoding encoding = fixture("runs").encode_with_offsets("~a");
    ASSERT_GE(encoding.ids.size(), 2u);
    EXPECT_EQ(fixture("runs").token_bytes(encoding.ids[0]), " ");
    EXPECT_EQ(encoding.spans[0], (TextSpan{0, 0}));
    EXPECT_EQ(encoding.spans[1], (TextSpan{0, 1}));
    EXPECT_EQ(fixture("runs").encode_with_offsets("~a", {.continues = true}).spans[0], (TextSpan{0, 1}));
}

// The vocabulary is a, b, ab (a special token) and abb; unknown bytes become an a, which merges.
TEST(Offsets, of_merged_unk_tokens_are_those_of_all_their_bytes) {
    nlohmann::json json = nlohmann::json::parse(slurp(tokenizer_fixture("exhausted.json")));
    json["added_tokens"] = {{{"id", 2}, {"content", "ab"}, {"normalized", false}, {"special", true}}};
    json["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"ab", 2}, {"abb", 3}};
    json["model"]["merges"] = {"a b", "ab b"};
    json["model"]["unk_token"] = "a";
    json["model"]["fuse_unk"] = true;
    const Tokenizer tokenizer = Tokenizer::parse(json.dump(), "test");
    const auto expect = [&](const char* text, bool allow_special, std::vector<int> ids, std::vector<TextSpan> spans) {
        const Encoding encoding = tokenizer.encode_with_offsets(text, {.allow_special = allow_special});
        EXPECT_EQ(encoding.ids, ids) << text;
        EXPECT_EQ(encoding.spans, spans) << text;
    };
    expect("a\u00e9bb", false, {0, 3}, {{0, 1}, {1, 5}});
    expect("\u00e9b", true, {2}, {{0, 3}});
    expect("\u00e9b", false, {0, 1}, {{0, 2}, {2, 3}});
    expect("ab", false, {0, 1}, {{0, 1}, {1, 2}});
}

TEST(Offsets, normalized_characters_point_to_what_they_were) {
    // NFKC: U+FF11 (three bytes) becomes 1, U+3332 (three bytes) five characters, e and U+0301 one.
    const std::string text = "\uff11 e\u0301 \u3332";
    const Encoding encoding = fixture("han_nfkc").encode_with_offsets(text);
    ASSERT_EQ(fixture("han_nfkc").decode(encoding.ids), "1 \u00e9 \u30d5\u30a1\u30e9\u30c3\u30c9");
    EXPECT_EQ(encoding.spans.front(), (TextSpan{0, 3}));
    EXPECT_EQ(encoding.spans.back(), (TextSpan{8, 11}));
    for (const TextSpan& span : encoding.spans) {
        // No span ends within what composed or was taken apart.
        for (const size_t edge : {span.begin, span.end})
            EXPECT_TRUE(edge != 1 && edge != 2 && edge != 5 && edge != 9 && edge != 10);
    }
}

}  // namespace
}  // namespace kiln
