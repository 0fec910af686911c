#include "tokenizer/data/evaluation.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/temp_directory.h"
#include "tokenizer/io/file.h"

namespace kiln {
namespace {

const std::vector<EvaluationExample> kExamples = {{2, {7, 8}, {{1}, {2, 3}, {4}, {65534}}},
                                                  {0, {}, {{5}, {}, {6, 6, 6}, {9}}}};

std::string written(const TempDirectory& directory) {
    write_evaluation(directory / "val.bin", kExamples);
    return read_file(directory / "val.bin");
}

TEST(Evaluation, words_are_where_llmc_reads_them) {
    const TempDirectory directory;
    const std::string file = written(directory);
    int32_t header[256];
    std::memcpy(header, file.data(), sizeof header);
    EXPECT_EQ(std::vector<int32_t>(header, header + 5), (std::vector<int32_t>{20240522, 1, 2, 34, 0}));
    std::vector<uint16_t> words((file.size() - 1024) / 2);
    std::memcpy(words.data(), file.data() + 1024, words.size() * 2);
    EXPECT_EQ(words, (std::vector<uint16_t>{65535, 34, 0, 2, 4, 2, 7, 8, 1, 1, 2, 2, 3, 1, 4, 1, 65534,  //
                                            65535, 30, 1, 0, 4, 0, 1, 5, 0, 3, 6, 6, 6, 1, 9}));
}

TEST(Evaluation, round_trips) {
    const TempDirectory directory;
    written(directory);
    EXPECT_EQ(read_evaluation(directory / "val.bin"), kExamples);
}

TEST(Evaluation, damage_is_refused) {
    const TempDirectory directory;
    const std::string good = written(directory);
    const auto message = [&](size_t word, uint16_t value, size_t size = SIZE_MAX) {
        std::string file = good.substr(0, size);
        std::memcpy(&file[2 * word], &value, 2);
        return error_of([&] { read_evaluation(directory.write("bad.bin", file)); });
    };
    const auto has = [&](const std::string& text, const char* part) { EXPECT_NE(text.find(part), text.npos) << text; };
    has(message(0, 1), "is not evaluation data of llm.c: it begins with");
    has(message(4, 3), "the header says 3 examples, the file has 2");
    has(message(512, 1), "example 0: begins with 1, not with 65535");
    has(message(513, 36), "example 0: says that it has 36 bytes, but has 34");
    has(message(515, 4), "example 0: has completion 4 as the right one of 4");
    has(message(517, 60000), "example 0: is cut short");
    has(message(512, 65535, good.size() - 2), "example 1: is cut short");
    has(message(512, 65535, good.size() - 1), "example 1: is cut short");
    has(message(0, 0, 100), "100 bytes are fewer than its header");
}

TEST(Evaluation, what_llmc_cannot_read_is_not_written) {
    const TempDirectory directory;
    const auto message = [&](const EvaluationExample& example) {
        return error_of([&] { write_evaluation(directory / "val.bin", std::vector{example}); });
    };
    const auto has = [&](const std::string& text, const char* part) { EXPECT_NE(text.find(part), text.npos) << text; };
    has(message({0, {1}, {{1}, {2}}}), "example 0: has 2 completions, but llm.c takes 4");
    has(message({4, {1}, {{1}, {2}, {3}, {4}}}), "example 0: has no completion 4");
    has(message({0, {65535}, {{1}, {2}, {3}, {4}}}), "token 65535 does not lie in [0, 65534]");
    has(message({0, {-1}, {{1}, {2}, {3}, {4}}}), "token -1 does not lie");
    has(message({0, std::vector<int>(32767), {{1}, {2}, {3}, {4}}}), "has 65562 bytes; the most is 65535");
    EXPECT_FALSE(std::filesystem::exists(directory / "val.bin"));
}

}  // namespace
}  // namespace kiln
