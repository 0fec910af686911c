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

Json normalizer_json_of(NormalizerKind kind) {
    if (kind == NormalizerKind::kNone) return nullptr;
    return {{"type", kind == NormalizerKind::kNfc ? "NFC" : "NFKC"}};
}

Json split_json(const std::string& regex) {
    return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
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
                 {"unk_token", parts.unk_token.empty() ? Json(nullptr) : Json(parts.unk_token)},
                 {"continuing_subword_prefix", nullptr},
                 {"end_of_word_suffix", nullptr},
                 {"fuse_unk", parts.fuse_unknown},
                 {"byte_fallback", parts.byte_fallback},
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

std::vector<TokenizerKind::File> write_tokenizer_files(const TokenizerParts& parts) {
    std::vector<TokenizerKind::File> files = {{"tokenizer.json", write_tokenizer_json(parts)}};
    files.push_back({"vocab.json", write_vocab_json(parts)});
    if (parts.model == TokenizerParts::Model::kByteLevelBpe) files.push_back({"merges.txt", write_merges_text(parts)});
    const Json config = {
        {"tokenizer_class", "PreTrainedTokenizerFast"},
        {"add_prefix_space", parts.pre_tokenizer.prefix_space != PreTokenizerSequence::PrefixSpace::kNone}};
    for (auto& file : write_side_files(parts.side, config, parts.roles, parts.added, parts.vocabulary.tokens)) {
        files.push_back(std::move(file));
    }
    return files;
}

}  // namespace kiln
