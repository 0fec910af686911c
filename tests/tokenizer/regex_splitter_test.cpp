// Regular expressions of users: words across the windows that a search sees, and the bound on its work.
#include "tokenizer/pre_tokenizer/regex_splitter.h"

#include <gtest/gtest.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tests/support/words.h"
#include "tokenizer/pre_tokenizer/pre_tokenizer.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

// The words if PCRE2 sees the whole text at every search.
Words words_of_whole_text(const std::string& pattern, const std::string& text) {
    int error;
    PCRE2_SIZE at;
    pcre2_code* const code =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_MATCH_INVALID_UTF, &error, &at, nullptr);
    EXPECT_TRUE(code) << pattern;
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // the interpreter sees other empty matches beside invalid bytes
    pcre2_match_data* const data = pcre2_match_data_create_from_pattern(code, nullptr);
    const PCRE2_SIZE* const bounds = pcre2_get_ovector_pointer(data);
    Words words;
    size_t taken = 0;
    const auto take = [&](size_t end) {
        if (end > taken) words.push_back(text.substr(taken, end - taken));
        taken = end;
    };
    for (size_t from = 0; from <= text.size();) {
        if (pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from, 0, data, nullptr) < 1)
            break;
        take(bounds[0]);
        take(bounds[1]);
        from = bounds[1];
        if (bounds[1] > bounds[0]) continue;
        uint32_t character;
        from += size_t(std::max(1, decode_utf8(text.data() + from, text.data() + text.size(), character)));
    }
    take(text.size());
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return words;
}

// A thousand bytes and more, so that a search sees only a part at first.
std::string text_of_runs(std::mt19937& random) {
    static const std::vector<std::string> kPieces = {"a", "b",      " ",      "\n",   "1",
                                                     "B", "\u6f22", "\u00e9", "\xFF", "\xE6\xBC"};
    std::string text;
    while (text.size() < 1500) {
        const std::string& piece = kPieces[random() % kPieces.size()];
        for (size_t n = random() % 4 ? random() % 3 : random() % 700; n > 0; n--) text += piece;
    }
    return text;
}

TEST(RegexSplitter, search_of_a_part_finds_what_a_search_of_the_whole_text_finds) {
    std::mt19937 random(3);
    for (const char* pattern : {"a+",      "[ab]+b",    "a*b|a",    "(?<=a)b+",   "(?<!a)b",      "^.",    ".$",
                                "a*(?=b)", "(?!a)",     "(?=1)",    "\\x{6f22}+", ".+",           "[^a]+", "(?:a|b)+",
                                "(a+)\\1", "(?>a+)1|a", "B{1,300}", "a*?b",       " +(?![^ ])| ", "(?i)b+"}) {
        const RegexSplitter regex(pattern, "test", false, /*work_per_byte=*/1 << 20);  // some are quadratic
        for (int round = 0; round < 20; round++) {
            const std::string text = text_of_runs(random);
            ASSERT_EQ(words_of(regex, text), words_of_whole_text(pattern, text)) << pattern << "\n" << text;
        }
    }
}

// Those that Kiln has scanners for, and those in the files of published tokenizers.
std::set<std::string> published_expressions() {
    std::set<std::string> found;
    for (const auto& named : named_pre_tokenizers()) found.insert(named.regexes.begin(), named.regexes.end());
    const auto collect = [&](const auto& self, const nlohmann::json& json) -> void {
        if (json.is_object() && json.contains("Regex")) found.insert(json["Regex"].template get<std::string>());
        if (json.is_structured()) {
            for (const auto& member : json) self(self, member);
        }
    };
    collect(collect, nlohmann::json::parse(slurp(tokenizer_fixture("shapes.json"))));
    return found;
}

TEST(RegexSplitter, published_expressions_stay_far_below_the_limit_on_any_run) {
    ASSERT_GT(published_expressions().size(), 12u);
    std::vector<std::string> texts;
    for (const std::string unit : {" ",   "\n",     "a",      "A",       "aA",     "1",    "!",     "'",  "'s",  " a",
                                   " \n", "\u6f22", "\u0301", "a\u0301", "\u3000", "\xFF", "\r\n ", "A1", "\t ", "/"}) {
        std::string text;
        while (text.size() < 12000) text += unit;
        texts.insert(texts.end(), {text, text + "x"});
    }
    for (const std::string& pattern : published_expressions()) {
        const RegexSplitter regex(pattern, "test", false, RegexSplitter::kWorkPerByte / 8);
        for (const std::string& text : texts) {
            EXPECT_EQ(error_of([&] { words_of(regex, text); }), "") << pattern << "\n" << text.substr(0, 10);
        }
    }
    for (const auto& named : named_pre_tokenizers()) {
        if (named.regexes.empty()) continue;
        for (const std::string& text : texts) {
            if (text.find('\xFF') != text.npos) continue;  // a scanner gives invalid bytes to words, PCRE2 to none
            EXPECT_EQ(words_of(RegexSplitter(named.regexes[0], "test", false), text),
                      words_of(PreTokenizer(named.kind), text))
                << named.name << "\n"
                << text.substr(0, 10);
        }
    }
}

TEST(RegexSplitter, expression_of_quadratic_time_is_refused_with_the_place) {
    const auto start = std::chrono::steady_clock::now();
    for (const std::string pattern : {"a*b|a", "(?:.|\\n)*z|.", "a*a*b|a", "(?:(?=a*b)c|a)+", "(a*)*b|a",
                                      "(?:a|aa)+[bc]|.", "\\S+@\\S+|\\S", "(?=(?:a|b)*z)c|.", "(?!a*b)c|."}) {
        const RegexSplitter regex(pattern, "test", false);
        const std::string text = std::string(30000, 'a');
        const std::string error = error_of([&] { words_of(regex, text); });
        EXPECT_NE(error.find(concat("regular expression ", pattern, " fails at byte ")), std::string::npos) << error;
        EXPECT_NE(error.find("of a text of 30000 bytes, at \"aaa"), std::string::npos) << error;
        EXPECT_NE(error.find("match limit exceeded"), std::string::npos) << error;
        // Ordinary text is no problem for it.
        std::string lines;
        for (int i = 0; i < 2000; i++) lines += "a line of ordinary text, with 12 words or so\n";
        EXPECT_EQ(pattern.find('z') == pattern.npos ? error_of([&] { words_of(regex, lines); }) : "", "") << pattern;
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

}  // namespace
}  // namespace kiln
