// A million random strings have the words and ids of Hugging Face's tokenizers and of tiktoken, with every
// pre-tokenizer.
#include "tests/support/parity_subject.h"
#include "tests/support/random_text.h"

namespace kiln {
namespace {

using TokenizerParity = TokenizerParityTest;

TEST_P(TokenizerParity, a_million_random_strings_have_their_words_and_ids) {
    const size_t strings = expected().at("strings"), longest = expected().at("longest");
    constexpr size_t kBlocks = 64;
    ASSERT_EQ(kBlocks * strings, 1000000u);
    const Alphabet alphabet;
    compare(
        kBlocks, [](size_t block) { return "random " + std::to_string(block); },
        [&](size_t block) {
            SplitMix64 random(block);
            std::vector<std::string> block_strings(strings);
            for (std::string& text : block_strings) text = alphabet.string(random, longest);
            return block_strings;
        });
}

INSTANTIATE_TEST_SUITE_P(PreTokenizers, TokenizerParity, pre_tokenizers_to_compare(), pre_tokenizer_name);

TEST(TokenizerParityLines, explained_strings_have_their_words_and_ids) {
    const char* const path = std::getenv("KILN_PARITY_LINES");
    if (!path) GTEST_SKIP() << "for the lines that make_parity_fixtures.py --explain writes";
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        const auto json = nlohmann::json::parse(line);
        static const ParitySubject subject(json.at("pre_tokenizer"));
        const std::string text = json.at("text");
        ASSERT_EQ(subject.word_ends(text), json.at("words").get<std::vector<int>>()) << line;
        ASSERT_EQ(subject.ids(text), json.at("ids").get<std::vector<int>>()) << line;
        ASSERT_EQ(subject.ranks(text), json.at("ranks").get<std::vector<int>>()) << line;
    }
}

}  // namespace
}  // namespace kiln
