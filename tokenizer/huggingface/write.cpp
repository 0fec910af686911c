// Writes a tokenizer in Hugging Face's format.

#include "tokenizer/huggingface/byte_level.h"
#include "tokenizer/huggingface/parts.h"

namespace kiln {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json, int indent) {
    return json.dump(indent, ' ', /*ensure_ascii=*/false);
}

// Each token in the spelling of the files.
std::vector<std::string> spellings(const TokenizerParts& parts) {
    const ByteLevel byte_level;
    const bool bpe = parts.model == TokenizerParts::Model::kByteLevelBpe;
    std::vector<std::string> spelled;
    spelled.reserve(parts.vocabulary.tokens.size());
    for (size_t id = 0; id < parts.vocabulary.tokens.size(); ++id) {
        const std::string& bytes = parts.vocabulary.tokens[id];
        spelled.push_back(bpe && parts.is_text[id] ? byte_level.spell(bytes) : bytes);
    }
    return spelled;
}

// The `wanted` tokens in the order of ids. emplace_back() does not compare each key with all before it, as operator[]
// does.
Json vocab_object(const std::vector<std::string>& spelled, const std::vector<bool>& wanted) {
    Json vocab = Json::object();
    auto& entries = vocab.get_ref<Json::object_t&>();
    entries.reserve(spelled.size());
    for (size_t id = 0; id < spelled.size(); ++id) {
        if (wanted[id] && !spelled[id].empty()) entries.Container::emplace_back(spelled[id], id);
    }
    return vocab;
}

std::vector<bool> in_vocabulary(const TokenizerParts& parts) {
    std::vector<bool> in(parts.vocabulary.tokens.size(), true);
    for (const AddedToken& token : parts.added) in[token.id] = token.in_vocabulary;
    return in;
}

// The first of `names` that is a special token; empty if none is.
std::string first_special(const TokenizerParts& parts, std::initializer_list<const char*> names) {
    for (const char* name : names) {
        for (const AddedToken& token : parts.added) {
            if (token.special && token.content == name) return token.content;
        }
    }
    return "";
}

// bos_token, eos_token, ...: the roles of special tokens, by their names.
Json special_token_roles(const TokenizerParts& parts) {
    Json roles = Json::object();
    const int end_of_text = find_end_of_text(parts.added);
    const std::string end = end_of_text < 0 ? "" : parts.vocabulary.tokens[end_of_text];
    std::string begin = first_special(parts, {"<|begin_of_text|>", "<s>", "<bos>", "[BOS]"});
    if (begin.empty() && end == "<|endoftext|>") begin = end;  // GPT-2 uses one token for both
    if (!begin.empty()) roles["bos_token"] = begin;
    if (!end.empty()) roles["eos_token"] = end;
    const std::string unknown = first_special(parts, {"<unk>", "<|unk|>", "[UNK]"});
    if (!unknown.empty()) roles["unk_token"] = unknown;
    const std::string padding = first_special(parts, {"<pad>", "<|pad|>", "[PAD]", "<|padding|>"});
    if (!padding.empty()) roles["pad_token"] = padding;
    return roles;
}

Json normalizer_json_of(NormalizerKind kind) {
    if (kind == NormalizerKind::kNone) return nullptr;
    return {{"type", kind == NormalizerKind::kNfc ? "NFC" : "NFKC"}};
}

Json split_json(const std::string& regex) {
    return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}

Json added_token_json(const AddedToken& token) {
    return {{"content", token.content}, {"single_word", token.single_word}, {"lstrip", token.lstrip},
            {"rstrip", token.rstrip},   {"normalized", token.normalized},   {"special", token.special}};
}

}  // namespace

TokenizerParts TokenizerParts::characters(NormalizerKind normalizer) {
    TokenizerParts parts;
    parts.model = Model::kCharacters;
    parts.normalizer = normalizer;
    parts.normalizer_json = normalizer_json_of(normalizer);
    parts.pre_tokenizer.last = PreTokenizer(PreTokenizerKind::kNone);
    parts.pre_tokenizer_json = split_json(kAnyCharacter);
    parts.decoder = {{"type", "Fuse"}};
    return parts;
}

