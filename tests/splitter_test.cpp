#include "tokenizer/splitter.h"

#include <gtest/gtest.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <random>

#include "cpu_reference/error.h"
#include "tests/tokenizer_fixtures.h"

namespace kiln {
namespace {

std::vector<std::string> pieces(std::string_view text) {
    std::vector<std::string> result;
    split(SplitterKind::kGpt2, text, [&](std::string_view piece) { result.emplace_back(piece); });
    return result;
}

using Pieces = std::vector<std::string>;

// PCRE2 knows \s differently, so the 25 White_Space characters are spelled out.
const std::string kSpace =
    "\\x{09}-\\x{0D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";

class Pcre {
public:
    explicit Pcre(const std::string& pattern) {
        int error;
        PCRE2_SIZE at;
        code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &error, &at, nullptr);
        if (!code_) throw std::runtime_error("PCRE2 does not take the pattern, offset " + std::to_string(at));
        match_ = pcre2_match_data_create_from_pattern(code_, nullptr);
    }
    Pcre(const Pcre&) = delete;
    ~Pcre() {
        pcre2_match_data_free(match_);
        pcre2_code_free(code_);
    }
    // End of the match that starts at `start`, or npos.
    size_t match(const std::string& text, size_t start) {
        const int found = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start,
                                      PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, match_, nullptr);
        return found < 0 ? std::string::npos : pcre2_get_ovector_pointer(match_)[1];
    }

private:
    pcre2_code* code_;
    pcre2_match_data* match_;
};

std::string utf8(uint32_t code_point) {
    std::string text;
    append_utf8(text, code_point);
    return text;
}

bool is_surrogate(uint32_t code_point) {
    return code_point >= 0xD800 && code_point < 0xE000;
}

TEST(Splitter, words_take_one_space_and_contractions_stand_alone) {
    EXPECT_EQ(pieces("Hello world, it's 42!"), (Pieces{"Hello", " world", ",", " it", "'s", " 42", "!"}));
    EXPECT_EQ(pieces("they'll we'RE I'd'"), (Pieces{"they", "'ll", " we", "'", "RE", " I", "'d", "'"}));
}

TEST(Splitter, white_space_leaves_its_last_character_to_what_follows) {
    EXPECT_EQ(pieces("a  b"), (Pieces{"a", " ", " b"}));
    EXPECT_EQ(pieces("a \n\nb"), (Pieces{"a", " \n", "\n", "b"}));
    EXPECT_EQ(pieces("a\tb  "), (Pieces{"a", "\t", "b", "  "}));
    EXPECT_EQ(pieces("a\u00a0\u3000b"), (Pieces{"a", "\u00a0", "\u3000", "b"}));
}

TEST(Splitter, empty_text_has_no_pieces) {
    EXPECT_EQ(pieces(""), Pieces{});
}

TEST(Splitter, hugging_face_fixture_has_the_same_pieces) {
    const auto lines = fixture_lines("splits.jsonl");
    ASSERT_GT(lines.size(), 100u);
    for (const auto& line : lines)
        EXPECT_EQ(pieces(line.at("text").get<std::string>()), line.at("pieces").get<Pieces>());
}

TEST(Splitter, classes_of_all_code_points_are_hugging_faces) {
    Fnv1a hash;
    for (uint32_t c = 0; c <= kMaxCodePoint; ++c) {
        hash.add(std::string(1, static_cast<char>(is_surrogate(c) ? CharClass::kOther : char_class(c))));
    }
    EXPECT_EQ(hash.hex(), fixture_hash("char_classes"));
}

TEST(Splitter, classes_differ_from_pcre2_only_where_it_has_no_character_yet) {
    Pcre letter("\\p{L}"), number("\\p{N}"), space("[" + kSpace + "]"), unassigned("\\p{Cn}");
    int assigned = 0;
    for (uint32_t c = 0; c <= kMaxCodePoint; ++c) {
        if (is_surrogate(c)) continue;
        const std::string text = utf8(c);
        if (unassigned.match(text, 0) != std::string::npos) continue;
        ++assigned;
        const CharClass expected = letter.match(text, 0) != std::string::npos   ? CharClass::kLetter
                                   : number.match(text, 0) != std::string::npos ? CharClass::kNumber
                                   : space.match(text, 0) != std::string::npos  ? CharClass::kSpace
                                                                                : CharClass::kOther;
        ASSERT_EQ(char_class(c), expected) << "U+" << std::hex << c;
    }
    EXPECT_GT(assigned, 250000);
}

