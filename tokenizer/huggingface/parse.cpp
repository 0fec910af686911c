// Reads tokenizer.json, and vocab.json with merges.txt. The input may be anything: every assumption is checked, and no
// number in a file decides how much memory is allocated.
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

// The members that a saved copy repeats unchanged, in their order: all except the model and the added tokens. `text` is
// the text of `json`, an object. It parses only these members again, since the model is a thousand times larger.
nlohmann::ordered_json parse_kept_parts(std::string_view text, const Json& json) {
    nlohmann::ordered_json kept;
    for (const char* key : {"truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
        kept[key] = json.contains(key) ? nlohmann::ordered_json(json[key]) : nullptr;
    }
    int depth = 0;
    std::string_view key, string;  // of the current member; the last string
    size_t value = 0;              // start of the member's value
    const auto end_member = [&](size_t end) {
        // ordered_json compares each key with all before it, so large members are kept in the order of Json.
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
        const Json& parts = reader.array("normalizers");
        KILN_CHECK(parts.size() <= 1, reader.where(),
                   ": a sequence of several normalizers is not supported; Kiln supports none, NFC and NFKC");
        return parts.empty() ? NormalizerKind::kNone : read_normalizer(parts[0], name);
    }
    throw Error(
        concat(reader.where(), ": type \"", excerpt(type), "\" is not supported; Kiln supports none, NFC, NFKC"));
}

// A step of a Sequence before ByteLevel.
PreTokenizer read_step(const Json& json, const std::string& where) {
    const JsonReader reader(json, where);
    const std::string type = reader.string("type");
    const auto runs = [&](const char* one, bool alone) {
        return PreTokenizer::from_regex(concat(one, alone ? "" : "+"), where);
    };
    if (type == "Digits") return runs(kDigitsClass, reader.boolean("individual_digits", false));
    const std::string behavior = reader.string("behavior", "Isolated");
    if (type == "Punctuation" && (behavior == "Isolated" || behavior == "Contiguous")) {
        return runs(kPunctuationClass, behavior == "Isolated");
    }
    KILN_CHECK(type == "Split", where, ": type \"", excerpt(type),
               "\" is not supported here; Kiln supports Split, Digits, and Punctuation that is Isolated or Contiguous");
    const JsonReader pattern = reader.object("pattern");
    const bool invert = reader.boolean("invert", false);
    KILN_CHECK(behavior == "Isolated" || (behavior == "Removed" && invert), where, ": behavior \"", excerpt(behavior),
               "\" with invert ", invert ? "true" : "false",
               " is not supported; Kiln supports Isolated, and Removed with true");
    try {
        return PreTokenizer::from_regex(pattern.string("Regex"), pattern.where(), behavior == "Removed");
    } catch (const UsageError& error) {
        throw Error(error.what());  // the mistake is in a file, not on the command line
    }
}

// ByteLevel, alone or as the last step of a Sequence.
PreTokenizerSequence read_pre_tokenizer(const Json& json, const std::string& name) {
    static const char* const kSupported = "; Kiln supports ByteLevel, alone or as the last step of a Sequence";
    KILN_CHECK(!json.is_null(), name, ": pre_tokenizer: none is not supported", kSupported);
    const JsonReader reader(json, name + ": pre_tokenizer");
    const std::string type = reader.string("type");
    if (type == "ByteLevel") {
        const bool regex = reader.boolean("use_regex", true);
        return PreTokenizerSequence::byte_level(PreTokenizer(regex ? PreTokenizerKind::kGpt2 : PreTokenizerKind::kNone),
                                                reader.boolean("add_prefix_space", true));  // Hugging Face's defaults
    }
    KILN_CHECK(type == "Sequence", reader.where(), ": type \"", excerpt(type), "\" is not supported", kSupported);
    const Json& steps = reader.array("pretokenizers");
    KILN_CHECK(!steps.empty() && steps.size() <= 16, reader.where(), ": \"pretokenizers\" is ", describe(steps),
               kSupported);
    const JsonReader last(steps.back(), reader.where() + ": last step");
    KILN_CHECK(last.string("type") == "ByteLevel", last.where(), ": type \"", excerpt(last.string("type")),
               "\" is not supported", kSupported);
    PreTokenizerSequence result = read_pre_tokenizer(steps.back(), name);
    for (size_t i = 0; i + 1 < steps.size(); ++i) {
        result.before.push_back(read_step(steps[i], concat(reader.where(), ": step ", i + 1)));
    }
    if (result.last.kind() == PreTokenizerKind::kNone && !result.before.empty()) {
        // This ByteLevel does not split, so the step before it takes its place.
        const bool spaced = result.prefix_space != PreTokenizerSequence::PrefixSpace::kNone;
        result.last = std::move(result.before.back());
        result.before.pop_back();
        if (spaced) result.prefix_space = PreTokenizerSequence::PrefixSpace::kWords;
    }
    return result;
}

void read_decoder(const Json& json, const std::string& name) {
    if (json.is_null()) return;
    const JsonReader reader(json, name + ": decoder");
    const std::string type = reader.string("type");
    KILN_CHECK(type == "ByteLevel", reader.where(), ": type \"", excerpt(type),
               "\" is not supported; Kiln supports ByteLevel");
}

struct NamedToken {
    std::string spelling;  // empty if the id has no token
    bool in_vocabulary = false;
};

// Maps ids to tokens. Throws if two tokens have the same id.
class TokenTable {
public:
    explicit TokenTable(std::string name) : name_(std::move(name)) {}

    void add(const std::string& spelling, int64_t id, bool in_vocabulary) {
        const auto [there, inserted] = tokens_.try_emplace(id, NamedToken{spelling, in_vocabulary});
        KILN_CHECK(inserted, name_, ": tokens \"", excerpt(there->second.spelling), "\" and \"", excerpt(spelling),
                   "\" have the same id ", id);
    }
    // Returns whether the vocabulary has the added token too. Then the ids must be equal.
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
    // The tokens by id. Empties the table.
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
    std::unordered_map<int64_t, NamedToken> tokens_;  // a map: a large id takes no more memory than a small one
};

// Turns spellings into bytes, and the tokens of merges into ids.
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
            // An added token stands for its text. But if the vocabulary has the same spelling for other bytes (DeepSeek
            // Coder's "\u00f5"), it stands for these bytes, as in Hugging Face's decoder. A token that spells no bytes
            // stands for its text too.
            const bool is_text = tokens_[id].in_vocabulary && bytes.has_value() && !(added[id] && added[id]->special);
            parts.is_text.push_back(is_text);
            parts.vocabulary.tokens.push_back(is_text ? std::move(*bytes) : spelling);
            if (tokens_[id].in_vocabulary) ids_.emplace(spelling, static_cast<int>(id));
        }
    }
    VocabularyBuilder(const VocabularyBuilder&) = delete;

    // `what` and `number` tell its place in messages.
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
    std::unordered_map<std::string_view, int> ids_;  // by spelling in tokens_
};

