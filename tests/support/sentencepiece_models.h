#pragma once
// Small SentencePiece models, trained within the test, and strings to try them on.
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <random>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "tokenizer/unicode/utf8.h"

namespace kiln {

// Words of made-up English and Chinese, the frequent ones short, in lines of one to twenty.
inline std::vector<std::string> made_up_lines(int lines, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::string> words;
    for (int i = 0; i < 400; ++i) {
        std::string word;
        const int letters = 1 + static_cast<int>(random() % (2 + i / 40));
        for (int j = 0; j < letters; ++j) {
            if (i % 3 == 0) {
                append_utf8(word, 0x4E00 + random() % 60);
            } else {
                word += "etaoinshrdlucmfw"[random() % (4 + random() % 13)];
            }
        }
        words.push_back(word);
    }
    std::vector<std::string> result;
    for (int i = 0; i < lines; ++i) {
        std::string line;
        for (int n = 1 + static_cast<int>(random() % 20); n > 0; --n) {
            if (!line.empty() && random() % 5 != 0) line += ' ';
            line += words[random() % (1 + random() % words.size())];
            if (random() % 9 == 0) line += ",.!?"[random() % 4];
        }
        result.push_back(line);
    }
    return result;
}

class Lines : public sentencepiece::SentenceIterator {
public:
    explicit Lines(std::vector<std::string> lines) : lines_(std::move(lines)) {}
    bool done() const override { return at_ == lines_.size(); }
    void Next() override { ++at_; }
    const std::string& value() const override { return lines_[at_]; }
    sentencepiece::util::Status status() const override { return {}; }

private:
    std::vector<std::string> lines_;
    size_t at_ = 0;
};

using SentencePieceOptions = std::unordered_map<std::string, std::string>;  // of spm_train

inline const SentencePieceOptions kBytes = {{"model_type", "bpe"}, {"byte_fallback", "true"}, {"vocab_size", "800"}};

inline std::vector<SentencePieceOptions> bpe_options() {
    return {
        kBytes,
        {{"model_type", "bpe"}, {"character_coverage", "0.98"}},
        {{"model_type", "bpe"}, {"user_defined_symbols", "<sep>,▁the▁,th,the, a,中"}, {"control_symbols", "<cls>"}},
        {{"model_type", "bpe"},
         {"normalization_rule_name", "identity"},
         {"byte_fallback", "true"},
         {"vocab_size", "700"}},
        {{"model_type", "bpe"}, {"normalization_rule_name", "nfkc_cf"}, {"remove_extra_whitespaces", "false"}},
        {{"model_type", "bpe"}, {"add_dummy_prefix", "false"}, {"split_by_whitespace", "false"}},
        {{"model_type", "bpe"}, {"treat_whitespace_as_suffix", "true"}},
        {{"model_type", "bpe"}, {"allow_whitespace_only_pieces", "true"}, {"remove_extra_whitespaces", "false"}},
        {{"model_type", "bpe"},
         {"escape_whitespaces", "true"},
         {"split_by_unicode_script", "false"},
         {"split_digits", "true"}},
    };
}

inline std::string print(const SentencePieceOptions& options) {
    std::string text;
    for (const auto& [key, value] : options) text += key + "=" + value + " ";
    return text;
}

inline std::vector<SentencePieceOptions> all_options() {
    std::vector<SentencePieceOptions> all = bpe_options();
    for (const char* kind : {"unigram", "char", "word"}) {
        for (const char* bytes : {"false", "true"}) {
            SentencePieceOptions options = {
                {"model_type", kind}, {"byte_fallback", bytes}, {"hard_vocab_limit", "false"}};
            options["character_coverage"] = "0.98";
            options["control_symbols"] = "<sep>";
            all.push_back(options);
            options["user_defined_symbols"] = "中,th";
            options["normalization_rule_name"] = "nfkc_cf";
            options["treat_whitespace_as_suffix"] = "true";
            all.push_back(options);
        }
    }
    return all;
}

// The content of a .model file. `options` are those of spm_train.
inline std::string train_sentencepiece(std::unordered_map<std::string, std::string> options) {
    options.emplace("minloglevel", "2");
    options.emplace("vocab_size", "500");
    options.emplace("num_threads", "2");
    Lines lines(made_up_lines(1500, 1));
    std::string model;
    const auto status = sentencepiece::SentencePieceTrainer::Train(options, &lines, &model);
    if (!status.ok()) throw std::runtime_error(status.ToString());
    return model;
}

// Difficult text: known words, all kinds of spaces, characters without a piece or changed by normalization, "▁" itself,
// and optionally bytes that are not UTF-8.
template <class Random>
std::string awkward_text(Random& random, bool invalid) {
    static const std::vector<std::string> known = made_up_lines(200, 2);
    std::string text;
    for (int parts = static_cast<int>(random() % 12); parts > 0; --parts) {
        switch (random() % 10) {
            case 0: text += std::string(random() % 4, ' '); break;
            case 1: append_utf8(text, random() % 0xD800); break;
            case 2: append_utf8(text, 0xE000 + random() % 0x102000); break;
            case 3: text += static_cast<char>(random() % 128); break;
            case 4: {
                static const char* const special[] = {"▁",       "　",     "\n",     "\t",   "ﬁ",      "Ａ",
                                                      "e\u0301", "①",      "\u200B", "½",    "</s>",   "<s>",
                                                      "<unk>",   "<0x41>", "<sep>",  "<sep", "\u00A0", "㌀"};
                text += special[random() % std::size(special)];
                break;
            }
            case 5:
                if (invalid) text += static_cast<char>(128 + random() % 128);
                break;
            default: {
                const std::string& line = known[random() % known.size()];
                const size_t start = random() % line.size();
                text += line.substr(start, random() % 30);  // may cut a character
                if (!invalid) {
                    while (const auto at = find_invalid_utf8(text)) text.erase(*at, 1);
                }
            }
        }
    }
    return text;
}

}  // namespace kiln