TEST(Splitter, random_text_splits_as_pcre2_splits_it) {
    Pcre gpt2("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" + kSpace + "\\p{L}\\p{N}]+|[" + kSpace + "]+(?![^" +
              kSpace + "])|[" + kSpace + "]+");
    Pcre unassigned("\\p{Cn}");
    std::mt19937 random(1);
    std::vector<std::string> alphabet;
    for (int i = 0; i < 30; ++i) alphabet.insert(alphabet.end(), {" ", "'", "\n", "s", "l", "r", "e"});
    for (uint32_t c = 1; c < 128; ++c) alphabet.push_back(utf8(c));
    for (const uint32_t c : {0x85, 0xA0, 0x1680, 0x2003, 0x2028, 0x202F, 0x205F, 0x3000, 0x200B, 0xFEFF, 0x180E}) {
        alphabet.push_back(utf8(c));
    }
    while (alphabet.size() < 1000) {
        const uint32_t c = random() % (alphabet.size() % 2 ? 0x3000u : kMaxCodePoint);
        if (!is_surrogate(c) && c > 0 && unassigned.match(utf8(c), 0) == std::string::npos) alphabet.push_back(utf8(c));
    }
    for (int round = 0; round < 20000; ++round) {
        std::string text;
        for (size_t n = random() % 30; n > 0; --n) text += alphabet[random() % alphabet.size()];
        Pieces expected;
        for (size_t start = 0; start < text.size();) {
            const size_t end = gpt2.match(text, start);
            ASSERT_NE(end, std::string::npos);
            expected.push_back(text.substr(start, end - start));
            start = end;
        }
        ASSERT_EQ(pieces(text), expected) << text;
    }
}

TEST(Splitter, invalid_utf8_is_split_without_loss) {
    std::mt19937 random(2);
    for (int round = 0; round < 5000; ++round) {
        const std::string text = random_bytes(random, random() % 20);
        std::string joined;
        for (const std::string& piece : pieces(text)) {
            EXPECT_FALSE(piece.empty());
            joined += piece;
        }
        ASSERT_EQ(joined, text);
    }
    // A byte that starts no character counts as punctuation, and so does a character that is cut short.
    EXPECT_EQ(pieces("a\xFF\x80 b\xE4\xB8"), (Pieces{"a", "\xFF\x80", " b", "\xE4\xB8"}));
}

TEST(Splitter, unknown_name_is_refused_with_those_there_are) {
    EXPECT_EQ(parse_splitter(splitter_name(SplitterKind::kGpt2)), SplitterKind::kGpt2);
    try {
        parse_splitter("whitespace");
        FAIL();
    } catch (const UsageError& error) {
        EXPECT_STREQ(error.what(), "pre-tokenizer \"whitespace\" is not known; there is: gpt2");
    }
}

TEST(UnicodeTables, version_is_the_one_hugging_face_fits) {
    EXPECT_STREQ(kUnicodeVersion, "16.0.0");
}

TEST(Utf8, decoding_accepts_exactly_what_encoding_makes) {
    for (uint32_t c = 0; c <= kMaxCodePoint; ++c) {
        const std::string text = utf8(c);
        uint32_t decoded = 0;
        const int length = decode_utf8(text.data(), text.data() + text.size(), decoded);
        if (is_surrogate(c)) {
            ASSERT_EQ(length, 0);
            continue;
        }
        ASSERT_EQ(length, static_cast<int>(text.size()));
        ASSERT_EQ(decoded, c);
        for (size_t cut = 1; cut < text.size(); ++cut) {
            ASSERT_EQ(decode_utf8(text.data(), text.data() + cut, decoded), 0);
            ASSERT_EQ(incomplete_utf8_tail(concat("x", text.substr(0, cut))), cut);
        }
        ASSERT_EQ(incomplete_utf8_tail(text), 0u);
    }
}

TEST(Utf8, invalid_bytes_are_found_at_their_offset) {
    EXPECT_EQ(find_invalid_utf8("plain ASCII, longer than eight bytes, \u6f22\u5b57 \U0001F600"), std::nullopt);
    EXPECT_EQ(find_invalid_utf8("abc\xC3\xA9\xFFz"), 5u);
    EXPECT_EQ(find_invalid_utf8("0123456789\xC3"), 10u);
    for (const char* bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
                            "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"}) {
        EXPECT_EQ(find_invalid_utf8(bad), 0u) << bad;
        EXPECT_EQ(incomplete_utf8_tail(bad), 0u) << bad;
    }
}

}  // namespace
}  // namespace kiln