void read_vocab(const Json& vocab, const std::string& where, TokenTable& table) {
    KILN_CHECK(vocab.is_object(), where, ": must be an object of tokens and ids, but is ", describe(vocab));
    for (const auto& [token, id] : vocab.items()) {
        KILN_CHECK(!token.empty(), where, ": a token is empty");
        table.add(token, read_id(id, where, token), true);
    }
}

void check_splits_characters(const Json& json, const std::string& name) {
    const JsonReader reader(json, name + ": pre_tokenizer");
    KILN_CHECK(reader.string("type") == "Split" && reader.object("pattern").string("Regex", "") == kAnyCharacter &&
                   reader.string("behavior", "") == "Isolated",
               reader.where(), ": word-level models are supported only if their pre-tokenizer is a Split by ",
               kAnyCharacter, " with behavior Isolated, which cuts text into characters");
}

// The tokens of a word-level model. Each token that is not special stands for its own text.
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
                   excerpt(parts.added[i].content), "\" occurs twice");
    }
}

AddedToken read_added_token(const JsonReader& reader, const Json& id) {
    AddedToken token;
    token.content = reader.string("content");
    KILN_CHECK(!token.content.empty(), reader.where(), ": is empty");
    token.id = read_id(id, reader.where());
    token.special = reader.boolean("special", false);
    token.normalized = reader.boolean("normalized", !token.special);
    token.single_word = reader.boolean("single_word", false);
    token.lstrip = reader.boolean("lstrip", false);
    token.rstrip = reader.boolean("rstrip", false);
    return token;
}

void read_added_tokens(const JsonReader& root, TokenTable& table, TokenizerParts& parts) {
    if (root.member("added_tokens").is_null()) return;
    const Json& tokens = root.array("added_tokens");
    for (size_t i = 0; i < tokens.size(); ++i) {
        const JsonReader reader(tokens[i], concat(root.where(), ": added token ", i));
        AddedToken token = read_added_token(reader, reader.member("id"));
        token.in_vocabulary = table.add_added(token.content, token.id);
        parts.added.push_back(std::move(token));
    }
    sort_added(parts, root.where());
}

