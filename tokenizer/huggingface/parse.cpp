// Reads tokenizer.json, and vocab.json with merges.txt. The input may be anything: every assumption is checked, and no
// number of the file decides how much memory is taken.
#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "cpu_reference/interface/error.h"
#include "tokenizer/huggingface/byte_level.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/io/json_reader.h"
#include "tokenizer/unicode/character_properties.h"

namespace kiln {
namespace {

using Json = JsonReader::Json;
namespace fs = std::filesystem;

// What a saved copy repeats, in its order: everything but the model and the added tokens. `text` is that of `json`, an
// object. Only the parts are parsed again: the model is a thousand times larger.
nlohmann::ordered_json parse_kept_parts(std::string_view text, const Json& json) {
    nlohmann::ordered_json kept;
    for (const char* key : {"truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
        kept[key] = json.contains(key) ? nlohmann::ordered_json(json[key]) : nullptr;
    }
    int depth = 0;
    std::string_view key, string;  // of the member that is being passed; the string that was passed last
    size_t value = 0;              // where the member's value starts
    const auto end_member = [&](size_t end) {
        // An object that keeps its order looks for a duplicate key from the front; large ones are taken in Json's
        // order.
        if (kept.contains(std::string(key)) && end - value < 20000) {
            kept[std::string(key)] = nlohmann::ordered_json::parse(text.substr(value, end - value));
        }
        key = {};
    };
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '"') {
            const size_t start = i + 1;
            for (++i; text[i] != '"'; ++i) i += text[i] == '\\';
            string = text.substr(start, i - start);
        } else if (c == '{' || c == '[') {
            ++depth;
        } else if (c == '}' || c == ']') {
            if (--depth == 0) end_member(i);
        } else if (depth == 1 && c == ':') {
            key = string;
            value = i + 1;
        } else if (depth == 1 && c == ',') {
            end_member(i);
        }
    }
    return kept;
}

NormalizerKind read_normalizer(const Json& json, const std::string& name) {
    if (json.is_null()) return NormalizerKind::kNone;
    const JsonReader reader(json, name + ": normalizer");
    const std::string type = reader.string("type");
    if (type == "NFC") return NormalizerKind::kNfc;
    if (type == "NFKC") return NormalizerKind::kNfkc;
    if (type == "Sequence") {
        const Json& parts = reader.member("normalizers");
        KILN_CHECK(parts.is_array() && parts.size() <= 1, reader.where(),
                   ": a sequence of several normalizers is not supported; supported are none, NFC and NFKC");
        return parts.empty() ? NormalizerKind::kNone : read_normalizer(parts[0], name);
    }
    throw Error(
        concat(reader.where(), ": type \"", excerpt(type), "\" is not supported; supported are none, NFC, NFKC"));
}

// One step of a Sequence before ByteLevel.
Splitter read_splitter(const Json& json, const std::string& where) {
    const JsonReader reader(json, where);
    const std::string type = reader.string("type");
    const auto runs = [&](const char* one, bool alone) {
        return Splitter::from_pattern(concat(one, alone ? "" : "+"), where);
    };
    if (type == "Digits") return runs(kDigitsClass, reader.boolean("individual_digits", false));
    const std::string behavior = reader.member("behavior").is_null() ? "Isolated" : reader.string("behavior");
    if (type == "Punctuation" && (behavior == "Isolated" || behavior == "Contiguous")) {
        return runs(kPunctuationClass, behavior == "Isolated");
    }
    KILN_CHECK(type == "Split", where, ": type \"", excerpt(type),
               "\" is not supported here; supported are Split, Digits, and Punctuation that is Isolated or Contiguous");
    const JsonReader pattern(reader.member("pattern"), where + ": pattern");
    const bool invert = reader.boolean("invert", false);
    KILN_CHECK(behavior == "Isolated" || (behavior == "Removed" && invert), where, ": behavior \"", excerpt(behavior),
               "\" with invert ", invert ? "true" : "false",
               " is not supported; supported are Isolated, and Removed with true");
    try {
        return Splitter::from_pattern(pattern.string("Regex"), pattern.where(), behavior == "Removed");
    } catch (const UsageError& error) {
        throw Error(error.what());  // what is wrong stands in a file, not on the command line
    }
}

// ByteLevel, alone or after other splitters.
PreTokenizer read_pre_tokenizer(const Json& json, const std::string& name) {
    static const char* const kSupported = "; supported is ByteLevel, alone or as the last step of a Sequence";
    KILN_CHECK(!json.is_null(), name, ": pre_tokenizer: none is not supported", kSupported);
    const JsonReader reader(json, name + ": pre_tokenizer");
    const std::string type = reader.string("type");
    if (type == "ByteLevel") {
        const bool regex = reader.boolean("use_regex", true);
        return PreTokenizer::byte_level(Splitter(regex ? SplitterKind::kGpt2 : SplitterKind::kNone),
                                        reader.boolean("add_prefix_space", true));  // Hugging Face's defaults
    }
    KILN_CHECK(type == "Sequence", reader.where(), ": type \"", excerpt(type), "\" is not supported", kSupported);
    const Json& steps = reader.member("pretokenizers");
    KILN_CHECK(steps.is_array() && !steps.empty() && steps.size() <= 16, reader.where(), ": \"pretokenizers\" is ",
               describe(steps), kSupported);
    const JsonReader last(steps.back(), reader.where() + ": last step");
    KILN_CHECK(last.string("type") == "ByteLevel", last.where(), ": type \"", excerpt(last.string("type")),
               "\" is not supported", kSupported);
    PreTokenizer result = read_pre_tokenizer(steps.back(), name);
    for (size_t i = 0; i + 1 < steps.size(); ++i) {
        result.before.push_back(read_splitter(steps[i], concat(reader.where(), ": step ", i + 1)));
    }
    if (result.splitter.kind() == SplitterKind::kNone && !result.before.empty()) {
        // The last one's own place, where no piece passes from one to the next.
        const bool spaced = result.prefix_space != PreTokenizer::PrefixSpace::kNone;
        result.splitter = std::move(result.before.back());
        result.before.pop_back();
        if (spaced) result.prefix_space = PreTokenizer::PrefixSpace::kPieces;
    }
    return result;
}

void read_decoder(const Json& json, const std::string& name) {
    if (json.is_null()) return;
    const JsonReader reader(json, name + ": decoder");
    const std::string type = reader.string("type");
    KILN_CHECK(type == "ByteLevel", reader.where(), ": type \"", excerpt(type),
               "\" is not supported; supported is ByteLevel");
}

struct NamedToken {
    std::string spelling;  // empty: the id has no token
    bool in_vocabulary = false;
};

// Ids to tokens. Throws if two tokens have one id.
class TokenTable {
public:
    explicit TokenTable(std::string name) : name_(std::move(name)) {}

