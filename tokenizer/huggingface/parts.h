#pragma once
// What a tokenizer of Hugging Face's format consists of, between its files and the Tokenizer.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/bpe/encoder.h"
#include "tokenizer/pre_tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/unicode/normalizer.h"

namespace kiln {

struct TokenizerParts {
    enum class Model {
        kByteLevelBpe,
        kCharacters,  // each token of text is one character; a WordLevel model in Hugging Face's terms
    };
    Model model = Model::kByteLevelBpe;
    BpeVocabulary vocabulary;  // of characters: without merges
    int unknown = -1;          // of kCharacters: the id of what is not in the vocabulary; -1: that is an error
    // By id: the token stands for bytes of text. Special tokens do not, nor ids without a token, which are empty.
    std::vector<bool> is_text;
    std::vector<AddedToken> added;  // by id, ascending
    NormalizerKind normalizer = NormalizerKind::kNone;
    PreTokenizer pre_tokenizer;
    // Parts of tokenizer.json that a saved copy repeats as they were.
    nlohmann::ordered_json truncation, padding, normalizer_json, pre_tokenizer_json, post_processor, decoder;
    // tokenizer_config.json and special_tokens_map.json as they were found beside it; empty: save() makes them.
    std::string config_json, special_tokens_map_json;

    // Without tokens, with the JSON of a byte-level tokenizer.
    static TokenizerParts byte_level(NormalizerKind normalizer, PreTokenizer pre_tokenizer);
    static TokenizerParts characters(NormalizerKind normalizer);
};

// Both throw Error naming `name` and what is wrong where; hostile input is no exception.
TokenizerParts parse_tokenizer_json(std::string_view json, const std::string& name);
// The text of the files that may stand beside; empty: there is none.
struct SideFiles {
    std::string added_tokens, special_tokens_map, config;
};
TokenizerParts parse_vocab_and_merges(std::string_view vocab_json, const std::string& vocab_name,
                                      std::string_view merges_text, const std::string& merges_name,
                                      const SideFiles& side = {});

struct SpecialToken {
    std::string content;
    int id = 0;
};

// tiktoken's ranks: .tiktoken files. They say nothing of the splitter and the special tokens. Throws Error.
TokenizerParts parse_tiktoken(std::string_view text, const std::string& name, PreTokenizer pre_tokenizer,
                              const std::vector<SpecialToken>& special_tokens);

inline constexpr const char* kAnyCharacter = "[\\s\\S]";  // the splitter of kCharacters

// Ids without a token are allowed, as published vocabularies have some, but so few that they cost little memory.
inline size_t max_ids(size_t tokens) {
    return 2 * tokens + 4096;
}

// What Tokenizer::save() writes, tokenizer.json first.
std::vector<TokenizerKind::File> write_tokenizer_files(const TokenizerParts& parts);

std::string write_tokenizer_json(const TokenizerParts& parts);
std::string write_vocab_json(const TokenizerParts& parts);   // one line, in the order of the ids
std::string write_merges_text(const TokenizerParts& parts);  // merges.txt
std::string write_tokenizer_config(const TokenizerParts& parts);
std::string write_added_tokens(const TokenizerParts& parts);
std::string write_special_tokens_map(const TokenizerParts& parts);

// What vocab.json cannot say: which of its tokens are special. Those that end a document come first, by precedence.
inline constexpr const char* kWellKnownSpecialTokens[] = {
    "<|endoftext|>", "</s>",    "<|end_of_text|>", "<|im_end|>",        "<|eot_id|>",   "<eos>",  "[EOS]",   "<|end|>",
    "<s>",           "<bos>",   "[BOS]",           "<|begin_of_text|>", "<|im_start|>", "<unk>",  "<|unk|>", "[UNK]",
    "<pad>",         "<|pad|>", "[PAD]",           "<|padding|>",       "<mask>",       "[MASK]", "[CLS]",   "[SEP]"};
inline constexpr int kEndOfTextNames = 8;  // how many of them end a document

// The document separator among the added tokens, as Tokenizer::end_of_text() has it; -1 if there is none.
int find_end_of_text(const std::vector<AddedToken>& added);

Tokenizer make_tokenizer(TokenizerParts parts, const std::string& name);

}  // namespace kiln
