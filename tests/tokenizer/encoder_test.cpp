#include "tokenizer/bpe/encoder.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/huggingface/byte_level.h"

namespace kiln {
namespace {

// A vocabulary of all bytes (id = byte) and the given merges of two ids. The results get the next ids.
BpeVocabulary vocabulary_of(const std::vector<std::pair<int, int>>& merges) {
    BpeVocabulary vocabulary;
    for (int byte = 0; byte < 256; ++byte) vocabulary.tokens.emplace_back(1, static_cast<char>(byte));
    for (const auto& [left, right] : merges) {
        vocabulary.tokens.push_back(concat(vocabulary.tokens[left], vocabulary.tokens[right]));
        vocabulary.merges.emplace_back(left, right);
    }
    return vocabulary;
}

std::vector<bool> all_text(const BpeVocabulary& vocabulary) {
    return std::vector<bool>(vocabulary.tokens.size(), true);
}

std::vector<int> encode(const BpeModel& model, std::string_view word) {
    std::vector<int> ids;
    BpeEncoder(model).encode(word, ids);
    return ids;
}

// Merges of random pairs of tokens. All results are different.
BpeVocabulary random_vocabulary(std::mt19937& random, int letters, int n) {
    BpeVocabulary vocabulary = vocabulary_of({});
    std::vector<int> usable;
    for (int i = 0; i < letters; ++i) usable.push_back('a' + i);
    for (int attempt = 0; attempt < 20 * n && static_cast<int>(vocabulary.merges.size()) < n; ++attempt) {
        const int left = usable[random() % usable.size()], right = usable[random() % usable.size()];
        const std::string merged = concat(vocabulary.tokens[left], vocabulary.tokens[right]);
        if (merged.size() > 12) continue;
        if (std::find(vocabulary.tokens.begin(), vocabulary.tokens.end(), merged) != vocabulary.tokens.end()) continue;
        usable.push_back(static_cast<int>(vocabulary.tokens.size()));
        vocabulary.tokens.push_back(merged);
        vocabulary.merges.emplace_back(left, right);
    }
    // A file may have another order of precedence than the order of learning.
    std::shuffle(vocabulary.merges.begin(), vocabulary.merges.end(), random);
    return vocabulary;
}

// The definition: merge the leftmost pair of the lowest rank until no pair merges.
std::vector<int> encode_by_definition(const BpeVocabulary& vocabulary, std::string_view word) {
    std::vector<std::string> symbols;
    for (const char c : word) symbols.emplace_back(1, c);
    for (;;) {
        size_t best = vocabulary.merges.size(), at = 0;
        for (size_t i = 0; i + 1 < symbols.size(); ++i) {
            for (size_t rank = 0; rank < best; ++rank) {
                const auto [left, right] = vocabulary.merges[rank];
                if (vocabulary.tokens[left] == symbols[i] && vocabulary.tokens[right] == symbols[i + 1]) {
                    best = rank;
                    at = i;
                    break;
                }
            }
        }
        if (best == vocabulary.merges.size()) break;
        symbols[at] += symbols[at + 1];
        symbols.erase(symbols.begin() + at + 1);
    }
    std::vector<int> ids;
    for (const std::string& symbol : symbols) {
        const auto found = std::find(vocabulary.tokens.begin(), vocabulary.tokens.end(), symbol);
        ids.push_back(static_cast<int>(found - vocabulary.tokens.begin()));
    }
    return ids;
}

TEST(Bpe, lowest_rank_merges_first_and_leftmost_on_ties) {
    const BpeVocabulary vocabulary = vocabulary_of({{'b', 'c'}, {'a', 'b'}, {'a', 'a'}});
    const BpeModel model(vocabulary, all_text(vocabulary), "test");
    EXPECT_EQ(encode(model, "abc"), (std::vector<int>{'a', 256}));
    EXPECT_EQ(encode(model, "ab"), (std::vector<int>{257}));
    EXPECT_EQ(encode(model, "aaa"), (std::vector<int>{258, 'a'}));
}

TEST(Bpe, random_words_of_any_length_encode_as_the_definition_says) {
    std::mt19937 random(11);
    for (int round = 0; round < 60; ++round) {
        const BpeVocabulary vocabulary = random_vocabulary(random, 3, 25);
        const BpeModel model(vocabulary, all_text(vocabulary), "test");
        for (const size_t length : {2, 3, 7, 20, 63, 64, 65, 66, 150}) {
            std::string word(length, ' ');
            for (char& c : word) c = static_cast<char>('a' + random() % 3);
            ASSERT_EQ(encode(model, word), encode_by_definition(vocabulary, word)) << word;
        }
    }
}

// A token that is too long for walk(), so the encoder merges. No merge makes this token.
BpeVocabulary with_long_token(BpeVocabulary vocabulary) {
    vocabulary.tokens.emplace_back(300, 'z');
    return vocabulary;
}

TEST(Bpe, long_words_encode_the_same_by_walking_and_by_merging) {
    std::mt19937 random(13);
    for (int round = 0; round < 200; ++round) {
        const int letters = 1 + round % 4;
        const BpeVocabulary vocabulary = random_vocabulary(random, letters, 5 + round % 40);
        const BpeVocabulary longer = with_long_token(vocabulary);
        const BpeModel model(vocabulary, all_text(vocabulary), "test"), merging(longer, all_text(longer), "test");
        std::string word(2000 + random() % 3000, ' ');
        for (char& c : word) c = static_cast<char>('a' + random() % letters);
        ASSERT_EQ(encode(model, word), encode(merging, word)) << "round " << round;
    }
}

TEST(Bpe, cache_gives_the_same_ids_before_and_after_it_is_full) {
    std::mt19937 random(12);
    const BpeVocabulary vocabulary = random_vocabulary(random, 20, 200);
    const BpeModel model(vocabulary, all_text(vocabulary), "test");
    BpeEncoder encoder(model);
    std::vector<std::string> words;
    for (int i = 0; i < 400000; ++i) {  // more than the cache holds
        std::string word(2 + random() % 8, ' ');
        for (char& c : word) c = static_cast<char>('a' + random() % 20);
        words.push_back(word);
    }
    std::vector<int> first, again;
    for (const std::string& word : words) encoder.encode(word, first);
    for (size_t i = 0; i < words.size(); ++i) encoder.encode(words[i], again);
    EXPECT_EQ(first, again);
    for (size_t i = 0; i < words.size(); i += 1000) {
        std::vector<int> ids;
        encoder.encode(words[i], ids);
        ASSERT_EQ(ids, encode(model, words[i])) << words[i];
    }
}

TEST(Bpe, whole_words_win_only_under_ignore_merges) {
    BpeVocabulary vocabulary = vocabulary_of({{'b', 'c'}, {'a', 'b'}});
    vocabulary.tokens.push_back("abc");  // id 258, which no merge reaches
    {
        const BpeModel model(vocabulary, all_text(vocabulary), "test");
        EXPECT_EQ(encode(model, "abc"), (std::vector<int>{'a', 256}));
    }
    vocabulary.ignore_merges = true;
    const BpeModel model(vocabulary, all_text(vocabulary), "test");
    EXPECT_EQ(encode(model, "abc"), (std::vector<int>{258}));
    EXPECT_EQ(encode(model, "abcb"), (std::vector<int>{'a', 256, 'b'}));
}

TEST(Bpe, time_is_linear_in_the_length_of_a_word) {
    // A long run of one letter takes 0.1 s; a quadratic method would take a quarter of an hour.
    std::vector<std::pair<int, int>> merges = {{'a', 'a'}};
    for (const int largest : {255 + 8, 255 + 11}) {  // walk() handles tokens of 256 bytes, merge_long() those of 2,048
        while (static_cast<int>(merges.size()) < largest - 255)
            merges.emplace_back(254 + merges.size() + 1, 254 + merges.size() + 1);
        const BpeVocabulary vocabulary = vocabulary_of(merges);
        const BpeModel model(vocabulary, all_text(vocabulary), "test");
        const auto start = std::chrono::steady_clock::now();
        const std::vector<int> ids = encode(model, std::string(size_t(1) << 20, 'a'));
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        EXPECT_EQ(ids, std::vector<int>((size_t(1) << 20) >> (largest - 255), largest));
        EXPECT_LT(seconds, 20);
    }
}

TEST(Bpe, a_byte_without_a_token_is_an_error_that_names_it) {
    BpeVocabulary vocabulary;
    vocabulary.tokens = {"a", "b"};
    const BpeModel model(vocabulary, all_text(vocabulary), "test");
    EXPECT_EQ(encode(model, "ba"), (std::vector<int>{1, 0}));
    EXPECT_NE(error_of([&] { encode(model, "ax"); }).find("no token for byte 120"), std::string::npos);
}

TEST(Bpe, merges_without_a_result_or_given_twice_are_refused) {
    BpeVocabulary vocabulary = vocabulary_of({{'a', 'b'}});
    vocabulary.merges.emplace_back('x', 'y');
    EXPECT_NE(error_of([&] { BpeModel(vocabulary, all_text(vocabulary), "file"); }).find("file: merge 1 joins tokens"),
              std::string::npos);
    vocabulary.merges.back() = {'a', 'b'};
    EXPECT_NE(error_of([&] { BpeModel(vocabulary, all_text(vocabulary), "file"); }).find("repeats merge 0"),
              std::string::npos);
}

TEST(ByteLevel, spelling_is_gpt2s_and_reversible) {
    const ByteLevel byte_level;
    EXPECT_EQ(byte_level.spell(" a\n\xAD"), "\u0120a\u010a\u0143");
    EXPECT_EQ(byte_level.alphabet()[0], '!');
    EXPECT_EQ(byte_level.alphabet()[188], 0);  // after the 188 printable ones
    std::string all;
    for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
    EXPECT_EQ(byte_level.unspell(byte_level.spell(all)), all);
    EXPECT_EQ(byte_level.unspell("a b"), std::nullopt);     // a space is spelled otherwise
    EXPECT_EQ(byte_level.unspell("\u0144"), std::nullopt);  // one beyond the last
    EXPECT_EQ(byte_level.unspell("\xFF"), std::nullopt);
}

}  // namespace
}  // namespace kiln
