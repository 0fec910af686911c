#include "tools/formats/gguf_tokenizer.h"

#include <algorithm>
#include <unordered_set>

#include "cpu_reference/interface/error.h"
#include "tokenizer/huggingface/byte_level.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/sentencepiece/model.h"
#include "tokenizer/sentencepiece/tokenizer.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/formats/json_file.h"

namespace kiln {
namespace {

using Type = SentencePiece::Type;  // GGUF has the same numbers
using nlohmann::ordered_json;

constexpr const char* kNoTokenizer = "none";
constexpr float kAddedScore = -1000;  // of tokens that no SentencePiece model has, as llama.cpp's converter writes it

struct PreTokenizerName {
    std::string_view name;
    PreTokenizerKind kind;
    NormalizerKind normalizer;  // of published tokenizers with this name
    bool ignore_merges;
};
constexpr PreTokenizerName kPreTokenizers[] = {
    {"gpt-2", PreTokenizerKind::kGpt2, NormalizerKind::kNone, false},
    {"llama-bpe", PreTokenizerKind::kLlama3, NormalizerKind::kNone, true},
    {"qwen2", PreTokenizerKind::kQwen2, NormalizerKind::kNfc, false},
};

std::string role_key(Role role) {
    switch (role) {
        case Role::unk: return "tokenizer.ggml.unknown_token_id";
        case Role::sep: return "tokenizer.ggml.seperator_token_id";  // GGUF spells it so
        case Role::pad: return "tokenizer.ggml.padding_token_id";
        default: return concat("tokenizer.ggml.", role_table()[size_t(role)].name, "_token_id");
    }
}
constexpr const char* kSecondStop = "tokenizer.ggml.eot_token_id";

// The tokens of a model, one for each of its ids.
struct Tokens {
    std::vector<std::string> texts;
    std::vector<int> types;
    std::vector<float> scores;

