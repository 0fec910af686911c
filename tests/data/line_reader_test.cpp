#include "tokenizer/io/line_reader.h"

#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"

namespace kiln {
namespace {

std::vector<std::string> lines_of(const std::string& text, size_t bytes = 1) {
    TempDirectory dir;
    LineReader reader{InputFile(dir.write("a", text))};
    std::vector<std::string> all;
    for (std::string lines; reader.next(lines, bytes);) all.push_back(lines);
    return all;
}

TEST(LineReader, gives_whole_lines_and_the_rest_at_the_end) {
    using Lines = std::vector<std::string>;
    EXPECT_EQ(lines_of(""), Lines{});
    EXPECT_EQ(lines_of("\n"), Lines{"\n"});
    EXPECT_EQ(lines_of("a\n\nb"), (Lines{"a\n", "\n", "b"}));
    EXPECT_EQ(lines_of("a\nbc\nd\n", 3), (Lines{"a\nbc\n", "d\n"}));
    EXPECT_EQ(lines_of("a\nb\n", 100), Lines{"a\nb\n"});
}

TEST(LineReader, lines_longer_than_its_reads_are_whole) {
    std::vector<std::string> expected;
    for (const size_t length : {200'000, 1, 65'535, 65'536, 300'000})
        expected.push_back(std::string(length, 'x') + "\n");
    std::string text;
    for (const std::string& line : expected) text += line;
    EXPECT_TRUE(lines_of(text) == expected);
    const std::vector<std::string> parts = lines_of(text, 100'000);
    ASSERT_EQ(parts.size(), 3u);
    EXPECT_EQ(parts[0] + parts[1] + parts[2], text);
}

TEST(LineReader, a_file_that_changes_is_an_error) {
    TempDirectory dir;
    const auto path = dir.write("a", "x\n" + std::string(300'000, 'y'));
    LineReader reader{InputFile(path)};
    std::string line;
    ASSERT_TRUE(reader.next(line));
    std::filesystem::resize_file(path, 100'000);
    EXPECT_EQ(error_of([&] { reader.next(line); }).find(path.string() + ": was truncated from 300002 to 100000"), 0u);
}

}  // namespace
}  // namespace kiln
