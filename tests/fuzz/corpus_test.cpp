// Runs the fuzzers' targets on every file of tests/fuzz/corpus and tests/hostile in the normal build: hostile files
// made by hand, and files that the fuzzers found.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "tests/fuzz/targets.h"

namespace kiln {
namespace {

class FuzzCorpus : public ::testing::TestWithParam<FuzzTarget> {};

TEST_P(FuzzCorpus, holds_what_the_parsers_promise) {
    std::vector<std::filesystem::directory_entry> entries;
    for (const std::filesystem::path parent : {"tests/fuzz/corpus", "tests/hostile"}) {
        std::error_code none;
        const std::filesystem::directory_iterator folder(parent / GetParam().name, none);
        if (!none) entries.insert(entries.end(), begin(folder), end(folder));
    }
    int files = 0, refused = 0;
    for (const auto& entry : entries) {
        std::ifstream file(entry.path(), std::ios::binary);
        const std::string input(std::istreambuf_iterator<char>(file), {});
        const auto start = std::chrono::steady_clock::now();
        try {
            GetParam().run(input);
        } catch (const Error& error) {
            ++refused;
            EXPECT_GT(std::string(error.what()).size(), 10u) << entry.path();
        } catch (const std::exception& other) {
            ADD_FAILURE() << entry.path() << ": " << other.what();
        }
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        EXPECT_LT(took.count(), 10) << entry.path();  // the slowest takes milliseconds
        ++files;
    }
    EXPECT_GE(files, 5);
    EXPECT_GT(files, refused) << "at least one file should be read";
    EXPECT_GT(refused, 0) << "at least one file should be refused";
}

INSTANTIATE_TEST_SUITE_P(, FuzzCorpus, ::testing::ValuesIn(fuzz_targets),
                         [](const auto& target) { return std::string(target.param.name); });

}  // namespace
}  // namespace kiln
