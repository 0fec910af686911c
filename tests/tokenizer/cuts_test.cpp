// A document's ids do not depend on where it is cut: with every tokenizer, those of its parts are those of the whole.
#include <gtest/gtest.h>

#include <random>

#include "cpu_reference/interface/error.h"
#include "tests/support/random_text.h"
#include "tests/support/sentencepiece_models.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/huggingface/characters.h"
#include "tokenizer/pre_tokenizer/pre_tokenizer.h"
#include "tokenizer/sentencepiece/tokenizer.h"

namespace kiln {
namespace {

using Json = nlohmann::ordered_json;
using Strings = std::vector<std::string>;

// The ids of the parts into which `kiln prepare` would cut the text; adds to `cuts`.
std::vector<int> ids_of_parts(const Tokenizer& tokenizer, std::string_view text, size_t size, EncodeOptions options,
                              int& cuts) {
    std::vector<int> ids;
    options.continued = true;
    while (const size_t at = tokenizer.find_cut(text, size, options)) {
        EXPECT_GE(at, size);
        EXPECT_LT(at, text.size());
        tokenizer.encode(text.substr(0, at), options, ids);
        text.remove_prefix(at);
        options.continues = true;
        ++cuts;
    }
    options.continued = false;
    tokenizer.encode(text, options, ids);
    return ids;
}

// Returns the number of cuts.
int expect_ids_of_whole(const Tokenizer& tokenizer, const Strings& texts, std::string what = "") {
    std::mt19937 random(3);
    int cuts = 0;
    for (const std::string& text : texts) {
        for (const bool allow_special : {false, true}) {
            const EncodeOptions options{.allow_special = allow_special};
            const std::vector<int> whole = tokenizer.encode(text, options);
            for (const size_t size : {1, 16, int(17 + random() % 60), int(random() % 200)}) {
                EXPECT_EQ(ids_of_parts(tokenizer, text, size, options, cuts), whole)
                    << what << " size " << size << " special " << allow_special << "\n"
                    << text;
                if (testing::Test::HasFailure()) return cuts;
                // A reader that has only a part of the text finds the same cut, or none yet.
                const size_t at = tokenizer.find_cut(text, size, options);
                for (int i = 0; i < 5; ++i) {
                    const size_t shown = at + random() % (text.size() + 1 - at);
                    const size_t found = tokenizer.find_cut(std::string_view(text).substr(0, shown), size, options);
                    EXPECT_TRUE(found == 0 || found == at) << what << " " << found << " of " << shown << " bytes\n"
                                                           << text;
                }
            }
        }
    }
    return cuts;
}

// Characters that are difficult for tokenizers, and runs of one that are longer than the parts. `more` are texts that
// mean something to the tokenizer.
Strings difficult_texts(int n, const Strings& more = {}) {
    const Alphabet alphabet(more, more.empty() ? 0 : 60);
    SplitMix64 random(17);
    Strings texts(static_cast<size_t>(n));
    for (std::string& text : texts) {
        for (size_t parts = 1 + random.below(8); parts > 0; --parts) {
            const std::string one = alphabet.draw(random);
            switch (random.below(6)) {
                case 0:
                    for (size_t i = random.below(90); i > 0; --i) text += one;
                    break;
                case 1: text += "The quick brown fox, of 1234567 lines.\r\n\r\n  He said: it's\n\n"; break;
                case 2: text += "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。"; break;
                default: text += alphabet.string(random, 30);
            }
        }
    }
    return texts;
}

Json parity_json() {
    return Json::parse(slurp(tokenizer_fixture("parity.json")));
}

Json split_by(const std::string& regex) {
    return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}

Json byte_level(bool prefix_space, bool regex) {
    return {{"type", "ByteLevel"}, {"add_prefix_space", prefix_space}, {"trim_offsets", true}, {"use_regex", regex}};
}

Json sequence(Json steps) {
    return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

// Tokens that may be cut themselves, overlap, and take spaces or look at the characters beside them.
Json difficult_tokens(bool normalized) {
    const Strings contents = {"<l>", "<r>",         "<both>", "word", "a\nb", "aa",  "aaa",
                              "12",  "<|end\nof|>", "é",      "\n\n", "，",   "éa,b"};
    Json tokens = Json::array();
    for (size_t i = 0; i < contents.size(); ++i) {
        tokens.push_back({{"id", 1500 + i},
                          {"content", contents[i]},
                          {"single_word", i == 3},
                          {"lstrip", i == 0 || i == 2},
                          {"rstrip", i == 1 || i == 2},
                          {"normalized", normalized && i % 2 == 0},
                          {"special", i == 1 || i == 8}});
    }
    return tokens;
}

Strings texts_of(const Json& tokens) {
    Strings texts = {"word_", "e\u0301", "<|end", "e\u0301a,b"};
    for (const Json& token : tokens) texts.push_back(token.at("content"));
    return texts;
}

TEST(Cuts, of_every_pre_tokenizer_normalizer_and_added_token) {
    for (const NamedPreTokenizer& named : named_pre_tokenizers()) {
        for (const char* normalizer : {"none", "NFC", "NFKC"}) {
            for (const int variant : {0, 1, 2, 3}) {
                const bool spaced = variant % 2 == 1, added = variant >= 2;
                Json json = parity_json();
                json["pre_tokenizer"] = byte_level(spaced, named.kind == PreTokenizerKind::kGpt2);
                if (!named.regexes.empty() && named.kind != PreTokenizerKind::kGpt2) {
                    json["pre_tokenizer"] = sequence({split_by(named.regexes[0]), byte_level(spaced, false)});
                }
                if (std::string(normalizer) != "none") json["normalizer"] = {{"type", normalizer}};
                if (added) json["added_tokens"] = difficult_tokens(spaced);
                const std::string what = concat(named.name, " ", normalizer, " ", variant);
                const Tokenizer tokenizer = Tokenizer::parse(json.dump(), what);
                const int cuts =
                    expect_ids_of_whole(tokenizer, difficult_texts(30, texts_of(json["added_tokens"])), what);
                EXPECT_GT(cuts, 200) << what;
                if (HasFailure()) return;
            }
        }
    }
}

TEST(Cuts, of_the_published_shapes) {
    const Json shapes = Json::parse(slurp(tokenizer_fixture("shapes.json"))).at("shapes");
    for (const auto& [name, row] : shapes.items()) {
        Json json = parity_json();
        json.update(row.at("shape"));
        json["model"]["ignore_merges"] = row.at("ignore_merges");
        const Tokenizer tokenizer = Tokenizer::parse(json.dump(), name);
        EXPECT_GT(expect_ids_of_whole(tokenizer, difficult_texts(100, row.at("texts")), name), 300) << name;
        if (HasFailure()) return;
    }
}

// Expressions that count, look around or ask for the end of the text, alone and after another step.
TEST(Cuts, of_any_regular_expression) {
    const struct {
        const char* regex;
        bool cuts;
    } cases[] = {
        {R"(\p{L}+(?=\s)|\p{N}{1,3}|\s+(?!\S)|\s)", true},
        {R"([\s\S]{1,7})", true},
        {R"(\s*\S+)", true},
        {R"(\s+$|\S{1,5}(?![a-z])|.)", true},
        {R"(\p{L}+(?!.*\n\n)|\p{N}+)", true},
        {R"([a-z]*)", true},
        {R"([\s\S]+)", false},
        {R"([\s\S](?=[\s\S]*z)|[\s\S]+)", false},
        {R"((?<=a)b|\p{L}+)", false},
        {R"(^ +|\p{L}+)", false},
        {R"(\A\p{L}|\p{L}+)", false},
    };
    for (const auto& c : cases) {
        for (const bool spaced : {false, true}) {
            const Json last = split_by(c.regex), digits = {{"type", "Digits"}, {"individual_digits", false}};
            for (const Json& steps :
                 {Json{last, byte_level(spaced, false)}, Json{digits, last, byte_level(spaced, false)},
                  Json{last, digits, byte_level(spaced, true)},
                  Json{split_by("[^,]+"), last, byte_level(spaced, false)}}) {
                Json json = parity_json();
                json["pre_tokenizer"] = sequence(steps);
                const std::string what = steps.dump();
                const Tokenizer tokenizer = Tokenizer::parse(json.dump(), what);
                const int cuts = expect_ids_of_whole(tokenizer, difficult_texts(20), what);
                // Another step may cut.
                EXPECT_TRUE(steps.size() > 2 || (cuts > 40) == c.cuts) << cuts << " " << what;
                if (HasFailure()) return;
            }
        }
    }
}

// Without a pre-tokenizer every byte may merge with its neighbour, and a byte that has no token may become unknown,
// together with its neighbours, or nothing. The unk token may merge.
TEST(Cuts, of_a_vocabulary_that_lacks_bytes) {
    for (const bool regex : {false, true}) {
        for (const char* unknown : {"", "<unk>", "a"}) {
            Json json = parity_json();
            json["pre_tokenizer"] = byte_level(false, regex);
            json["model"]["vocab"] = {{"a", 0},  {"b", 1},  {"ab", 2},     {"Ġ", 3}, {"<unk>", 4},
                                      {"bb", 5}, {"Ġa", 6}, {"b<unk>", 7}, {"ba", 8}};
            json["model"]["merges"] = {"a b", "b b", "Ġ a", "b <unk>", "b a"};
            if (*unknown) json["model"]["unk_token"] = unknown;
            json["model"]["fuse_unk"] = true;
            const Tokenizer tokenizer = Tokenizer::parse(json.dump(), "small");
            std::mt19937 random(5);
            Strings texts(300);
            for (std::string& text : texts) {
                for (int i = 0; i < 150; ++i) text += std::string("aabb  cd\n")[random() % 9];
            }
            EXPECT_GT(expect_ids_of_whole(tokenizer, texts, concat(regex, unknown)), 1000);
        }
    }
}

TEST(Cuts, of_characters) {
    for (const NormalizerKind normalizer : {NormalizerKind::kNone, NormalizerKind::kNfc, NormalizerKind::kNfkc}) {
        CharacterTrainer trainer({.special_tokens = {"<unk>", "<|end|>"}, .normalizer = normalizer});
        trainer.add_text("The quick brown fox é，床前明月光\n", "text");
        EXPECT_GT(expect_ids_of_whole(trainer.train(), difficult_texts(200, {"<|end|>", "e\u0301", "é"})), 1000);
    }
}

Strings awkward_texts(int n) {
    std::mt19937 random(9);
    Strings texts(static_cast<size_t>(n));
    for (std::string& text : texts) {
        for (int parts = int(random() % 20); parts > 0; --parts) {
            if (random() % 6 == 0) text += " the  the a, th＜sep> the";
            text += random() % 6 == 0 ? std::string(random() % 90, " \ne1"[random() % 4]) : awkward_text(random, false);
        }
    }
    return texts;
}

// Word models are never cut.
TEST(Cuts, of_every_sentencepiece_model) {
    std::vector<SentencePieceOptions> all = all_options();
    for (const char* suffix : {"false", "true"}) {
        for (const char* prefix : {"false", "true"}) {
            for (const char* extra : {"false", "true"}) {
                all.push_back({{"model_type", "bpe"},
                               {"treat_whitespace_as_suffix", suffix},
                               {"add_dummy_prefix", prefix},
                               {"remove_extra_whitespaces", extra}});
            }
        }
    }
    for (const SentencePieceOptions& options : all) {
        const std::string what = print(options), kind = options.at("model_type");
        const Tokenizer tokenizer = make_sentencepiece_tokenizer(train_sentencepiece(options), "m.model");
        Strings texts = awkward_texts(150);
        // Word models with spaces as suffixes stumble over some.
        std::erase_if(texts, [&](const auto& text) { return !error_of([&] { tokenizer.encode(text); }).empty(); });
        if (kind == "unigram") {  // only texts of more than 64 KiB are cut
            std::string text;
            for (size_t i = 0; text.size() < 200'000; ++i) text += texts[i % texts.size()];
            texts = {text};
        }
        const int cuts = expect_ids_of_whole(tokenizer, texts, what);
        const bool few = options.contains("split_by_whitespace");  // pieces hold spaces, so nearly all may merge
        EXPECT_TRUE(kind != "bpe" || cuts > (few ? 10 : 1000)) << cuts << " " << what;
        EXPECT_TRUE((kind == "word") == (cuts == 0)) << what;
        if (HasFailure()) return;
    }
}

TEST(Cuts, of_tokens_beside_a_sentencepiece_model) {
    const TempDirectory directory;
    directory.write("tokenizer.model", train_sentencepiece(kBytes));
    Json tokens;
    for (const Json& token : difficult_tokens(false)) tokens[to_string(token.at("id"))] = token;
    directory.write("tokenizer_config.json", Json{{"added_tokens_decoder", tokens}}.dump());
    const Tokenizer tokenizer = Tokenizer::load(directory.path());
    Strings texts = difficult_texts(200, texts_of(difficult_tokens(false)));
    EXPECT_GT(expect_ids_of_whole(tokenizer, texts), 1000);
}

// The library's ids for a whole document whose newlines become spaces.
TEST(Cuts, of_a_sentencepiece_model_are_in_no_word) {
    const std::string file = train_sentencepiece({{"model_type", "bpe"}, {"normalization_rule_name", "nmt_nfkc"}});
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.LoadFromSerializedProto(file).ok());
    std::string text;
    for (const std::string& line : made_up_lines(3000, 5)) text += line + "\n";
    std::vector<int> expected;
    ASSERT_TRUE(library.Encode(text, &expected).ok());
    int cuts = 0;
    EXPECT_EQ(ids_of_parts(make_sentencepiece_tokenizer(file, "m.model"), text, 1000, {}, cuts), expected);
    EXPECT_GT(cuts, 20);
}

}  // namespace
}  // namespace kiln