    void add(const std::string& spelling, int64_t id, bool in_vocabulary) {
        const auto [there, inserted] = tokens_.try_emplace(id, NamedToken{spelling, in_vocabulary});
        KILN_CHECK(inserted, name_, ": tokens \"", excerpt(there->second.spelling), "\" and \"", excerpt(spelling),
                   "\" have the same id ", id);
    }
    // An added token may stand in the vocabulary too, then with the same id.
    bool add_added(const std::string& content, int64_t id) {
        const auto there = tokens_.find(id);
        if (there == tokens_.end()) {
            add(content, id, false);
            return false;
        }
        KILN_CHECK(there->second.in_vocabulary && there->second.spelling == content, name_, ": added token \"",
                   excerpt(content), "\" has the id ", id, " of token \"", excerpt(there->second.spelling), "\"");
        return true;
    }
    size_t size() const { return tokens_.size(); }
    // By id; the table is empty afterwards.
    std::vector<NamedToken> take() {
        KILN_CHECK(!tokens_.empty(), name_, ": the vocabulary is empty");
        int64_t last = 0;
        for (const auto& [id, token] : tokens_) last = std::max(last, id);
        KILN_CHECK(static_cast<uint64_t>(last) < max_ids(tokens_.size()), name_, ": token \"",
                   excerpt(tokens_[last].spelling), "\" has id ", last, ", but there are only ", tokens_.size(),
                   " tokens; that leaves too many ids without a token");
        std::vector<NamedToken> in_order(static_cast<size_t>(last) + 1);
        for (auto& [id, token] : tokens_) in_order[id] = std::move(token);
        tokens_.clear();
        return in_order;
    }

private:
    std::string name_;
    std::unordered_map<int64_t, NamedToken> tokens_;  // by id: hostile ids take no more room than others
};

// Spellings to bytes, and merges by name to merges by id.
class VocabularyBuilder {
public:
    VocabularyBuilder(std::vector<NamedToken> tokens, TokenizerParts& parts, std::string name)
        : tokens_(std::move(tokens)), parts_(parts), name_(std::move(name)) {
        const ByteLevel byte_level;
        std::vector<const AddedToken*> added(tokens_.size());
        for (const AddedToken& token : parts.added) added[token.id] = &token;
        for (size_t id = 0; id < tokens_.size(); ++id) {
            const std::string& spelling = tokens_[id].spelling;
            auto bytes = byte_level.unspell(spelling);
            // An added token is its text, unless the vocabulary has that spelling for other bytes (DeepSeek Coder's
            // "\u00f5"): then it is these, as to Hugging Face's decoder. So is a token that spells no bytes its text.
            const bool is_text = tokens_[id].in_vocabulary && bytes.has_value() && !(added[id] && added[id]->special);
            parts.is_text.push_back(is_text);
            parts.vocabulary.tokens.push_back(is_text ? std::move(*bytes) : spelling);
            if (tokens_[id].in_vocabulary) ids_.emplace(spelling, static_cast<int>(id));
        }
    }
    VocabularyBuilder(const VocabularyBuilder&) = delete;

