// The text of JSON records. The right values are those of Python's json.loads(record)["text"].
#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/prepare/record_scanner.h"

namespace kiln {
namespace {

std::string text_of(std::string record, const std::vector<std::string>& keys = {"text"}) {
    const size_t size = record.size();
    record.append(JsonRecords::kPadding, '\0');
    JsonRecords records;
    return std::string(records.text(std::string_view(record).substr(0, size), keys));
}

std::string reason(const std::string& record) {
    return error_of([&] { text_of(record); });
}

TEST(JsonRecords, other_fields_do_not_decide_about_the_text) {
    for (const std::string other :
         {"NaN", "Infinity", "-Infinity", "[NaN, {\"x\": -Infinity}]", "1e999", "-123456789012345678901234567890",
          "\"\\ud800\"", "\"\\udc00 \\ud800\\u0041\"", "null", "-0.5E+3", "{}", "[]", "true"}) {
        EXPECT_EQ(text_of("{\"a\": " + other + ", \"text\": \"one\"}"), "one") << other;
        EXPECT_EQ(text_of(" {\"text\":\"one\",\"a\":" + other + "}\r"), "one") << other;
    }
    EXPECT_EQ(text_of("{\"a\": " + std::string(400, '9') + ", \"text\": \"one\"}"), "one");
    EXPECT_EQ(text_of("{\"\\ud800\": 1, \"text\": \"one\"}"), "one");
}

TEST(JsonRecords, the_last_of_equal_keys_counts_in_either_parser) {
    for (const std::string number : {"1", "NaN"}) {  // the second makes the standard's parser refuse the record
        const std::string more = ", \"n\": " + number + "}";
        EXPECT_EQ(text_of("{\"text\":\"first\",\"text\":\"last\"" + more), "last");
        EXPECT_EQ(text_of("{\"text\":1,\"te\\u0078t\":\"last\"" + more), "last");
        EXPECT_EQ(text_of("{\"body\":\"b\",\"text\":\"a\",\"body\":\"c\"" + more, {"none", "body", "text"}), "c");
        EXPECT_NE(reason("{\"text\":\"first\",\"text\":null" + more).find("\"text\" holds null"), std::string::npos);
    }
}

TEST(JsonRecords, both_parsers_give_the_same_text) {
    const std::string escapes =
        "{\"text\": \"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u5510\\uD83D\\ude00 \xE5\x94\x90\\u0000.\"";
    const std::string expected("\"\\/\b\f\n\r\t\xC3\xA9\xE5\x94\x90\xF0\x9F\x98\x80 \xE5\x94\x90\0.", 23);
    EXPECT_EQ(text_of(escapes + "}"), expected);
    EXPECT_EQ(text_of(escapes + ", \"n\": NaN}"), expected);
}

TEST(JsonRecords, what_python_refuses_is_refused) {
    for (const char* value :
         {"nan", "NAN",    "+1",      "01",          "1.", ".5",   "1e",    "-",     "- 1",     "--Infinity", "1NaN",
          "inf", "\"\t\"", "\"\\x\"", "\"\\u12g4\"", "\"", "[1,]", "[1 2]", "{1:2}", "{\"a\"}", "True",       ""}) {
        EXPECT_NE(reason(concat("{\"text\": \"one\", \"a\": ", value, "}")).find("not a JSON record"),
                  std::string::npos)
            << value;
    }
    EXPECT_NE(reason("{\"text\": \"one\"} x").find("byte 17: unexpected 'x'; expected end of input"),
              std::string::npos);
    EXPECT_NE(reason("{\"text\": \"\\ud800 \"}").find("half of a surrogate pair"), std::string::npos);
    EXPECT_NE(reason("{\"text\": NaN}").find("holds number where text is expected"), std::string::npos);
    EXPECT_NE(reason("{\"text\": " + std::string(100000, '[')).find("nested deeper"), std::string::npos);
}

}  // namespace
}  // namespace kiln
