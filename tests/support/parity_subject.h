#pragma once
// Compares Kiln with hashes that dev/fixtures/make_parity_fixtures.py made with Hugging Face's tokenizers and tiktoken.
#include <gtest/gtest.h>

#include <thread>

#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/io/sha256.h"
#include "tokenizer/pre_tokenizer/pre_tokenizer.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

// SHA-256 of rows of 16-bit numbers, with 65535 after each row.
class RowHash {
public:
    template <class Row>
    void add(const Row& row) {
        for (const auto number : row) add_number(static_cast<uint16_t>(number));
        add_number(65535);
    }
    std::string digits() const { return hex(sha256(bytes_)).substr(0, 16); }

private:
    void add_number(uint16_t number) {
        bytes_ += static_cast<char>(number & 255);
        bytes_ += static_cast<char>(number >> 8);
    }
    std::string bytes_;
};

// One pre-tokenizer with the vocabulary of the fixtures, as tokenizer.json and as .tiktoken.
class ParitySubject {
public:
    explicit ParitySubject(const std::string& pre_tokenizer)
        : pre_tokenizer_(PreTokenizer::parse(pre_tokenizer, "test")),
          by_merges_(make_tokenizer(
              with_pre_tokenizer(parse_tokenizer_json(slurp(tokenizer_fixture("parity.json")), "j")), "parity.json")),
          by_ranks_(make_tokenizer(
              parse_tiktoken(slurp(tokenizer_fixture("parity.tiktoken")), "t", {.last = pre_tokenizer_}, {}),
              "parity.tiktoken")) {}

    std::vector<int> word_ends(std::string_view text) const {  // in code points
        std::vector<int> ends;
        int at = 0;
        pre_tokenizer_.split(text, [&](std::string_view word) {
            for (const char c : word) at += (c & 0xC0) != 0x80;
            ends.push_back(at);
        });
        return ends;
    }
    std::vector<int> ids(std::string_view text) const { return by_merges_.encode(text); }
    std::vector<int> ranks(std::string_view text) const { return by_ranks_.encode(text); }

    // In the format of parity_hashes.json: hashes of the words, the ids, and the ids by ranks.
    std::string hashes(const std::vector<std::string>& strings) const {
        RowHash of_words, of_ids, of_ranks;
        for (const std::string& text : strings) {
            of_words.add(word_ends(text));
            of_ids.add(ids(text));
            of_ranks.add(ranks(text));
        }
        return of_words.digits() + " " + of_ids.digits() + " " + of_ranks.digits();
    }

private:
    TokenizerParts with_pre_tokenizer(TokenizerParts parts) const {
        parts.pre_tokenizer = {.last = pre_tokenizer_};
        return parts;
    }
    PreTokenizer pre_tokenizer_;
    Tokenizer by_merges_, by_ranks_;
};

// The parameter is the name of a pre-tokenizer.
class TokenizerParityTest : public testing::TestWithParam<std::string> {
protected:
    static nlohmann::json expected() { return nlohmann::json::parse(slurp(tokenizer_fixture("parity_hashes.json"))); }

    // Compares blocks 0 to n - 1 on two threads. Each has a name and strings.
    template <class Name, class Strings>
    void compare(size_t n, Name&& name, Strings&& strings) {
        const nlohmann::json expected_hashes = expected().at("blocks").at(GetParam());
        const ParitySubject subject{GetParam()};
        std::vector<std::string> actual(n);
        const auto work = [&](size_t first) {
            for (size_t i = first; i < n; i += 2) actual[i] = subject.hashes(strings(i));
        };
        std::thread other(work, 1);
        work(0);
        other.join();
        for (size_t i = 0; i < n; ++i) {
            EXPECT_EQ(actual[i], expected_hashes.at(name(i)).template get<std::string>())
                << "words, ids or ids by ranks differ; see where with: build/venv/bin/python "
                << "dev/fixtures/make_parity_fixtures.py --explain " << GetParam() << " '" << name(i)
                << "' > FILE; KILN_PARITY_LINES=FILE build/tests/tokenizer/parity_test";
        }
    }
};

inline auto pre_tokenizers_to_compare() {  // every one that has a regular expression
    std::vector<std::string> names;
    for (const auto& named : named_pre_tokenizers()) {
        if (!named.regexes.empty()) names.push_back(named.name);
    }
    return testing::ValuesIn(names);
}
inline std::string pre_tokenizer_name(const testing::TestParamInfo<std::string>& info) {
    return info.param;
}

}  // namespace kiln
