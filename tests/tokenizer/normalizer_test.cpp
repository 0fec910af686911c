#include "tokenizer/unicode/normalizer.h"

#include <gtest/gtest.h>

#include <utility>

#include "cpu_reference/interface/error.h"
#include "tests/support/random_text.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/io/sha256.h"
#include "tokenizer/unicode/tables.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

std::string normal_form(const Normalizer& normalizer, std::string_view text) {
    std::string buffer;
    return std::string(normalizer.normalize(text, buffer));
}

std::string hash_of_all_code_points(NormalizerKind kind) {
    const Normalizer normalizer(kind);
    Fnv1a hash;
    for (uint32_t c = 0; c <= kMaxCodePoint; ++c) {
        if (c >= 0xD800 && c < 0xE000) continue;
        std::string text;
        append_utf8(text, c);
        hash.add(normal_form(normalizer, text));
    }
    return hash.hex();
}

TEST(Normalizer, nfc_composes_and_nfkc_also_folds_width) {
    EXPECT_EQ(normal_form(Normalizer(NormalizerKind::kNfc), "e\u0301\uff0c"), "\u00e9\uff0c");
    EXPECT_EQ(normal_form(Normalizer(NormalizerKind::kNfkc), "e\u0301\uff0c\u2460"), "\u00e9,1");
}

TEST(Normalizer, none_changes_nothing_not_even_invalid_bytes) {
    EXPECT_EQ(normal_form(Normalizer(), "e\u0301\xFF"), "e\u0301\xFF");
}

TEST(Normalizer, every_code_point_has_hugging_faces_nfc) {
    EXPECT_EQ(hash_of_all_code_points(NormalizerKind::kNfc), fixture_hash("nfc"));
}

TEST(Normalizer, every_code_point_has_hugging_faces_nfkc) {
    EXPECT_EQ(hash_of_all_code_points(NormalizerKind::kNfkc), fixture_hash("nfkc"));
}

TEST(Normalizer, sequences_that_compose_and_reorder_match_hugging_face) {
    const Normalizer nfc(NormalizerKind::kNfc), nfkc(NormalizerKind::kNfkc);
    const auto lines = fixture_lines("normal_forms.jsonl");
    ASSERT_GE(lines.size(), 100u);
    for (const auto& line : lines) {
        const std::string text = line.at("text");
        EXPECT_EQ(normal_form(nfc, text), line.at("nfc").get<std::string>());
        EXPECT_EQ(normal_form(nfkc, text), line.at("nfkc").get<std::string>());
    }
}

TEST(Normalizer, a_million_random_strings_and_characters_among_others_match_hugging_face) {
    const auto fixture = nlohmann::json::parse(slurp(tokenizer_fixture("normal_forms.json")));
    const Alphabet alphabet(fixture.at("texts"), fixture.at("weight"));
    const size_t strings = fixture.at("strings"), longest = fixture.at("longest");
    const Normalizer nfc(NormalizerKind::kNfc), nfkc(NormalizerKind::kNfkc);
    const auto digits = [](const std::string& bytes) { return hex(sha256(bytes)).substr(0, 16); };
    std::string nfc_forms, nfkc_forms;
    const auto add = [&](const std::string& text) {
        nfc_forms += normal_form(nfc, text) + '\0';
        nfkc_forms += normal_form(nfkc, text) + '\0';
    };
    const auto compare = [&](size_t block) {
        EXPECT_EQ(digits(std::exchange(nfc_forms, {})), fixture.at("hashes")[block][0].get<std::string>())
            << "NFC of block " << block;
        EXPECT_EQ(digits(std::exchange(nfkc_forms, {})), fixture.at("hashes")[block][1].get<std::string>())
            << "NFKC of block " << block;
    };
    constexpr size_t kBlocks = 64;
    ASSERT_EQ(kBlocks * strings, 1000000u);
    for (size_t block = 0; block < kBlocks; ++block) {
        SplitMix64 random(1000 + block);
        for (size_t i = 0; i < strings; ++i) add(alphabet.string(random, longest));
        compare(block);
    }
    for (uint32_t c = 0; c < 0x33500; ++c) {  // among marks of several classes, and letters that compose
        if (c >= 0xD800 && c < 0xE000) continue;
        std::string s;
        append_utf8(s, c);
        add("a\u0331" + s + "\u0301\u0345" + s + "\u05b0\u1100" + s + "\u1161\u3099");
    }
    compare(kBlocks);
}

TEST(Normalizer, text_that_is_not_utf8_is_refused_with_its_offset) {
    const std::string message = error_of([] { normal_form(Normalizer(NormalizerKind::kNfc), "caf\u00e9 \xE9t\xE9"); });
    EXPECT_NE(message.find("byte 6 of the text is not UTF-8"), std::string::npos) << message;
}

TEST(Normalizer, names_are_parsed_and_unknown_ones_refused) {
    for (const auto kind : {NormalizerKind::kNone, NormalizerKind::kNfc, NormalizerKind::kNfkc}) {
        EXPECT_EQ(parse_normalizer(normalizer_name(kind)), kind);
    }
    EXPECT_THROW(parse_normalizer("NFD"), UsageError);
}

}  // namespace
}  // namespace kiln
