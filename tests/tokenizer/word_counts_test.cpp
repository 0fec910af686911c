#include "tokenizer/bpe/word_counts.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace kiln {
namespace {

std::map<std::string, int64_t> content(const WordCounts& words) {
    std::map<std::string, int64_t> result;
    words.for_each([&](std::string_view word, int64_t count) {
        EXPECT_TRUE(result.emplace(word, count).second) << word << " comes twice";
    });
    return result;
}

TEST(WordCounts, words_taken_from_others_count_as_if_added) {
    std::mt19937 random(3);
    WordCounts words;
    std::vector<WordCounts> others(3);
    std::map<std::string, int64_t> expected;
    for (int i = 0; i < 400000; ++i) {
        // Many come often, more come once: the tables grow several times.
        const std::string word = std::to_string(random() % (i % 2 ? 100 : 1000000000));
        const int64_t count = i % 1000 ? 1 : int64_t(1) << 33;
        (i % 4 == 3 ? words : others[i % 4]).add(word, count);
        expected[word] += count;
    }
    words.take(others);
    EXPECT_TRUE(content(words) == expected);
    EXPECT_EQ(words.size(), expected.size());
    size_t bytes = 0;
    for (const auto& [word, count] : expected) bytes += word.size();
    EXPECT_EQ(words.total_bytes(), bytes);
    for (const WordCounts& other : others) EXPECT_EQ(other.size(), 0u);
}

TEST(WordCounts, words_hold_any_bytes) {
    WordCounts words;
    for (const std::string& word : {std::string("\0", 1), std::string("\0\0", 2), std::string("\0\xFF", 2)})
        words.add(word);
    EXPECT_EQ(content(words).size(), 3u);
}

}  // namespace
}  // namespace kiln
