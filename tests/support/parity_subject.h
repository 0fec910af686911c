#pragma once
// Kiln beside the hashes that dev/fixtures/make_identity_fixtures.py made with Hugging Face's tokenizers and tiktoken.
#include <gtest/gtest.h>

#include <thread>

#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/io/sha256.h"
#include "tokenizer/pre_tokenizer/pre_tokenizer.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

// SHA-256 over rows of numbers as 16 bits each and 65535 after each row.
class RowHash {
public:
    template <class Row>
    void add(const Row& row) {
        for (const auto number : row) add_number(static_cast<uint16_t>(number));
        add_number(65535);
    }
    std::string digits() const {
        const auto digest = sha256(bytes_);
        return hex({reinterpret_cast<const char*>(digest.data()), 8});
    }

private:
    void add_number(uint16_t number) {
        bytes_ += static_cast<char>(number & 255);
        bytes_ += static_cast<char>(number >> 8);
    }
    std::string bytes_;
};

// One splitter with the vocabulary of the fixtures, as tokenizer.json and as .tiktoken.
class IdentitySubject {
public:
    explicit IdentitySubject(const std::string& splitter)
        : splitter_(Splitter::parse(splitter, "test")),
          by_merges_(make_tokenizer(with_splitter(parse_tokenizer_json(slurp(tokenizer_fixture("identity.json")), "j")),
                                    "identity.json")),
          by_ranks_(make_tokenizer(
              parse_tiktoken(slurp(tokenizer_fixture("identity.tiktoken")), "t", {.splitter = splitter_}, {}),
              "identity.tiktoken")) {}

    std::vector<int> piece_ends(std::string_view text) const {  // in code points
        std::vector<int> ends;
        int at = 0;
        splitter_.split(text, [&](std::string_view piece) {
            for (const char c : piece) at += (c & 0xC0) != 0x80;
            ends.push_back(at);
        });
        return ends;
    }
    std::vector<int> ids(std::string_view text) const { return by_merges_.encode(text); }
    std::vector<int> ranks(std::string_view text) const { return by_ranks_.encode(text); }

    // As identity_hashes.json has it: of the pieces, the ids, the ids by ranks.
    std::string hashes(const std::vector<std::string>& strings) const {
        RowHash of_pieces, of_ids, of_ranks;
        for (const std::string& text : strings) {
            of_pieces.add(piece_ends(text));
            of_ids.add(ids(text));
            of_ranks.add(ranks(text));
        }
        return of_pieces.digits() + " " + of_ids.digits() + " " + of_ranks.digits();
    }

private:
    TokenizerParts with_splitter(TokenizerParts parts) const {
        parts.pre_tokenizer = {.splitter = splitter_};
        return parts;
    }
    Splitter splitter_;
    Tokenizer by_merges_, by_ranks_;
};

// Takes the name of a splitter.
class TokenizerIdentityTest : public testing::TestWithParam<const char*> {
protected:
    static nlohmann::json expected() { return nlohmann::json::parse(slurp(tokenizer_fixture("identity_hashes.json"))); }

    // Compares blocks 0 to n, each by its name and strings, on two threads.
    template <class Name, class Strings>
    void compare(size_t n, Name&& name, Strings&& strings) {
        const nlohmann::json expected_hashes = expected().at("blocks").at(GetParam());
        const IdentitySubject subject{GetParam()};
        std::vector<std::string> actual(n);
        const auto work = [&](size_t first) {
            for (size_t i = first; i < n; i += 2) actual[i] = subject.hashes(strings(i));
        };
        std::thread other(work, 1);
        work(0);
        other.join();
        for (size_t i = 0; i < n; ++i) {
            EXPECT_EQ(actual[i], expected_hashes.at(name(i)).template get<std::string>())
                << "pieces, ids or ids by ranks differ; see where with: build/venv/bin/python "
                << "dev/fixtures/make_identity_fixtures.py --explain " << GetParam() << " '" << name(i)
                << "' > FILE; KILN_IDENTITY_LINES=FILE build/tests/tokenizer_identity_test";
        }
    }
};

inline auto splitters_to_compare() {
    return testing::Values("gpt2", "cl100k", "llama3", "qwen2", "o200k");
}
inline std::string splitter_name(const testing::TestParamInfo<const char*>& info) {
    return info.param;
}

}  // namespace kiln
