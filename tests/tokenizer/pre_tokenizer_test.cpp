#include "tokenizer/pre_tokenizer/pre_tokenizer.h"

#include <gtest/gtest.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <random>

#include "cpu_reference/interface/error.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tests/support/words.h"
#include "tokenizer/io/sha256.h"

namespace kiln {
namespace {

Words words(std::string_view text, PreTokenizerKind kind = PreTokenizerKind::kGpt2) {
    return words_of(PreTokenizer(kind), text);
}

std::vector<PreTokenizer> scanners() {
    std::vector<PreTokenizer> result;
    for (const auto& named : named_pre_tokenizers()) {
        if (!named.regexes.empty()) result.emplace_back(named.kind);
    }
    return result;
}

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

TEST(PreTokenizer, words_take_one_space_and_contractions_stand_alone) {
    EXPECT_EQ(words("Hello world, it's 42!"), (Words{"Hello", " world", ",", " it", "'s", " 42", "!"}));
    EXPECT_EQ(words("they'll we'RE I'd'"), (Words{"they", "'ll", " we", "'", "RE", " I", "'d", "'"}));
}

TEST(PreTokenizer, white_space_leaves_its_last_character_to_what_follows) {
    EXPECT_EQ(words("a  b"), (Words{"a", " ", " b"}));
    EXPECT_EQ(words("a \n\nb"), (Words{"a", " \n", "\n", "b"}));
    EXPECT_EQ(words("a\tb  "), (Words{"a", "\t", "b", "  "}));
    EXPECT_EQ(words("a\u00a0\u3000b"), (Words{"a", "\u00a0", "\u3000", "b"}));
}

TEST(PreTokenizer, empty_text_has_no_words) {
    EXPECT_EQ(words(""), Words{});
}

TEST(PreTokenizer, hugging_face_fixture_has_the_same_words) {
    const auto lines = fixture_lines("splits.jsonl");
    ASSERT_GT(lines.size(), 100u);
    for (const auto& line : lines) EXPECT_EQ(words(line.at("text").get<std::string>()), line.at("words").get<Words>());
}

TEST(PreTokenizer, classes_of_all_code_points_are_hugging_faces) {
    Fnv1a hash;
    for (uint32_t c = 0; c <= kMaxCodePoint; ++c) {
        hash.add(std::string(1, static_cast<char>(is_surrogate(c) ? CharClass::kOther : char_class(c))));
    }
    EXPECT_EQ(hash.hex(), fixture_hash("char_classes"));
}

TEST(PreTokenizer, classes_differ_from_pcre2_only_where_it_has_no_character_yet) {
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

TEST(PreTokenizer, random_text_splits_as_pcre2_splits_it) {
    Pcre unassigned("\\p{Cn}");
    std::mt19937 random(1);
    Words alphabet;
    for (int i = 0; i < 30; ++i)
        alphabet.insert(alphabet.end(), {" ", "'", "\n", "s", "S", "l", "r", "E", "1", "\u00e9"});
    for (int i = 0; i < 10; ++i) {  // capitals, small letters, letters without case, marks, the long s
        alphabet.insert(alphabet.end(),
                        {"\u00c9", "\u6f22", "\u01c5", "\u02b0", "\u0301", "\u017f", "\r", "/", "!", "\u3000"});
    }
    for (uint32_t c = 1; c < 128; ++c) alphabet.push_back(utf8(c));
    for (const uint32_t c : {0x85, 0xA0, 0x1680, 0x2003, 0x2028, 0x202F, 0x205F, 0x3000, 0x200B, 0xFEFF, 0x180E}) {
        alphabet.push_back(utf8(c));
    }
    while (alphabet.size() < 1300) {
        const uint32_t c = random() % (alphabet.size() % 2 ? 0x3000u : kMaxCodePoint);
        if (!is_surrogate(c) && c > 0 && unassigned.match(utf8(c), 0) == std::string::npos) alphabet.push_back(utf8(c));
    }
    for (const PreTokenizer& pre_tokenizer : scanners()) {
        const RegexSplitter regex(pre_tokenizer.regex(), "test", true);
        for (int round = 0; round < 20000; ++round) {
            std::string text;
            for (size_t n = random() % 30; n > 0; --n) text += alphabet[random() % alphabet.size()];
            ASSERT_EQ(words_of(pre_tokenizer, text), words_of(regex, text)) << text << "\n" << pre_tokenizer.regex();
        }
    }
}

TEST(PreTokenizer, every_pair_and_triple_of_awkward_characters_splits_as_pcre2_splits_it) {
    const Words awkward = {" ",      "\n",     "\r",     "\t",     "'", "s",      "S", "L", "v",      "E",     "a",
                           "\u00c9", "\u6f22", "\u01c5", "\u0301", "1", "\u00b2", "!", "/", "\u017f", "\u0085"};
    for (const PreTokenizer& pre_tokenizer : scanners()) {
        const RegexSplitter regex(pre_tokenizer.regex(), "test", true);
        for (size_t code = 0, n = awkward.size(); code < n * n * n * n; ++code) {
            std::string text;
            for (size_t rest = code, i = 0; i < 4; ++i, rest /= n) text += awkward[rest % n];
            ASSERT_EQ(words_of(pre_tokenizer, text), words_of(regex, text)) << text << "\n" << pre_tokenizer.regex();
        }
    }
}

TEST(PreTokenizer, kinds_differ_where_their_expressions_do) {
    const std::string text = "HTTPServer's 12345 don'T!\n\n x/\n  ";
    EXPECT_EQ(words(text, PreTokenizerKind::kLlama3),
              (Words{"HTTPServer", "'s", " ", "123", "45", " don", "'T", "!\n\n", " x", "/\n", "  "}));
    EXPECT_EQ(words(text, PreTokenizerKind::kQwen2),
              (Words{"HTTPServer", "'s", " ", "1", "2", "3", "4", "5", " don", "'T", "!\n\n", " x", "/\n", "  "}));
    EXPECT_EQ(words(text, PreTokenizerKind::kO200k),
              (Words{"HTTPServer's", " ", "123", "45", " don'T", "!\n\n", " x", "/\n", "  "}));
    EXPECT_EQ(words("camelCaseWord", PreTokenizerKind::kO200k), (Words{"camel", "Case", "Word"}));
    EXPECT_EQ(words("a\n  ", PreTokenizerKind::kLlama3), (Words{"a", "\n", "  "}));
    EXPECT_EQ(words("a\n  ", PreTokenizerKind::kCl100k), (Words{"a", "\n  "}));
    EXPECT_EQ(words("a b", PreTokenizerKind::kNone), (Words{"a b"}));
    EXPECT_EQ(words("", PreTokenizerKind::kNone), Words{});
}

TEST(PreTokenizer, published_expressions_are_recognised) {
    for (const auto& named : named_pre_tokenizers()) {
        for (const std::string& regex : named.regexes) {
            EXPECT_EQ(PreTokenizer::from_regex(regex, "test").kind(), named.kind) << regex;
        }
        EXPECT_EQ(PreTokenizer::parse(named.name, "test").name(), named.name);
    }
    // GPT-2's as tiktoken writes it.
    EXPECT_EQ(PreTokenizer::from_regex(
                  "'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^\\s\\p{L}\\p{N}]++|\\s++$|\\s+(?!\\S)|\\s", "test")
                  .kind(),
              PreTokenizerKind::kGpt2);
    EXPECT_EQ(PreTokenizer::from_regex("\\p{L}", "test").kind(), PreTokenizerKind::kRegex);
}

TEST(RegexSplitter, text_between_matches_is_a_word_or_dropped) {
    EXPECT_EQ(words_of(RegexSplitter("[0-9]+", "test", false), "ab12c3"), (Words{"ab", "12", "c", "3"}));
    EXPECT_EQ(words_of(RegexSplitter("[0-9]+", "test", true), "ab12c3"), (Words{"12", "3"}));
    EXPECT_EQ(words_of(RegexSplitter("[0-9]+", "test", false), ""), Words{});
    EXPECT_EQ(words_of(RegexSplitter("x*", "test", false), "ab\u6f22xxc"), (Words{"a", "b", "\u6f22", "xx", "c"}));
    EXPECT_EQ(words_of(RegexSplitter("(?=[A-Z])", "test", false), "aBcD"), (Words{"a", "Bc", "D"}));
}

TEST(RegexSplitter, lines_spaces_and_words_are_those_of_hugging_face) {
    EXPECT_EQ(words_of(RegexSplitter("^.", "test", false), "ab\ncd"), (Words{"a", "b\n", "c", "d"}));
    EXPECT_EQ(words_of(RegexSplitter("\\s", "test", true), "a\u0085b\u180ec\u3000"), (Words{"\u0085", "\u3000"}));
    EXPECT_EQ(words_of(RegexSplitter("[^\\S\\n]", "test", true), "a \n\u00a0"), (Words{" ", "\u00a0"}));
    EXPECT_EQ(words_of(RegexSplitter("\\w+", "test", true), "e\u0301_1-\u6f22"), (Words{"e\u0301_1", "\u6f22"}));
}

TEST(RegexSplitter, classes_hold_hugging_faces_code_points) {
    std::string all;
    for (uint32_t c = 0; c <= kMaxCodePoint; ++c) {
        if (!is_surrogate(c)) append_utf8(all, c);
    }
    const auto expected = nlohmann::json::parse(slurp(tokenizer_fixture("properties.json")));
    ASSERT_GT(expected.size(), 100u);
    for (const auto& [pattern, count_and_hash] : expected.items()) {
        std::string matched;  // three bytes a code point
        RegexSplitter(pattern + "+", "test", true).split(all, [&](std::string_view word) {
            for (const char *p = word.data(), *end = p + word.size(); p < end;) {
                uint32_t c = 0;
                p += decode_utf8(p, end, c);
                for (int shift = 0; shift < 24; shift += 8) matched += static_cast<char>(c >> shift & 255);
            }
        });
        EXPECT_EQ(matched.size() / 3, count_and_hash.at(0).get<size_t>()) << pattern;
        EXPECT_EQ(hex(sha256(matched)).substr(0, 16), count_and_hash.at(1).get<std::string>()) << pattern;
    }
}

TEST(RegexSplitter, invalid_utf8_never_matches_and_is_kept) {
    EXPECT_EQ(words_of(RegexSplitter("[\\s\\S]", "test", false), "a\xFF\xE4\xB8\nb"),
              (Words{"a", "\xFF\xE4\xB8", "\n", "b"}));
}

TEST(RegexSplitter, long_runs_neither_overflow_nor_become_quadratic) {
    const std::string run(1 << 20, 'a');
    EXPECT_EQ(words_of(RegexSplitter("\\p{L}+", "test", false), run), Words{run});
    EXPECT_EQ(words_of(RegexSplitter("(?:a|b)+", "test", false), run), Words{run});
}

std::string refusal(const std::string& name_or_pattern) {
    try {
        PreTokenizer::parse(name_or_pattern, "--pre-tokenizer");
    } catch (const UsageError& error) {
        return error.what();
    }
    return "";
}

TEST(RegexSplitter, what_engines_read_differently_is_refused) {
    EXPECT_EQ(
        refusal("\\p{N}{1,3}+"),
        "--pre-tokenizer: the regular expression has, at byte 9, \"}+\": + after a counted repetition does not mean "
        "the same to all engines; it is possessive in some engines and repeats in others; leave it out or use "
        "(?>...)");
    for (const char* pattern :
         {"\\h+", "a\\b", "[a[b]]", "[a-z&&[b]]", "(?m).", "(?s:.)", "\\pL", "[]a]", "(*COMMIT)a", "\\R"}) {
        EXPECT_NE(refusal(pattern).find("does not mean the same to all engines"), std::string::npos) << pattern;
    }
    EXPECT_EQ(refusal("(a"),
              "--pre-tokenizer: \"(a\" is not a regular expression: missing closing parenthesis (near byte 2)");
    EXPECT_EQ(refusal("a\\"),
              "--pre-tokenizer: \"a\\\" is not a regular expression: \\ at end of pattern (near byte 2)");
    for (const char* pattern : {"(?i:abc)", "(?<=a)b", "(?>a+)", "[\\]\\[]", "[^\\s\\p{L}]++", "a{2,3}", "\\p{Han}"}) {
        EXPECT_EQ(refusal(pattern), "") << pattern;
    }
}

TEST(RegexSplitter, catastrophic_expression_is_an_error) {
    const RegexSplitter regex("(?:a|aa)+[bc]", "test", false);
    EXPECT_THROW(words_of(regex, std::string(100, 'a')), Error);
}

TEST(PreTokenizer, invalid_utf8_is_split_without_loss) {
    std::mt19937 random(2);
    for (int round = 0; round < 5000; ++round) {
        const std::string text = random_bytes(random, random() % 20);
        std::string joined;
        for (const std::string& word : words(text)) {
            EXPECT_FALSE(word.empty());
            joined += word;
        }
        ASSERT_EQ(joined, text);
    }
    // An invalid byte counts as punctuation, and so does an incomplete character.
    EXPECT_EQ(words("a\xFF\x80 b\xE4\xB8"), (Words{"a", "\xFF\x80", " b", "\xE4\xB8"}));
}

TEST(PreTokenizer, unknown_name_is_refused_with_a_list_of_names) {
    EXPECT_EQ(PreTokenizer::parse("llama3", "test").kind(), PreTokenizerKind::kLlama3);
    EXPECT_EQ(refusal("whitespace"),
              "--pre-tokenizer: \"whitespace\" is not known; choose from: gpt2, cl100k, llama3, qwen2, o200k, none, or "
              "a regular expression");
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

// The right values are those of Python's bytes.decode(errors="replace"), with ? for U+FFFD.
TEST(Utf8, invalid_bytes_are_replaced_as_python_does) {
    const std::pair<const char*, const char*> cases[] = {{"plain", "plain"},
                                                         {"\x80", "?"},
                                                         {"\xC0\x80", "??"},
                                                         {"\xE0\x80\x80", "???"},
                                                         {"\xED\xA0\x80", "???"},
                                                         {"\xF4\x90\x80\x80", "????"},
                                                         {"\xF5\x80\x80\x80", "????"},
                                                         {"\xE6\x9C", "?"},
                                                         {"\xF0\x9F\x98", "?"},
                                                         {"\xE6\x9C\xE6\x9C\x88", "?\u6708"},
                                                         {"\xF0\x9F\x98\xC3\xA9\xC3", "?\u00E9?"},
                                                         {"a\xE6|\xE6\x9C|\xF0\x9F\x98|", "a?|?|?|"},
                                                         {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF|", "????|"}};
    for (const auto& [bytes, text] : cases) {
        std::string replaced = replace_invalid_utf8(bytes);
        for (size_t at; (at = replaced.find("\uFFFD")) != replaced.npos;) replaced.replace(at, 3, "?");
        EXPECT_EQ(replaced, text);
    }
}

}  // namespace
}  // namespace kiln
