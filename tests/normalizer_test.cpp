#include "tokenizer/normalizer.h"

#include <gtest/gtest.h>

#include "cpu_reference/error.h"
#include "tests/temp_directory.h"
#include "tests/tokenizer_fixtures.h"
#include "tokenizer/unicode_tables.h"
#include "tokenizer/utf8.h"

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