    // `what` and `number` say where it stands. A message is put together only if it is needed: there are 100,000
    // merges.
    void add_merge(std::string_view left, std::string_view right, const char* what, size_t number) {
        const auto id_of = [&](std::string_view spelling) {
            const auto found = ids_.find(spelling);
            KILN_CHECK(found != ids_.end(), name_, ": ", what, " ", number, " names the token \"", excerpt(spelling),
                       "\", which is not in the vocabulary");
            return found->second;
        };
        parts_.vocabulary.merges.emplace_back(id_of(left), id_of(right));
    }

private:
    std::vector<NamedToken> tokens_;
    TokenizerParts& parts_;
    std::string name_;
    std::unordered_map<std::string_view, int> ids_;  // views of tokens_
};

void read_vocab(const Json& vocab, const std::string& where, TokenTable& table) {
    KILN_CHECK(vocab.is_object(), where, ": must be an object of tokens and ids, is ", describe(vocab));
    for (const auto& [token, id] : vocab.items()) {
        KILN_CHECK(!token.empty(), where, ": a token is empty");
        table.add(token, read_id(id, where, token), true);
    }
}

void check_splits_characters(const Json& json, const std::string& name) {
    const JsonReader reader(json, name + ": pre_tokenizer");
    const JsonReader pattern(reader.member("pattern"), reader.where() + ": pattern");
    const Json& regex = pattern.member("Regex");
    KILN_CHECK(reader.string("type") == "Split" && regex == Json(kAnyCharacter) &&
                   reader.member("behavior") == Json("Isolated"),
               reader.where(), ": of word-level models only those are supported that a Split by ", kAnyCharacter,
               ", Isolated, cuts into characters");
}

// The tokens of a word-level model: those that are not special stand for their own text.
void take_characters(TokenTable& table, const std::string& unknown, TokenizerParts& parts) {
    for (NamedToken& token : table.take()) {
        if (token.in_vocabulary && token.spelling == unknown) parts.unknown = static_cast<int>(parts.is_text.size());
        parts.is_text.push_back(token.in_vocabulary);
        parts.vocabulary.tokens.push_back(std::move(token.spelling));
    }
    if (parts.unknown >= 0) parts.is_text[parts.unknown] = false;
    for (const AddedToken& token : parts.added) {
        if (token.special) parts.is_text[token.id] = false;
    }
}

void sort_added(TokenizerParts& parts, const std::string& name) {
    std::sort(parts.added.begin(), parts.added.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
    for (size_t i = 1; i < parts.added.size(); ++i) {
        KILN_CHECK(parts.added[i - 1].id != parts.added[i].id, name, ": added token \"",
                   excerpt(parts.added[i].content), "\" is there twice");
    }
}

AddedToken read_added_token(const JsonReader& reader, const Json& id) {
    AddedToken token;
    token.content = reader.string("content");
    KILN_CHECK(!token.content.empty(), reader.where(), ": is empty");
    token.id = static_cast<int>(read_id(id, reader.where()));
    token.special = reader.boolean("special", false);
    token.normalized = reader.boolean("normalized", !token.special);
    token.single_word = reader.boolean("single_word", false);
    token.lstrip = reader.boolean("lstrip", false);
    token.rstrip = reader.boolean("rstrip", false);
    return token;
}

void read_added_tokens(const Json& json, const std::string& name, TokenTable& table, TokenizerParts& parts) {
    if (json.is_null()) return;
    KILN_CHECK(json.is_array(), name, ": added_tokens must be an array, is ", describe(json));
    for (size_t i = 0; i < json.size(); ++i) {
        const JsonReader reader(json[i], concat(name, ": added token ", i));
        AddedToken token = read_added_token(reader, reader.member("id"));
        token.in_vocabulary = table.add_added(token.content, token.id);
        parts.added.push_back(std::move(token));
    }
    sort_added(parts, name);
}

void read_merges(const Json& merges, const std::string& name, VocabularyBuilder& builder) {
    KILN_CHECK(merges.is_array(), name, ": model.merges must be an array, is ", describe(merges));
    for (size_t i = 0; i < merges.size(); ++i) {
        const Json& merge = merges[i];
        if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
            builder.add_merge(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(), "merge",
                              i);
            continue;
        }
        const std::string_view text = merge.is_string() ? merge.get_ref<const std::string&>() : std::string_view();
        const size_t space = text.find(' ');
        KILN_CHECK(space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos, name,
                   ": merge ", i, " must be [\"left\", \"right\"] or \"left right\", is ", describe(merge));
        builder.add_merge(text.substr(0, space), text.substr(space + 1), "merge", i);
    }
}

// What the files beside vocab.json and merges.txt tell.
struct SideFacts {
    bool qwen2 = false, add_prefix_space = false;
    std::set<std::string> special;
    std::map<std::string, AddedToken> added;
};

// added_tokens.json has tokens that vocab.json lacks, special_tokens_map.json names those that are special, and
// tokenizer_config.json, in newer files, has all of it and the class, on which the splitter depends.
SideFacts read_side_files(const SideFiles& side, const fs::path& directory) {
    SideFacts facts;
    auto& special = facts.special;
    special.insert(std::begin(kWellKnownSpecialTokens), std::end(kWellKnownSpecialTokens));
    if (!side.special_tokens_map.empty()) {
        const Json map = JsonReader::parse(side.special_tokens_map, directory / "special_tokens_map.json");
        const auto add = [&](const Json& value) {
            const Json& content = value.is_object() && value.contains("content") ? value["content"] : value;
            if (content.is_string()) special.insert(content.get<std::string>());
        };
        for (const Json& value : map) {
            if (value.is_array()) {
                for (const Json& item : value) add(item);
            } else {
                add(value);
            }
        }
    }
    if (!side.added_tokens.empty()) {
        const std::string name = directory / "added_tokens.json";
        const Json json = JsonReader::parse(side.added_tokens, name);
        KILN_CHECK(json.is_object(), name, ": must be an object of tokens and ids, is ", describe(json));
        for (const auto& [content, id] : json.items()) {
            KILN_CHECK(!content.empty(), name, ": a token is empty");
            const bool is_special = special.contains(content);
            facts.added[content] = {.id = static_cast<int>(read_id(id, name + ": \"" + excerpt(content) + "\"")),
                                    .content = content,
                                    .special = is_special,
                                    .normalized = !is_special};
        }
    }
    if (!side.config.empty()) {
        const std::string name = directory / "tokenizer_config.json";
        const Json json = JsonReader::parse(side.config, name);
        const JsonReader config(json, name);
        const Json& type = config.member("tokenizer_class");
        facts.qwen2 = type == Json("Qwen2Tokenizer") || type == Json("Qwen2TokenizerFast");
        facts.add_prefix_space = config.boolean("add_prefix_space", false);
        const Json& tokens = config.member("added_tokens_decoder");
        for (const auto& [id, token] : tokens.items()) {
            const JsonReader reader(token, concat(name, ": added_tokens_decoder: ", excerpt(id)));
            // The id is a key here, and so a string.
            const AddedToken added = read_added_token(reader, JsonReader::parse(id, reader.where()));
            facts.added[added.content] = added;
        }
    }
    return facts;
}

}  // namespace