TokenizerParts TokenizerParts::byte_level(NormalizerKind normalizer, PreTokenizerSequence pre_tokenizer) {
    TokenizerParts parts;
    parts.normalizer = normalizer;
    parts.normalizer_json = normalizer_json_of(normalizer);
    const auto byte_level = [](bool prefix, bool trim, bool regex) {
        return Json{{"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"trim_offsets", trim}, {"use_regex", regex}};
    };
    const PreTokenizer& last_step = pre_tokenizer.last;
    const bool gpt2 = last_step.kind() == PreTokenizerKind::kGpt2;
    const Json last = byte_level(pre_tokenizer.prefix_space != PreTokenizerSequence::PrefixSpace::kNone, true, gpt2);
    if (gpt2 || last_step.kind() == PreTokenizerKind::kNone) {
        parts.pre_tokenizer_json = last;
    } else {
        parts.pre_tokenizer_json = {{"type", "Sequence"}, {"pretokenizers", {split_json(last_step.regex()), last}}};
    }
    parts.pre_tokenizer = std::move(pre_tokenizer);
    parts.post_processor = byte_level(true, false, true);  // as in GPT-2's file; it only affects offsets
    parts.decoder = byte_level(true, true, true);
    return parts;
}

std::string write_tokenizer_json(const TokenizerParts& parts) {
    const std::vector<std::string> spelled = spellings(parts);
    Json added = Json::array();
    for (const AddedToken& token : parts.added) {
        Json entry = {{"id", token.id}};
        entry.update(added_token_json(token));
        added.push_back(std::move(entry));
    }
    Json vocab = vocab_object(spelled, in_vocabulary(parts)), model;
    if (parts.model == TokenizerParts::Model::kCharacters) {
        model = {{"type", "WordLevel"}};
        model["vocab"] = std::move(vocab);
        model["unk_token"] = parts.unknown < 0 ? "<unk>" : spelled[parts.unknown];  // the format requires it
    } else {
        model = {{"type", "BPE"},
                 {"dropout", nullptr},
                 {"unk_token", nullptr},
                 {"continuing_subword_prefix", nullptr},
                 {"end_of_word_suffix", nullptr},
                 {"fuse_unk", false},
                 {"byte_fallback", false},
                 {"ignore_merges", parts.vocabulary.ignore_merges}};
        Json merges = Json::array();
        for (const auto& [left, right] : parts.vocabulary.merges) merges.push_back({spelled[left], spelled[right]});
        model["vocab"] = std::move(vocab);
        model["merges"] = std::move(merges);
    }
    Json json = {{"version", "1.0"},
                 {"truncation", parts.truncation},
                 {"padding", parts.padding},
                 {"added_tokens", std::move(added)},
                 {"normalizer", parts.normalizer_json},
                 {"pre_tokenizer", parts.pre_tokenizer_json},
                 {"post_processor", parts.post_processor},
                 {"decoder", parts.decoder}};
    json["model"] = std::move(model);
    return dump(json, 2);
}

std::string write_vocab_json(const TokenizerParts& parts) {
    return dump(vocab_object(spellings(parts), in_vocabulary(parts)), -1);
}

std::string write_merges_text(const TokenizerParts& parts) {
    const std::vector<std::string> spelled = spellings(parts);
    std::string text = "#version: 0.2\n";
    for (const auto& [left, right] : parts.vocabulary.merges) text += spelled[left] + " " + spelled[right] + "\n";
    return text;
}

// added_tokens.json: the tokens that the model's vocabulary lacks; empty if there are none.
std::string write_added_tokens(const TokenizerParts& parts) {
    Json added = Json::object();
    for (const AddedToken& token : parts.added) {
        if (!token.in_vocabulary) added[token.content] = token.id;
    }
    return added.empty() ? "" : dump(added, 2) + "\n";
}

std::string write_special_tokens_map(const TokenizerParts& parts) {
    if (!parts.special_tokens_map_json.empty()) return parts.special_tokens_map_json;
    return dump(special_token_roles(parts), 2) + "\n";
}

std::string write_tokenizer_config(const TokenizerParts& parts) {
    if (!parts.config_json.empty()) return parts.config_json;
    Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                   {"add_prefix_space", parts.pre_tokenizer.prefix_space != PreTokenizerSequence::PrefixSpace::kNone},
                   {"clean_up_tokenization_spaces", false}};
    Json decoder = Json::object();
    for (const AddedToken& token : parts.added) decoder[std::to_string(token.id)] = added_token_json(token);
    config["added_tokens_decoder"] = std::move(decoder);
    config.update(special_token_roles(parts));
    return dump(config, 2) + "\n";
}

std::vector<TokenizerKind::File> write_tokenizer_files(const TokenizerParts& parts) {
    std::vector<TokenizerKind::File> files = {{"tokenizer.json", write_tokenizer_json(parts)}};
    files.push_back({"vocab.json", write_vocab_json(parts)});
    if (parts.model == TokenizerParts::Model::kByteLevelBpe) files.push_back({"merges.txt", write_merges_text(parts)});
    const std::string added = write_added_tokens(parts);
    if (!added.empty()) files.push_back({"added_tokens.json", added});
    files.push_back({"special_tokens_map.json", write_special_tokens_map(parts)});
    files.push_back({"tokenizer_config.json", write_tokenizer_config(parts)});
    return files;
}

int find_end_of_text(const std::vector<AddedToken>& added) {
    for (int i = 0; i < kEndOfTextNames; ++i) {
        for (const AddedToken& token : added) {
            if (token.special && token.content == kWellKnownSpecialTokens[i]) return token.id;
        }
    }
    return -1;
}

}  // namespace kiln
