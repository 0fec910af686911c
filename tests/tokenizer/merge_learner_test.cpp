#include "tokenizer/bpe/merge_learner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <string>

namespace kiln {
namespace {

std::array<int, 256> bytes_as_ids() {
    std::array<int, 256> ids;
    for (int byte = 0; byte < 256; ++byte) ids[byte] = byte;
    return ids;
}

struct Learned {
    std::vector<std::array<uint32_t, 2>> pairs;
    std::vector<int64_t> counts;
    bool operator==(const Learned&) const = default;
};

// `guess`: the number of merges the learner is told to expect.
Learned learn(const WordCounts& words, size_t merges, size_t guess, int64_t min_count = 0) {
    MergeLearner learner(words, bytes_as_ids(), min_count, guess);
    Learned learned;
    while (learned.pairs.size() < merges) {
        const auto best = learner.next();
        if (!best) break;
        learned.pairs.push_back({best->left, best->right});
        learned.counts.push_back(best->count);
        learner.merge(static_cast<uint32_t>(255 + learned.pairs.size()));
    }
    return learned;
}

// The definition: count all pairs of all words, merge the most frequent, again.
Learned learn_by_definition(const WordCounts& words, size_t merges) {
    std::vector<std::pair<std::vector<uint32_t>, int64_t>> symbols;
    words.for_each([&](std::string_view word, int64_t count) {
        symbols.emplace_back(std::vector<uint32_t>(word.begin(), word.end()), count);
    });
    Learned learned;
    while (learned.pairs.size() < merges) {
        std::map<std::array<uint32_t, 2>, int64_t> counts;
        for (const auto& [word, count] : symbols) {
            for (size_t i = 0; i + 1 < word.size(); ++i) counts[{word[i], word[i + 1]}] += count;
        }
        std::array<uint32_t, 2> best;
        int64_t most = 0;
        for (const auto& [pair, count] : counts) {
            if (count > most) best = pair, most = count;  // the first of equals has the smallest ids
        }
        if (most == 0) break;
        learned.pairs.push_back(best);
        learned.counts.push_back(most);
        for (auto& [word, count] : symbols) {
            std::vector<uint32_t> merged;
            for (size_t i = 0; i < word.size(); ++i) {
                const bool here = i + 1 < word.size() && word[i] == best[0] && word[i + 1] == best[1];
                merged.push_back(here ? static_cast<uint32_t>(255 + learned.pairs.size()) : word[i]);
                i += here;
            }
            word = merged;
        }
    }
    return learned;
}

WordCounts random_words(std::mt19937& random, int letters, int words) {
    WordCounts counts;
    for (int i = 0; i < words; ++i) {
        std::string word(1 + random() % 12, ' ');
        for (char& c : word) c = static_cast<char>('a' + std::min(random() % letters, random() % letters));
        for (int n = 1 + static_cast<int>(random() % 5) / 4 * 3; n > 0; --n) counts.add(word);
    }
    return counts;
}

TEST(MergeLearner, merges_are_those_of_the_definition_whatever_number_was_expected) {
    std::mt19937 random(21);
    for (int round = 0; round < 20; ++round) {
        const WordCounts words = random_words(random, 2 + round, 300);
        const Learned expected = learn_by_definition(words, 150);
        // The smaller the guess, the higher the first threshold: with 0 the rare pairs are counted anew several times.
        for (const size_t guess : {0, 3, 1000000})
            EXPECT_EQ(learn(words, 150, guess), expected) << round << " " << guess;
    }
}

TEST(MergeLearner, runs_of_one_letter_merge_from_the_left) {
    WordCounts words;
    for (const int length : {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 33}) words.add(std::string(length, 'a'));
    EXPECT_EQ(learn(words, 100, 1000000), learn_by_definition(words, 100));
}

TEST(MergeLearner, pairs_below_the_least_count_are_left) {
    std::mt19937 random(22);
    const WordCounts words = random_words(random, 5, 300);
    const Learned all = learn(words, 10000, 0);
    for (const int64_t least : {2, 10, 50}) {
        const Learned some = learn(words, 10000, 0, least);
        const auto frequent =
            std::count_if(all.counts.begin(), all.counts.end(), [&](int64_t n) { return n >= least; });
        EXPECT_EQ(some.pairs.size(), static_cast<size_t>(frequent));
        EXPECT_GE(some.counts.back(), least);
    }
}

TEST(MergeLearner, counts_beyond_32_bits_are_exact) {
    WordCounts words;
    words.add("ab", (int64_t(1) << 32) + 1);  // in 32 bits this would be 1
    words.add("cd", 5);
    words.add("ab", int64_t(1) << 40);
    const Learned learned = learn(words, 10, 0);
    EXPECT_EQ(learned.pairs, (std::vector<std::array<uint32_t, 2>>{{'a', 'b'}, {'c', 'd'}}));
    EXPECT_EQ(learned.counts, (std::vector<int64_t>{(int64_t(1) << 40) + (int64_t(1) << 32) + 1, 5}));
}

TEST(MergeLearner, words_of_one_byte_leave_nothing_to_merge) {
    WordCounts words;
    words.add("a", 100);
    EXPECT_EQ(learn(words, 10, 0).pairs.size(), 0u);
    EXPECT_EQ(learn(WordCounts(), 10, 0).pairs.size(), 0u);
}

}  // namespace
}  // namespace kiln