TokenizerParts parse_tokenizer_json(std::string_view text, const std::string& name) {
    const Json json = JsonReader::parse(text, name);
    const JsonReader root(json, name);
    const JsonReader model(root.member("model"), name + ": model");
    // Files from before 2020 do not name the type; those with merges are BPE.
    const std::string type = model.member("type").is_null() ? "BPE" : model.string("type");
    const bool characters = type == "WordLevel";
    KILN_CHECK(type == "BPE" || characters, model.where(), ": type \"", excerpt(type),
               "\" is not supported; supported are BPE, and WordLevel of single characters");
    for (const char* option : {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
        model.refuse(option);
    }

    TokenizerParts parts;
    parts.vocabulary.ignore_merges = model.boolean("ignore_merges", false);
    parts.normalizer = read_normalizer(root.member("normalizer"), name);
    if (characters) {
        parts.model = TokenizerParts::Model::kCharacters;
        check_splits_characters(root.member("pre_tokenizer"), name);
    } else {
        parts.pre_tokenizer = read_pre_tokenizer(root.member("pre_tokenizer"), name);
        read_decoder(root.member("decoder"), name);
    }
    auto kept = parse_kept_parts(text, json);
    parts.truncation = std::move(kept["truncation"]);
    parts.padding = std::move(kept["padding"]);
    parts.normalizer_json = std::move(kept["normalizer"]);
    parts.pre_tokenizer_json = std::move(kept["pre_tokenizer"]);
    parts.post_processor = std::move(kept["post_processor"]);
    parts.decoder = std::move(kept["decoder"]);

    TokenTable table(name);
    read_vocab(model.member("vocab"), name + ": model.vocab", table);
    read_added_tokens(root.member("added_tokens"), name, table, parts);
    if (characters) {
        take_characters(table, model.string("unk_token"), parts);
        return parts;
    }
    VocabularyBuilder builder(table.take(), parts, name);
    read_merges(model.member("merges"), name, builder);
    return parts;
}

TokenizerParts parse_vocab_and_merges(std::string_view vocab_json, const std::string& vocab_name,
                                      std::string_view merges_text, const std::string& merges_name,
                                      const SideFiles& side) {
    // These two say nothing of splitter, normaliser or special tokens. The files beside them may; else they come from
    // GPT-2 and its likes.
    const SideFacts facts = read_side_files(side, fs::path(vocab_name).parent_path());
    TokenizerParts parts = TokenizerParts::byte_level(
        facts.qwen2 ? NormalizerKind::kNfc : NormalizerKind::kNone,
        PreTokenizer::byte_level(Splitter(facts.qwen2 ? SplitterKind::kQwen2 : SplitterKind::kGpt2),
                                 facts.add_prefix_space));
    const Json vocab = JsonReader::parse(vocab_json, vocab_name);
    TokenTable table(vocab_name);
    read_vocab(vocab, vocab_name, table);
    std::map<std::string, AddedToken> added = facts.added;
    for (const std::string& special : facts.special) {
        const auto found = vocab.find(special);
        if (found == vocab.end() || added.contains(special)) continue;
        added[special] = {.id = found->get<int>(), .content = special, .special = true};
    }
    for (auto& [content, token] : added) {
        token.in_vocabulary = table.add_added(content, token.id);
        parts.added.push_back(token);
    }
    sort_added(parts, vocab_name);

    VocabularyBuilder builder(table.take(), parts, merges_name);
    size_t line_number = 0;
    for (size_t start = 0; start < merges_text.size();) {
        const size_t newline = std::min(merges_text.find('\n', start), merges_text.size());
        std::string_view line = merges_text.substr(start, newline - start);
        start = newline + 1;
        ++line_number;
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.empty() || line.starts_with("#version")) continue;
        const size_t space = line.find(' ');
        KILN_CHECK(space != std::string_view::npos && line.find(' ', space + 1) == std::string_view::npos, merges_name,
                   ": line ", line_number, " must be two tokens with one space between, is \"", excerpt(line), "\"");
        builder.add_merge(line.substr(0, space), line.substr(space + 1), "line", line_number);
    }
    return parts;
}

}  // namespace kiln
