#pragma once
// The parts of a tokenizer in Hugging Face's format: what is read from its files, and what makes the Tokenizer.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/bpe/encoder.h"
#include "tokenizer/huggingface/side_files.h"
#include "tokenizer/pre_tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/unicode/normalizer.h"

namespace kiln {

struct TokenizerParts {
    enum class Model {
        kByteLevelBpe,
        kCharacters,  // each token is one character; Hugging Face calls it WordLevel
    };
    Model model = Model::kByteLevelBpe;
    BpeVocabulary vocabulary;  // kCharacters has no merges
    // The token of what has no token; -1: the vocabulary lacks unk_token, so that it is an error. Without an unk_token,
    // byte-level BPE leaves such bytes out.
    std::string unk_token;
    int unknown = -1;
    bool fuse_unknown = false;   // BPE: neighbouring unknown bytes are one token
    bool byte_fallback = false;  // BPE: tokens <0x00> to <0xFF> come before the unk token
    // By id: the token stands for bytes of text. False for special tokens and for ids without a token.
    std::vector<bool> is_text;
    std::vector<AddedToken> added;  // by id, ascending
    Roles roles;                    // those that files name
    NormalizerKind normalizer = NormalizerKind::kNone;
    PreTokenizerSequence pre_tokenizer;
    // Members of tokenizer.json that a saved copy repeats unchanged.
    nlohmann::ordered_json truncation, padding, normalizer_json, pre_tokenizer_json, post_processor, decoder;
    SideFiles side;

    // A tokenizer without tokens yet.
    static TokenizerParts byte_level(NormalizerKind normalizer, PreTokenizerSequence pre_tokenizer);
    static TokenizerParts characters(NormalizerKind normalizer);
};

// On any wrong input, both throw Error that names the file and the place in it.
TokenizerParts parse_tokenizer_json(std::string_view json, const std::string& name, const SideFiles& side = {});
TokenizerParts parse_vocab_and_merges(std::string_view vocab_json, const std::string& vocab_name,
                                      std::string_view merges_text, const std::string& merges_name,
                                      const SideFiles& side = {});

struct SpecialToken {
    std::string content;
    int id = 0;
};

// Reads tiktoken's ranks (.tiktoken), which do not name the pre-tokenizer and the special tokens. Throws Error.
TokenizerParts parse_tiktoken(std::string_view text, const std::string& name, PreTokenizerSequence pre_tokenizer,
                              const std::vector<SpecialToken>& special_tokens);

struct RankedToken {
    std::string bytes;
    int rank = 0;  // its id
};
// The same from tokens whose order is all that is known: tiktoken's, and llm.c's. `ranked` is in the order of ranks.
TokenizerParts parts_of_ranks(const std::vector<RankedToken>& ranked, const std::string& name,
                              PreTokenizerSequence pre_tokenizer, const std::vector<SpecialToken>& special_tokens);

inline constexpr const char* kAnyCharacter = "[\\s\\S]";  // the pre-tokenizer of kCharacters

// Published vocabularies have some ids without a token. This limit keeps their memory small.
inline size_t max_ids(size_t tokens) {
    return 2 * tokens + 4096;
}

// The files that Tokenizer::save() writes, tokenizer.json first.
std::vector<TokenizerKind::File> write_tokenizer_files(const TokenizerParts& parts);

std::string write_tokenizer_json(const TokenizerParts& parts);
std::string write_vocab_json(const TokenizerParts& parts);   // one line, in the order of the ids
std::string write_merges_text(const TokenizerParts& parts);  // merges.txt

Tokenizer make_tokenizer(TokenizerParts parts, const std::string& name);

}  // namespace kiln