void read_merges(const Json& merges, const std::string& name, VocabularyBuilder& builder) {
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
                   ": merge ", i, " must be [\"left\", \"right\"] or \"left right\", but is ", describe(merge));
        builder.add_merge(text.substr(0, space), text.substr(space + 1), "merge", i);
    }
}

// What the other files in the directory of vocab.json and merges.txt tell.
struct SideSettings {
    bool qwen2 = false, add_prefix_space = false;
    std::set<std::string> special;
    std::map<std::string, AddedToken> added;
};

// added_tokens.json has tokens that vocab.json lacks. special_tokens_map.json names the special ones. A newer
// tokenizer_config.json has all of this, and the tokenizer's class, which decides the pre-tokenizer.
SideSettings read_side_files(const SideFiles& side, const fs::path& directory) {
    SideSettings settings;
    auto& special = settings.special;
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
        KILN_CHECK(json.is_object(), name, ": must be an object of tokens and ids, but is ", describe(json));
        for (const auto& [content, id] : json.items()) {
            KILN_CHECK(!content.empty(), name, ": a token is empty");
            const bool is_special = special.contains(content);
            settings.added[content] = {.id = read_id(id, name + ": \"" + excerpt(content) + "\""),
                                       .content = content,
                                       .special = is_special,
                                       .normalized = !is_special};
        }
    }
    if (!side.config.empty()) {
        const std::string name = directory / "tokenizer_config.json";
        const Json json = JsonReader::parse(side.config, name);
        const JsonReader config(json, name);
        const std::string type = config.string("tokenizer_class", "");
        settings.qwen2 = type == "Qwen2Tokenizer" || type == "Qwen2TokenizerFast";
        settings.add_prefix_space = config.boolean("add_prefix_space", false);
        const Json& tokens = config.member("added_tokens_decoder");
        for (const auto& [id, token] : tokens.items()) {
            const JsonReader reader(token, concat(name, ": added_tokens_decoder: ", excerpt(id)));
            // The id is a key here, so it is a string.
            const AddedToken added = read_added_token(reader, JsonReader::parse(id, reader.where()));
            settings.added[added.content] = added;
        }
    }
    return settings;
}

}  // namespace

TokenizerParts parse_tokenizer_json(std::string_view text, const std::string& name) {
    const Json json = JsonReader::parse(text, name);
    const JsonReader root(json, name);
    const JsonReader model = root.object("model");
    const std::string type = model.string("type", "BPE");  // files from before 2020 do not name it
    const bool characters = type == "WordLevel";
    KILN_CHECK(type == "BPE" || characters, model.where(), ": type \"", excerpt(type),
               "\" is not supported; Kiln supports BPE, and WordLevel of single characters");
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
    read_added_tokens(root, table, parts);
    if (characters) {
        take_characters(table, model.string("unk_token"), parts);
        return parts;
    }
    VocabularyBuilder builder(table.take(), parts, name);
    read_merges(model.array("merges"), name, builder);
    return parts;
}

TokenizerParts parse_vocab_and_merges(std::string_view vocab_json, const std::string& vocab_name,
                                      std::string_view merges_text, const std::string& merges_name,
                                      const SideFiles& side) {
    // These two files do not name the pre-tokenizer, the normalizer and the special tokens. Without the other files,
    // they are those of GPT-2.
    const SideSettings settings = read_side_files(side, fs::path(vocab_name).parent_path());
    TokenizerParts parts = TokenizerParts::byte_level(
        settings.qwen2 ? NormalizerKind::kNfc : NormalizerKind::kNone,
        PreTokenizerSequence::byte_level(
            PreTokenizer(settings.qwen2 ? PreTokenizerKind::kQwen2 : PreTokenizerKind::kGpt2),
            settings.add_prefix_space));
    const Json vocab = JsonReader::parse(vocab_json, vocab_name);
    TokenTable table(vocab_name);
    read_vocab(vocab, vocab_name, table);
    std::map<std::string, AddedToken> added = settings.added;
    for (const std::string& special : settings.special) {
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
                   ": line ", line_number, " must be two tokens and one space, but is \"", excerpt(line), "\"");
        builder.add_merge(line.substr(0, space), line.substr(space + 1), "line", line_number);
    }
    return parts;
}

}  // namespace kiln
