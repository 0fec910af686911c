#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/huggingface/parts.h"

namespace kiln {
namespace {

std::string base64(std::string_view bytes) {
    constexpr const char* kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; ++k)
            bits = bits << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0);
        for (size_t k = 0; k < 4; ++k) text += i + k <= bytes.size() ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
    }
    return text;
}

// All bytes, then the given tokens.
std::string ranks(const std::vector<std::string>& tokens) {
    std::string text;
    for (int byte = 0; byte < 256; ++byte)
        text += base64(std::string(1, static_cast<char>(byte))) + " " + std::to_string(byte) + "\n";
    for (size_t i = 0; i < tokens.size(); ++i) text += base64(tokens[i]) + " " + std::to_string(256 + i) + "\n";
    return text;
}

TokenizerParts parse(const std::string& text, const std::vector<SpecialToken>& special = {}) {
    return parse_tiktoken(text, "r.tiktoken", PreTokenizerSequence{}, special);
}

TEST(Tiktoken, ranks_become_tokens_and_their_last_cut_a_merge) {
    const TokenizerParts parts = parse(ranks({"ab", "bc", "abc", std::string("\xff\x00z", 3)}));
    ASSERT_EQ(parts.vocabulary.tokens.size(), 260u);
    EXPECT_EQ(parts.vocabulary.tokens[258], "abc");
    EXPECT_EQ(parts.vocabulary.merges, (std::vector<std::pair<int, int>>{{'a', 'b'}, {'b', 'c'}, {256, 'c'}}));
    const Tokenizer tokenizer = make_tokenizer(parts, "test");
    EXPECT_EQ(tokenizer.encode("abc ab"), (std::vector<int>{258, ' ', 256}));
    EXPECT_EQ(tokenizer.encode("xabc"), (std::vector<int>{'x', 258}));
}

TEST(Tiktoken, random_ranks_give_what_joining_by_lowest_rank_gives) {
    std::mt19937 random(14);
    for (int round = 0; round < 300; ++round) {
        // Random strings as tokens, whether or not joining others makes them.
        std::vector<std::string> tokens;
        const auto rank_of = [&](const std::string& bytes) -> size_t {
            if (bytes.size() == 1) return static_cast<unsigned char>(bytes[0]);
            return 256 + static_cast<size_t>(std::find(tokens.begin(), tokens.end(), bytes) - tokens.begin());
        };
        while (tokens.size() < 25) {
            std::string token(2 + random() % 4, ' ');
            for (char& c : token) c = static_cast<char>('a' + random() % 2);
            if (rank_of(token) == 256 + tokens.size()) tokens.push_back(token);
        }
        TokenizerParts parts = parse(ranks(tokens));
        parts.vocabulary.ignore_merges = round % 2 == 0;
        const Tokenizer tokenizer = make_tokenizer(parts, "test"),
                        saved = Tokenizer::parse(tokenizer.to_json(), "saved");
        for (int i = 0; i < 20; ++i) {
            std::string word(2 + random() % 30, ' ');
            for (char& c : word) c = static_cast<char>('a' + random() % 2);
            std::vector<std::string> joined;
            for (const char c : word) joined.emplace_back(1, c);
            const bool whole = parts.vocabulary.ignore_merges && rank_of(word) < 256 + tokens.size();
            if (whole) joined = {word};
            while (!whole) {
                size_t best = 256 + tokens.size(), at = 0;
                for (size_t k = 0; k + 1 < joined.size(); ++k) {
                    const size_t rank = rank_of(joined[k] + joined[k + 1]);
                    if (rank < best) best = rank, at = k;
                }
                if (best == 256 + tokens.size()) break;
                joined[at] += joined[at + 1];
                joined.erase(joined.begin() + static_cast<ptrdiff_t>(at) + 1);
            }
            std::vector<int> expected;
            for (const std::string& token : joined) expected.push_back(static_cast<int>(rank_of(token)));
            ASSERT_EQ(tokenizer.encode(word), expected) << word;
            ASSERT_EQ(saved.encode(word), expected) << word;
        }
    }
}

TEST(Tiktoken, special_tokens_may_leave_ids_without_a_token) {
    const Tokenizer tokenizer =
        make_tokenizer(parse(ranks({"ab"}), {{"<|end|>", 300}, {"<|endoftext|>", 290}}), "test");
    EXPECT_EQ(tokenizer.vocab_size(), 301);
    EXPECT_EQ(tokenizer.end_of_text(), 290);
    EXPECT_EQ(tokenizer.encode("ab<|end|>", {.allow_special = true}), (std::vector<int>{256, 300}));
    EXPECT_EQ(tokenizer.decode({256, 257, 300}), "ab<|end|>");  // 257 is no token

    const Tokenizer again = Tokenizer::parse(tokenizer.to_json(), "again");
    EXPECT_EQ(again.vocab_size(), 301);
    EXPECT_EQ(again.encode("ab<|end|>", {.allow_special = true}), (std::vector<int>{256, 300}));
    EXPECT_EQ(again.to_json(), tokenizer.to_json());
}

TEST(Tiktoken, what_is_wrong_is_named_with_its_line) {
    const auto message = [](const std::string& text, const std::vector<SpecialToken>& special = {}) {
        return error_of([&] { parse(text, special); });
    };
    for (const char* line :
         {"IQ== x", "IQ==", "IQ=", "I Q", "!!!! 3", "IQ== 3 4", "IQ== -1", "IQ== 99999999999", "= 1"}) {
        EXPECT_EQ(message("AA== 0\n" + std::string(line) + "\n"),
                  "r.tiktoken: line 2: must be a token's bytes in base64, a space and its rank, as in tiktoken's files")
            << line;
    }
    EXPECT_EQ(message(""), "r.tiktoken: holds no tokens");
    EXPECT_EQ(message("AA== 0\nAQ== 0\n"), "r.tiktoken: rank 0 occurs twice");
    EXPECT_EQ(message("AA== 0\nAA== 1\n"), "r.tiktoken: the token of rank 1 occurs twice");
    EXPECT_EQ(message("AA== 0\n"),
              "r.tiktoken: byte 1 has no token; without all 256 bytes, some text cannot be encoded");
    EXPECT_EQ(message("AA== 2000000000\n"),
              "r.tiktoken: holds 1 tokens with ids up to 2000000000; that leaves too many ids without a token");
    EXPECT_EQ(message(base64(std::string(600, 'a')) + " 0\n"),
              "r.tiktoken: line 1: a token of 600 bytes; at most 512 are supported");
    EXPECT_EQ(message(ranks({}), {{"<s>", 7}}),
              "r.tiktoken: the special token \"<s>\" has id 7, which is another token's");
}

}  // namespace
}  // namespace kiln
