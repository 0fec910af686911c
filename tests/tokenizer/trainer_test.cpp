#include "tokenizer/bpe/trainer.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <thread>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/added_tokens.h"

namespace kiln {
namespace {

struct Corpus {
    const char* name;
    BpeTrainerOptions options;
};

std::vector<Corpus> corpora() {  // the options of make_tokenizer_fixtures.py
    return {
        {"english", {.vocab_size = 700, .special_tokens = {"<|endoftext|>"}}},
        {"code", {.vocab_size = 600, .special_tokens = {"<|endoftext|>", "<|fim|>"}}},
        {"runs", {.vocab_size = 420, .special_tokens = {"<|endoftext|>"}, .add_prefix_space = true}},
        {"han_nfkc", {.vocab_size = 700, .special_tokens = {"<|endoftext|>"}, .normalizer = NormalizerKind::kNfkc}},
        {"awkward_nfc",
         {.vocab_size = 600,
          .min_frequency = 3,
          .special_tokens = {"<|endoftext|>"},
          .normalizer = NormalizerKind::kNfc}},
        {"exhausted", {.vocab_size = 1000, .min_frequency = 2, .special_tokens = {"<|endoftext|>"}}},
    };
}

TEST(BpeTrainer, tokenizer_json_equals_hugging_faces_byte_for_byte) {
    for (const Corpus& corpus : corpora()) {
        BpeTrainer trainer(corpus.options);
        trainer.add_file(tokenizer_fixture(std::string(corpus.name) + ".txt"));
        // Compared as a bool: a diff of two such texts would fill the screen.
        EXPECT_TRUE(trainer.train().to_json() == slurp(tokenizer_fixture(std::string(corpus.name) + ".json")))
            << corpus.name;
    }
}

TEST(BpeTrainer, tang_poems_give_hugging_faces_tokenizer) {
    const std::filesystem::path poems = "/usr/share/games/fortunes/tang300";
    if (!std::filesystem::exists(poems)) GTEST_SKIP() << "the package fortunes-zh is not installed";
    Fnv1a text_hash, hash;
    text_hash.add(slurp(poems));
    if (text_hash.hex() != fixture_hash("tang300_text")) GTEST_SKIP() << "another version of fortunes-zh is installed";
    BpeTrainer trainer({.vocab_size = 3000, .special_tokens = {"<|endoftext|>"}});
    trainer.add_file(poems);
    hash.add(trainer.train().to_json());
    EXPECT_EQ(hash.hex(), fixture_hash("tang300_tokenizer"));
}

// The algorithm as one would state it: count all pairs anew for each merge, take the most frequent, smallest ids first.
// No outdated counts here, so it may differ from the trainer's (and Hugging Face's) rule on overlapping runs: the words
// below have no letter twice in a row, nor does any merge of theirs.
std::vector<std::pair<int, int>> merges_by_definition(const std::map<std::vector<int>, int>& text, int first_id,
                                                      int n) {
    std::vector<std::pair<std::vector<int>, int>> words(text.begin(), text.end());
    std::vector<std::pair<int, int>> merges;
    while (static_cast<int>(merges.size()) < n) {
        std::map<std::pair<int, int>, int> counts;
        for (const auto& [word, count] : words) {
            for (size_t i = 0; i + 1 < word.size(); ++i) counts[{word[i], word[i + 1]}] += count;
        }
        auto best = counts.begin();
        for (auto pair = counts.begin(); pair != counts.end(); ++pair) {
            if (pair->second > best->second) best = pair;
        }
        if (best == counts.end()) break;
        const auto merge = best->first;
        const int id = first_id + static_cast<int>(merges.size());
        merges.push_back(merge);
        for (auto& [word, count] : words) {
            std::vector<int> merged;
            for (size_t i = 0; i < word.size(); ++i) {
                const bool here = i + 1 < word.size() && std::pair(word[i], word[i + 1]) == merge;
                merged.push_back(here ? id : word[i]);
                if (here) ++i;
            }
            word = merged;
        }
    }
    return merges;
}

TEST(BpeTrainer, random_words_merge_as_the_definition_says) {
    std::mt19937 random(5);
    for (int round = 0; round < 20; ++round) {
        std::string text;
        std::map<std::vector<int>, int> words;
        for (int n = 0; n < 60; ++n) {
            std::string letters = "abcdefgh";
            std::shuffle(letters.begin(), letters.end(), random);
            letters.resize(2 + random() % 6);
            text += letters + "\n";
            std::vector<int> ids;
            for (const char c : letters) ids.push_back(c - '!');  // '!' is the first byte of the alphabet
            ++words[ids];
        }
        BpeTrainer trainer({.vocab_size = 256 + 40});
        trainer.add_text(text, "text");
        const auto json = nlohmann::json::parse(trainer.train().to_json());
        std::vector<std::pair<int, int>> merges;
        for (const auto& merge : json["model"]["merges"]) {
            merges.emplace_back(json["model"]["vocab"][merge[0]], json["model"]["vocab"][merge[1]]);
        }
        ASSERT_EQ(merges, merges_by_definition(words, 256, 40)) << text;
    }
}

TEST(BpeTrainer, several_texts_count_as_one) {
    BpeTrainer whole({.vocab_size = 300}), parts({.vocab_size = 300});
    whole.add_text("the cat\nthe hat\nthat cat\n", "whole");
    parts.add_text("the cat\nthe hat\n", "first");
    parts.add_text("that cat\n", "second");
    EXPECT_EQ(whole.train().to_json(), parts.train().to_json());
}

TEST(BpeTrainer, one_letter_three_million_times_becomes_one_token) {
    BpeTrainer trainer({.vocab_size = 300});
    trainer.add_text(std::string(3 << 20, 'a'), "one letter");
    const Tokenizer tokenizer = trainer.train();
    size_t longest = 0;
    for (int id = 0; id < tokenizer.vocab_size(); ++id) longest = std::max(longest, tokenizer.token_bytes(id).size());
    EXPECT_EQ(longest, size_t(3) << 20);
}

// Lines of random words, with characters of three bytes and letters that NFKC changes; more than a chunk a thread.
std::string many_lines(size_t bytes) {
    std::mt19937 random(9);
    const char* const letters[] = {"a", "b", "e", "t", "\xE4\xB8\xAD", "\xEF\xBC\x8C", "\xEF\xBD\x81", " ", "1"};
    std::string text;
    while (text.size() < bytes) {
        for (unsigned n = random() % 60; n > 0; --n) text += letters[std::min(random() % 9, random() % 9)];
        text += '\n';
    }
    return text;
}

TEST(BpeTrainer, number_of_threads_changes_nothing) {
    const TempDirectory directory;
    const auto path = directory.write("text.txt", many_lines(5 << 20));
    std::string one;
    for (const int threads : {1, 2, 3, 7}) {
        BpeTrainer trainer({.vocab_size = 400, .normalizer = NormalizerKind::kNfkc, .threads = threads});
        trainer.add_file(path);
        trainer.add_file(path);
        trainer.add_text("a text of one chunk", "text");
        const std::string json = trainer.train().to_json();
        if (one.empty()) one = json;
        EXPECT_TRUE(json == one) << threads;
    }
}

TEST(BpeTrainer, progress_tells_all_bytes_then_merges_on_the_calling_thread) {
    const std::string text = many_lines(3 << 20);
    std::vector<BpeProgress> seen;
    const auto caller = std::this_thread::get_id();
    BpeTrainer trainer({.vocab_size = 500, .threads = 1, .progress = [&](const BpeProgress& p) {
                            EXPECT_EQ(std::this_thread::get_id(), caller);
                            seen.push_back(p);
                        }});
    trainer.add_text(text, "text");
    ASSERT_GE(seen.size(), 3u);  // a chunk is 1 MiB
    EXPECT_EQ(seen.back().done, text.size());
    EXPECT_EQ(seen.back().total, text.size());
    seen.clear();
    trainer.train();
    ASSERT_GE(seen.size(), 3u);
    for (size_t i = 0; i < seen.size(); ++i) {
        EXPECT_EQ(seen[i].phase, BpeProgress::Phase::kMerging);
        EXPECT_EQ(seen[i].total, 500u - 256);
        if (i > 0) {
            EXPECT_GT(seen[i].done, seen[i - 1].done);
        }
    }
}

TEST(BpeTrainer, what_progress_throws_ends_the_training) {
    BpeTrainer trainer(
        {.vocab_size = 300, .threads = 3, .progress = [](const BpeProgress&) { throw Error("stopped"); }});
    // The calling thread counts a chunk unless the others have taken them all, or else it stops before the first merge.
    EXPECT_EQ(error_of([&] {
                  trainer.add_text(many_lines(4 << 20), "text");
                  trainer.train();
              }),
              "stopped");
}

TEST(BpeTrainer, first_bad_byte_of_several_chunks_is_named_on_any_number_of_threads) {
    std::string text = many_lines(6 << 20);
    size_t first = 0;
    for (const size_t chunk : {2, 3, 5}) {
        const size_t at = text.find('a', chunk << 20);
        text[at] = '\xFF';
        if (first == 0) first = at;
    }
    for (const int threads : {1, 2, 5}) {
        BpeTrainer trainer({.vocab_size = 300, .threads = threads});
        const std::string message = error_of([&] { trainer.add_text(text, "text"); });
        EXPECT_NE(message.find(concat("first at byte ", first, ";")), std::string::npos) << threads << ": " << message;
    }
}

TEST(BpeTrainer, text_that_is_not_utf8_is_named_with_file_and_offset) {
    const TempDirectory directory;
    const auto path = directory.write("latin1.txt", "caf\xC3\xA9 and caf\xE9\n");
    BpeTrainer trainer({.vocab_size = 300});
    const std::string message = error_of([&] { trainer.add_file(path); });
    EXPECT_NE(message.find(path.string() + ": text that is not UTF-8, first at byte 13"), std::string::npos) << message;
}

TEST(BpeTrainer, missing_and_empty_files_are_errors) {
    const TempDirectory directory;
    BpeTrainer trainer({.vocab_size = 300});
    EXPECT_NE(error_of([&] { trainer.add_file(directory / "none.txt"); }).find("none.txt"), std::string::npos);
    trainer.add_file(directory.write("empty.txt", ""));
    EXPECT_NE(error_of([&] { trainer.train(); }).find("no text to train a tokenizer on"), std::string::npos);
}

TEST(BpeTrainer, options_that_cannot_work_are_usage_errors) {
    EXPECT_THROW(BpeTrainer({.vocab_size = 255}), UsageError);
    EXPECT_THROW(BpeTrainer({.vocab_size = 256, .special_tokens = {"<s>"}}), UsageError);
    EXPECT_NO_THROW(BpeTrainer({.vocab_size = 257, .special_tokens = {"<s>"}}));
    EXPECT_THROW(BpeTrainer({.vocab_size = 300, .special_tokens = {"<s>", "<s>"}}), UsageError);
    EXPECT_THROW(BpeTrainer({.vocab_size = 300, .special_tokens = {""}}), UsageError);
    EXPECT_THROW(BpeTrainer({.vocab_size = 300, .special_tokens = {"\xFF"}}), UsageError);
    EXPECT_THROW(BpeTrainer({.vocab_size = 300, .special_tokens = {"a"}}), UsageError);
}

TEST(BpeTrainer, special_token_that_the_text_spells_is_refused) {
    BpeTrainer trainer({.vocab_size = 300, .special_tokens = {"end"}});
    trainer.add_text("end end end", "text");
    EXPECT_NE(error_of([&] { trainer.train(); }).find("\"end\" is a word of the training text"), std::string::npos);
}

TEST(SpecialTokens, another_name_has_no_brackets_twice) {
    for (const auto& [token, other] : {std::pair{"end", "<|end|>"},
                                       {"<|im_end|>", "<|im_end_1|>"},
                                       {"</s>", "<|s_1|>"},
                                       {"[SEP]", "<|SEP_1|>"},
                                       {"|", "<|special|>"},
                                       {"x", "<|x|>"},
                                       {"\u6708", "<|\u6708|>"}}) {
        EXPECT_EQ(other_special_token(token), other);
    }
    // Words of "none" are whole texts, so that a special token in the text is a word.
    BpeTrainer trainer(
        {.vocab_size = 300, .special_tokens = {"<|im_end|>"}, .pre_tokenizer = PreTokenizer::parse("none", "test")});
    for (int i = 0; i < 4; i++) trainer.add_text("<|im_end|>", "text");
    EXPECT_TRUE(error_of([&] { trainer.train(); }).ends_with("does not contain, such as <|im_end_1|>"));
}

}  // namespace
}  // namespace kiln
