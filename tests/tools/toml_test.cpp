// The file of --config: what it may hold, and the line and message for everything else.
#include "tools/cli/toml.h"

#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

using Texts = std::vector<std::string>;

Texts values_of(const std::string& text) {
    Texts all;
    for (const TomlEntry& entry : parse_toml(text, "f")) {
        all.insert(all.end(), entry.texts.begin(), entry.texts.end());
    }
    return all;
}

std::string error_of(const std::string& text) {
    try {
        parse_toml(text, "f");
    } catch (const UsageError& error) {
        return error.what();
    }
    return "accepted";
}

TEST(Toml, scalars_and_lists_are_read_as_the_command_line_has_them) {
    EXPECT_EQ(values_of("a = 1_000\nb=-2.5e-3\nc = +7 # seven\nd = true\n"), (Texts{"1000", "-2.5e-3", "7", "true"}));
    EXPECT_EQ(values_of("a = 18446744073709551615"), (Texts{"18446744073709551615"}));
    EXPECT_EQ(values_of("a = [ 'x', # one\n\n  \"y\" ,\r\n 3, ]\n"), (Texts{"x", "y", "3"}));
    EXPECT_EQ(values_of("a = []"), Texts{});
    EXPECT_EQ(values_of("\xEF\xBB\xBF# only a comment"), Texts{});
    const std::vector<TomlEntry> entries = parse_toml("\n\"quoted name\" = 1\nbare_name-2 = 2", "f");
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[0].name, "quoted name");
    EXPECT_EQ(entries[0].line, 2u);
    EXPECT_EQ(entries[1].name, "bare_name-2");
    EXPECT_EQ(entries[1].line, 3u);
}

TEST(Toml, texts_have_the_four_forms_of_the_standard) {
    EXPECT_EQ(values_of(R"(a = "\b\t\n\f\r\"\\\u00e9\U0001F600")"), (Texts{"\b\t\n\f\r\"\\\u00e9\U0001F600"}));
    EXPECT_EQ(values_of("a = 'C:\\n \"x\"'"), (Texts{"C:\\n \"x\""}));
    EXPECT_EQ(values_of("a = \"\"\"\nx\n\\   \n\n  y\"\"\"\"\""), (Texts{"x\ny\"\""}));
    EXPECT_EQ(values_of("a = '''\r\nx\\\n'''"), (Texts{"x\\\n"}));
    EXPECT_EQ(values_of("a = \"\"\nb = ''"), (Texts{"", ""}));
    EXPECT_EQ(values_of("a = \"caf\xE9\""), (Texts{"caf\xE9"}));  // a file name that is not UTF-8
}

TEST(Toml, every_byte_in_a_text_survives_quoting) {
    std::string all;
    for (int byte = 1; byte < 256; byte++) all += char(byte);
    EXPECT_EQ(values_of("a = " + quote_toml(all)), Texts{all});
}

TEST(Toml, everything_else_is_an_error_with_its_line) {
    const std::string value =
        "the value must be a text in quotes, a decimal number, true, false or a list of these; found ";
    const std::pair<std::string, std::string> kCases[] = {
        {"[", "f:1: options stand in no table; remove the line in brackets"},
        {"[[", "f:1: options stand in no table; remove the line in brackets"},
        {"[.", "f:1: options stand in no table; remove the line in brackets"},
        {"\n[=", "f:2: options stand in no table; remove the line in brackets"},
        {"a", "f:1: expected = after \"a\", found the end of the file"},
        {"a.b = 1", "f:1: expected = after \"a\", found \".b = 1\""},
        {"= 1", "f:1: expected the name of an option, found \"= 1\""},
        {"\"\" = 1", "f:1: expected the name of an option, found \"\"\" = 1\""},
        {concat(std::string(101, 'a'), " = 1"), "f:1: expected the name of an option, found \"aaaaaaaaaaaaaaaaaaaa\""},
        {"{a = 1}", "f:1: expected the name of an option, found \"{a = 1}\""},
        {std::string("a\0 = 1", 6), "f:1: expected = after \"a\", found \"  = 1\""},
        {"a =\n", "f:1: " + value + "the end of the line"},
        {"a = gpt2", "f:1: " + value + "\"gpt2\""},
        {"a = 1979-05-27", "f:1: " + value + "\"1979-05-27\""},
        {"a = 0x10", "f:1: " + value + "\"0x10\""},
        {"a = {b = 1}", "f:1: " + value + "\"{b = 1}\""},
        {"a = [[1]]", "f:1: " + value + "\"[1]]\""},
        {"a = [1, 2", "f:1: expected , or ] in a list, found the end of the file"},
        {"a = [1 2]", "f:1: expected , or ] in a list, found \"2]\""},
        {"a = [", "f:1: " + value + "the end of the file"},
        {"a = [\n,]", "f:2: " + value + "\",]\""},
        {"a = 1 b = 2", "f:1: expected the end of the line, found \"b = 2\""},
        {"a = \"x", "f:1: expected \" at the end of a text, found the end of the file"},
        {"a = \"x\ny\"", "f:1: expected \" at the end of a text, found the end of the line"},
        {"a = '''x\n\n''", "f:3: expected ''' at the end of a text, found the end of the file"},
        {"a = \"\x1b[31m\"", "f:1: a text cannot hold control characters; write \\u and four hexadecimal digits"},
        {R"(a = "\q")", "f:1: a text cannot hold the escape \\ and \"q\"\"; write \\\\ for a backslash"},
        {R"(a = "\u0000")", "f:1: a text cannot hold the escape \\ and \"u0000\"\"; write \\\\ for a backslash"},
        {R"(a = "\ud800")", "f:1: a text cannot hold the escape \\ and \"ud800\"\"; write \\\\ for a backslash"},
        {R"(a = "\U00110000")",
         "f:1: a text cannot hold the escape \\ and \"U00110000\"\"; write \\\\ for a backslash"},
        {"a = \"\\", "f:1: a text cannot hold the escape \\ and the end of the file; write \\\\ for a backslash"},
        {"a = \"\\u12", "f:1: a text cannot hold the escape \\ and \"u12\"; write \\\\ for a backslash"},
    };
    for (const auto& [text, message] : kCases) EXPECT_EQ(error_of(text), message) << text;
}

// Each of these crashes a library that recurses, or takes it minutes.
TEST(Toml, large_files_of_any_kind_take_a_moment) {
    constexpr size_t kBytes = 1 << 18;
    for (const char* part : {"[", "a.", "a=[", "{", "'''", "\"\"\"\\ \n", "a=1\n", "#", "\n", "1,", "\\", "[1,\n"}) {
        for (const char* start : {"", "a = [1", "a = [", "a = \"\"\"", "a"}) {
            std::string text = start;
            while (text.size() < kBytes) text += part;
            error_of(text);
        }
    }
}

}  // namespace
}  // namespace kiln