    void add(std::string text, Type type, float score = 0) {
        texts.push_back(std::move(text)), types.push_back(int(type)), scores.push_back(score);
    }
};

std::string unused_name(size_t id) {
    return concat("[PAD", id, "]");
}

// Makes the number of tokens V. Special tokens at the end, with ids that the model does not have, are left out, as
// elsewhere in Kiln.
void fit(Tokens& tokens, int V, const std::string& name) {
    while (tokens.texts.size() > size_t(V) && tokens.types.back() == int(Type::control)) {
        tokens.texts.pop_back(), tokens.types.pop_back(), tokens.scores.pop_back();
    }
    KILN_CHECK(tokens.texts.size() <= size_t(V), name, ": the tokenizer has ", tokens.texts.size(),
               " ids, but the model has ", V, "; it belongs to another model");
    for (size_t id = 0; id < size_t(V); id++) {
        if (id == tokens.texts.size()) tokens.add("", Type::unused, kAddedScore);
        if (tokens.texts[id].empty()) tokens.texts[id] = unused_name(id), tokens.types[id] = int(Type::unused);
    }
    std::unordered_set<std::string_view> texts;
    for (size_t id = 0; id < tokens.texts.size(); id++) {
        KILN_CHECK(texts.insert(tokens.texts[id]).second, name, ": two tokens have the text \"", tokens.texts[id],
                   "\", which GGUF does not allow");
    }
}

const TokenizerKind::File* find_file(const ModelFiles& files, std::string_view name) {
    const auto found = std::ranges::find(files.files, name, &TokenizerKind::File::name);
    return found == files.files.end() ? nullptr : &*found;
}

std::string content_of(const ModelFiles& files, std::string_view name) {
    const TokenizerKind::File* file = find_file(files, name);
    return file ? file->content : "";
}

SideFiles side_files(const ModelFiles& files) {
    SideFiles side;
    side.added_tokens = content_of(files, "added_tokens.json");
    side.special_tokens_map = content_of(files, "special_tokens_map.json");
    side.config = content_of(files, "tokenizer_config.json");
    side.chat_template = content_of(files, "chat_template.jinja");
    return side;
}

// Whether the post-processor puts `bos` before a text.
bool adds_token(const ordered_json& post_processor, const std::string& bos) {
    if (!post_processor.is_object()) return false;
    const ordered_json list = post_processor.value("processors", ordered_json::array());
    if (list.is_array() && std::ranges::any_of(list, [&](const auto& p) { return adds_token(p, bos); })) return true;
    const ordered_json single = post_processor.value("single", ordered_json::array());
    if (!single.is_array() || single.empty() || !single[0].is_object()) return false;
    const ordered_json token = single[0].value("SpecialToken", ordered_json::object());
    return token.is_object() && token.value("id", ordered_json()) == bos;
}

void require_utf8(std::string_view text, const std::string& where) {
    KILN_CHECK(!find_invalid_utf8(text), where, " is not UTF-8; the file is damaged");
}

// ---- writing

// Writes the keys that all kinds of tokenizers have after their tokens. `adds_bos`: whether bos begins a text, if
// tokenizer_config.json does not say so.
void write_rest(GgufHeader& header, const Tokenizer& tokenizer, const ModelFiles& files, int V, bool adds_bos) {
    std::vector<int> stops = stop_tokens(files);
    if (const auto& eos = tokenizer.roles()[Role::eos]) {
        std::erase(stops, eos->id);
        stops.insert(stops.begin(), eos->id);
    }
    std::erase_if(stops, [&](int id) { return id < 0 || id >= V; });
    for (const RoleInfo& info : role_table()) {
        const auto& token = tokenizer.roles()[info.role];
        if (info.role == Role::eos) {
            if (!stops.empty()) header.whole(role_key(Role::eos), stops[0]);
        } else if (token && token->id < V) {
            header.whole(role_key(info.role), token->id);
        }
    }
    if (stops.size() > 1) header.whole(kSecondStop, stops[1]);
    const std::string config_text = content_of(files, "tokenizer_config.json");
    const nlohmann::json config =
        config_text.empty() ? nlohmann::json::object() : parse_json(config_text, "tokenizer_config.json");
    const auto flag = [&](const char* key, bool otherwise) {
        const auto found = config.find(key);
        return found != config.end() && found->is_boolean() ? found->get<bool>() : otherwise;
    };
    const auto& bos = tokenizer.roles()[Role::bos];
    header.boolean("tokenizer.ggml.add_bos_token", bos && flag("add_bos_token", adds_bos));
    header.boolean("tokenizer.ggml.add_eos_token", flag("add_eos_token", false));
    std::string chat = content_of(files, "chat_template.jinja");
    const auto of_config = config.find("chat_template");
    if (chat.empty() && of_config != config.end() && of_config->is_string()) chat = *of_config;
    if (!chat.empty()) header.string("tokenizer.chat_template", chat);
}

void write_byte_level(GgufHeader& header, const ModelFiles& files, const TokenizerParts& parts, int V,
                      const std::string& name) {
    const auto refuse = [&](bool bad, const auto&... what) {
        KILN_CHECK(!bad, name, ": the tokenizer ", what..., ", which GGUF cannot say; export it with --to hf");
    };
    refuse(parts.model != TokenizerParts::Model::kByteLevelBpe, "has characters as tokens");
    refuse(parts.normalizer == NormalizerKind::kNfkc, "normalizes text to NFKC");
    refuse(parts.pre_tokenizer.prefix_space != PreTokenizerSequence::PrefixSpace::kNone, "puts spaces before text");
    const PreTokenizer& last = parts.pre_tokenizer.last;
    const auto* pre = std::ranges::find(kPreTokenizers, last.kind(), &PreTokenizerName::kind);
    refuse(pre == std::end(kPreTokenizers) || !parts.pre_tokenizer.before.empty(), "has the pre-tokenizer ",
           last.name());

    const ByteLevel byte_level;
    Tokens tokens;
    for (size_t id = 0; id < parts.vocabulary.tokens.size(); id++) {
        const std::string& token = parts.vocabulary.tokens[id];
        tokens.add(parts.is_text[id] ? byte_level.spell(token) : token, Type::normal);
    }
    std::vector<std::string> merges;
    for (const auto& [left, right] : parts.vocabulary.merges) {
        merges.push_back(tokens.texts[left] + " " + tokens.texts[right]);
    }
    for (const AddedToken& token : parts.added) {
        tokens.types[token.id] = int(token.special ? Type::control : Type::user_defined);
    }
    fit(tokens, V, name);
    header.string("tokenizer.ggml.model", "gpt2");
    header.string("tokenizer.ggml.pre", pre->name);
    header.strings("tokenizer.ggml.tokens", tokens.texts);
    header.wholes("tokenizer.ggml.token_type", tokens.types);
    header.strings("tokenizer.ggml.merges", merges);
    const Tokenizer tokenizer = make_tokenizer(parts, name);
    const auto& bos = tokenizer.roles()[Role::bos];
    const bool adds_bos = bos && adds_token(parts.post_processor, parts.vocabulary.tokens[bos->id]);
    write_rest(header, tokenizer, files, V, adds_bos);
}

void write_sentencepiece(GgufHeader& header, const ModelFiles& files, const std::string& content, int V,
                         const std::string& name) {
    const SentencePieceModel model = SentencePieceModel::parse(content, name);
    const bool plain = model.kind == SentencePieceModel::Kind::bpe && !model.whitespace_is_suffix &&
                       model.escape_whitespaces && model.byte_fallback;
    KILN_CHECK(plain, name,
               ": GGUF can only hold SentencePiece models of the type bpe with byte_fallback, and with "
               "spaces escaped and before words; export it with --to hf");
    Tokens tokens;
    for (const SentencePiece& piece : model.pieces) tokens.add(piece.text, piece.type, piece.score);
    const Tokenizer tokenizer = make_sentencepiece_tokenizer(content, name, side_files(files));
    for (const AddedToken& token : tokenizer.kind().added_tokens()) {
        const Type type = token.special ? Type::control : Type::user_defined;
        if (size_t(token.id) == tokens.texts.size()) tokens.add(token.content, type, kAddedScore);
        if (tokens.types[token.id] == int(Type::normal)) tokens.types[token.id] = int(type);
    }
    fit(tokens, V, name);
    header.string("tokenizer.ggml.model", "llama");
    header.string("tokenizer.ggml.pre", "default");
    header.strings("tokenizer.ggml.tokens", tokens.texts);
    header.reals("tokenizer.ggml.scores", tokens.scores);
    header.wholes("tokenizer.ggml.token_type", tokens.types);
    header.boolean("tokenizer.ggml.add_space_prefix", model.add_dummy_prefix);
    header.boolean("tokenizer.ggml.remove_extra_whitespaces", model.remove_extra_whitespaces);
    const bool of_llama = side_files(files).config.find("\"LlamaTokenizer") != std::string::npos;
    write_rest(header, tokenizer, files, V, of_llama);
}

// ---- reading

Tokens read_tokens(const GgufFile& file, int V) {
    const std::string key = "tokenizer.ggml.tokens", where = file.path().string();
    KILN_CHECK(file.array_size(key) == uint64_t(V), where, ": the key '", key, "' has ", file.array_size(key),
               " tokens, but token_embd.weight has ", V, " rows; the file is damaged");
    Tokens tokens;
    file.for_each_string(key, [&](std::string&& text) {
        require_utf8(text, concat(where, ": token ", tokens.texts.size()));
        tokens.texts.push_back(std::move(text));
    });
    const auto check = [&](const char* name, size_t count) {
        KILN_CHECK(count == size_t(V), where, ": the key '", name, "' has ", count, " elements for ", V, " tokens");
    };
    const char *types = "tokenizer.ggml.token_type", *scores = "tokenizer.ggml.scores";
    if (file.has(types)) check(types, file.array_size(types)), tokens.types = file.whole_array(types);
    if (file.has(scores)) check(scores, file.array_size(scores)), tokens.scores = file.real_array(scores);
    tokens.types.resize(V, int(Type::normal)), tokens.scores.resize(V);
    for (const int type : tokens.types) {
        KILN_CHECK(type >= int(Type::normal) && type <= int(Type::byte), where, ": the key '", types, "' holds ", type,
                   "; 1 to 6 are known");
    }
    return tokens;
}

// The ids of the roles that the file names.
ordered_json read_token_ids(const GgufFile& file, int V) {
    ordered_json ids = ordered_json::object();
    for (const RoleInfo& info : role_table()) {
        if (!file.has(role_key(info.role))) continue;
        ids[concat(info.name, "_token_id")] = file.whole(role_key(info.role), uint64_t(V) - 1);
    }
    return ids;
}

// Members of tokenizer_config.json: the text of each token with a role.
ordered_json role_texts(const ordered_json& ids, const Tokens& tokens) {
    ordered_json texts = ordered_json::object();
    for (const auto& [key, id] : ids.items()) texts[key.substr(0, key.size() - 3)] = tokens.texts[id.get<size_t>()];
    return texts;
}

bool read_flag(const GgufFile& file, const std::string& key, bool otherwise) {
    return file.has(key) ? file.boolean(key) : otherwise;
}

Tokenizer read_byte_level(const GgufFile& file, const Tokens& tokens, const ordered_json& ids, SideFiles side) {
    const std::string where = file.path().string(), name = file.string("tokenizer.ggml.pre");
    const auto* pre = std::ranges::find(kPreTokenizers, name, &PreTokenizerName::name);
    KILN_CHECK(pre != std::end(kPreTokenizers), where, ": the pre-tokenizer is '", name,
               "'; Kiln knows gpt-2, llama-bpe and qwen2");
    const TokenizerParts parts =
        TokenizerParts::byte_level(pre->normalizer, PreTokenizerSequence::byte_level(PreTokenizer(pre->kind), false));
    nlohmann::json vocab = nlohmann::json::object();
    ordered_json added = ordered_json::array(), merges = ordered_json::array();
    for (size_t id = 0; id < tokens.texts.size(); id++) {
        const std::string& text = tokens.texts[id];
        const Type type = Type(tokens.types[id]);
        if (type == Type::unused || text.empty()) continue;
        KILN_CHECK(vocab.emplace(text, id).second, where, ": token ", id, " \"", text, "\" occurs twice");
        if (type == Type::normal) continue;
        AddedToken token{.id = int(id), .content = text, .special = type != Type::user_defined};
        token.normalized = !token.special;
        ordered_json entry = {{"id", id}};
        entry.update(added_token_json(token));
        added.push_back(std::move(entry));
    }
    file.for_each_string("tokenizer.ggml.merges", [&](std::string&& merge) {
        require_utf8(merge, concat(where, ": merge ", merges.size()));
        merges.push_back(std::move(merge));
    });
    ordered_json post_processor = parts.post_processor;
    if (ids.contains("bos_token_id") && read_flag(file, "tokenizer.ggml.add_bos_token", pre->ignore_merges)) {
        const std::string& bos = tokens.texts[ids["bos_token_id"].get<size_t>()];
        const auto token = [&](int type) { return ordered_json{{"SpecialToken", {{"id", bos}, {"type_id", type}}}}; };
        const auto text = [](const char* id, int type) {
            return ordered_json{{"Sequence", {{"id", id}, {"type_id", type}}}};
        };
        post_processor = {
            {"type", "TemplateProcessing"},
            {"single", {token(0), text("A", 0)}},
            {"pair", {token(0), text("A", 0), token(1), text("B", 1)}},
            {"special_tokens", {{bos, {{"id", bos}, {"ids", {ids["bos_token_id"]}}, {"tokens", {bos}}}}}}};
    }
    ordered_json model = {{"type", "BPE"}, {"ignore_merges", pre->ignore_merges}};
    model["vocab"] = vocab, model["merges"] = merges;
    const ordered_json json = {{"version", "1.0"},
                               {"added_tokens", added},
                               {"normalizer", parts.normalizer_json},
                               {"pre_tokenizer", parts.pre_tokenizer_json},
                               {"post_processor", post_processor},
                               {"decoder", parts.decoder},
                               {"model", model}};
    ordered_json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
    config.update(role_texts(ids, tokens));
    side.config = config.dump(2) + "\n";
    TokenizerParts read = parse_tokenizer_json(json.dump(), where, side);
    read.side = std::move(side);
    return make_tokenizer(std::move(read), where);
}

Tokenizer read_sentencepiece(const GgufFile& file, const Tokens& tokens, const ordered_json& ids, SideFiles side) {
    SentencePieceModel model;
    model.kind = SentencePieceModel::Kind::bpe;
    size_t end = tokens.texts.size();
    while (end > 0 && tokens.types[end - 1] == int(Type::unused)) end--;  // they only pad the embeddings
    for (size_t id = 0; id < end; id++) {
        model.pieces.push_back({tokens.texts[id], tokens.scores[id], Type(tokens.types[id])});
    }
    model.byte_fallback = std::ranges::count(tokens.types, int(Type::byte)) > 0;
    model.add_dummy_prefix = read_flag(file, "tokenizer.ggml.add_space_prefix", true);
    model.remove_extra_whitespaces = read_flag(file, "tokenizer.ggml.remove_extra_whitespaces", false);
    const ordered_json texts = role_texts(ids, tokens);
    model.bos = texts.value("bos_token", ""), model.eos = texts.value("eos_token", "");
    model.pad = texts.value("pad_token", "");
    ordered_json config = {{"tokenizer_class", "LlamaTokenizer"},
                           {"add_bos_token", read_flag(file, "tokenizer.ggml.add_bos_token", true)},
                           {"add_eos_token", read_flag(file, "tokenizer.ggml.add_eos_token", false)},
                           {"clean_up_tokenization_spaces", false}};
    config.update(texts);
    side.config = config.dump(2) + "\n";
    return make_sentencepiece_tokenizer(model.serialize(), file.path().string(), std::move(side));
}

}  // namespace

void write_gguf_tokenizer(GgufHeader& header, const ModelFiles& files, int V) {
    // The tokenizer's main file comes first: a tokenizer.json may lie beside a tokenizer.model, for other programs.
    for (const TokenizerKind::File& main : files.files) {
        if (main.name == "tokenizer.model") return write_sentencepiece(header, files, main.content, V, main.name);
        if (main.name == "tokenizer.json") {
            const TokenizerParts parts = parse_tokenizer_json(main.content, main.name, side_files(files));
            return write_byte_level(header, files, parts, V, main.name);
        }
        if (main.name == "vocab.json") {
            const TokenizerParts parts = parse_vocab_and_merges(
                main.content, main.name, content_of(files, "merges.txt"), "merges.txt", side_files(files));
            return write_byte_level(header, files, parts, V, main.name);
        }
    }
    header.string("tokenizer.ggml.model", kNoTokenizer);
}

ModelFiles read_gguf_tokenizer(const GgufFile& file, int V) {
    const std::string key = "tokenizer.ggml.model", kind = file.has(key) ? file.string(key) : kNoTokenizer;
    ModelFiles files;
    if (kind == kNoTokenizer || kind == "no_vocab") return files;
    KILN_CHECK(kind == "gpt2" || kind == "llama", file.path().string(), ": the tokenizer is of the kind '", kind,
               "'; Kiln has gpt2 (byte-level BPE) and llama (SentencePiece BPE)");
    const Tokens tokens = read_tokens(file, V);
    const ordered_json ids = read_token_ids(file, V);
    SideFiles side;
    if (file.has("tokenizer.chat_template")) {
        side.chat_template = file.string("tokenizer.chat_template");
        require_utf8(side.chat_template, concat(file.path().string(), ": the chat template"));
    }
    files.files = (kind == "gpt2" ? read_byte_level : read_sentencepiece)(file, tokens, ids, side).kind().files();
    for (const char* role : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
        if (ids.contains(role)) files.token_ids[role] = ids[role];
    }
    if (file.has(kSecondStop) && ids.contains("eos_token_id")) {
        const uint64_t stop = file.whole(kSecondStop, uint64_t(V) - 1);
        if (ids["eos_token_id"] != stop) files.token_ids["eos_token_id"] = {ids["eos_token_id"], stop};
    }
    return files;
}

}  // namespace kiln
