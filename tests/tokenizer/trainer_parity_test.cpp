// The tokenizer.json equals that of Hugging Face's BpeTrainer for every pre-tokenizer, other regular expressions,
// normalizers and options, by hashes from dev/fixtures/make_training_fixtures.py.
#include <gtest/gtest.h>

#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/io/sha256.h"

namespace kiln {
namespace {

TEST(TrainerParity, tokenizer_json_equals_hugging_faces_for_every_pre_tokenizer_and_option) {
    const auto cases = nlohmann::json::parse(slurp(tokenizer_fixture("training.json")));
    ASSERT_GT(cases.size(), 200u);
    for (size_t i = 0; i < cases.size(); ++i) {
        const auto& row = cases[i];
        BpeTrainer trainer({.vocab_size = row.at("vocab_size"),
                            .min_frequency = row.at("min_frequency"),
                            .special_tokens = row.at("special"),
                            .normalizer = parse_normalizer(row.at("normalizer")),
                            .pre_tokenizer = PreTokenizer::parse(row.at("pre_tokenizer"), "training.json"),
                            .add_prefix_space = row.at("prefix_space")});
        for (const std::string file : row.at("files")) trainer.add_file(tokenizer_fixture(file + ".txt"));
        EXPECT_EQ(hex(sha256(trainer.train().to_json())).substr(0, 16), row.at("sha256").get<std::string>())
            << row << "\nHugging Face's: build/venv/bin/python dev/fixtures/make_training_fixtures.py --show " << i;
    }
}

}  // namespace
}  // namespace kiln
