// Reads tokenizer.json, and vocab.json with merges.txt. The input may be anything: every assumption is checked, and no
// number in a file decides how much memory is allocated.
#include <algorithm>
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
    // `vocab` must be an object of tokens and ids, and outlive the table.
    TokenTable(const Json& vocab, const std::string& where, std::string name) : vocab_(vocab), name_(std::move(name)) {
        KILN_CHECK(vocab.is_object(), where, ": must be an object of tokens and ids, but is ", describe(vocab));
        for (const auto& [token, id] : vocab.items()) {
            KILN_CHECK(!token.empty(), where, ": a token is empty");
            add(token, read_id(id, where, token), true);
        }
    }

    // Adds a token as `tokenizers` does, whatever id its file gives it: a token of the vocabulary keeps its id, another
    // one gets the next id, and one that was added before gets the new properties. An empty token is ignored.
    void add_added(AddedToken token, std::vector<AddedToken>& added) {
        if (token.content.empty()) return;
        const auto [there, inserted] = index_.try_emplace(token.content, added.size());
        if (!inserted) {
            AddedToken& old = added[there->second];
            token.id = old.id, token.in_vocabulary = old.in_vocabulary;
            old = std::move(token);
            return;
        }
        const auto known = vocab_.find(token.content);
        token.in_vocabulary = known != vocab_.end();
        token.id = token.in_vocabulary ? known->get<int>() : next_id_;
        if (!token.in_vocabulary) add(token.content, token.id, false);
        next_id_ = std::max(next_id_, token.id + 1);
        added.push_back(std::move(token));
    }
    // The id of a token; -1: there is none.
    int id_of(const std::string& content, const std::vector<AddedToken>& added) const {
        if (const auto there = index_.find(content); there != index_.end()) return added[there->second].id;
        const auto known = vocab_.find(content);
        return known == vocab_.end() ? -1 : known->get<int>();
    }
    int64_t ids() const {  // ids are 0 .. ids() - 1
        int64_t last = -1;
        for (const auto& [id, token] : tokens_) last = std::max(last, id);
        return last + 1;
    }
    // The tokens by id. Empties the table.
    std::vector<NamedToken> take() {
        KILN_CHECK(!tokens_.empty(), name_, ": the vocabulary is empty");
        const int64_t last = ids() - 1;
        KILN_CHECK(static_cast<uint64_t>(last) < max_ids(tokens_.size()), name_, ": token \"",
                   excerpt(tokens_[last].spelling), "\" has id ", last, ", but there are only ", tokens_.size(),
                   " tokens; that leaves too many ids without a token");
        std::vector<NamedToken> in_order(static_cast<size_t>(last) + 1);
        for (auto& [id, token] : tokens_) in_order[id] = std::move(token);
        tokens_.clear();
        return in_order;
    }

private:
    void add(const std::string& spelling, int64_t id, bool in_vocabulary) {
        const auto [there, inserted] = tokens_.try_emplace(id, NamedToken{spelling, in_vocabulary});
        KILN_CHECK(inserted, name_, ": tokens \"", excerpt(there->second.spelling), "\" and \"", excerpt(spelling),
                   "\" have the same id ", id);
    }

    const Json& vocab_;
    std::string name_;
    std::unordered_map<int64_t, NamedToken> tokens_;  // a map: a large id takes no more memory than a small one
    int next_id_ = static_cast<int>(vocab_.size());   // of an added token
    std::unordered_map<std::string, size_t> index_;   // of added tokens, by text
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
            // stands for its text too. A special token is no text, except for one byte: then it is the byte's only
            // token.
            const bool special = added[id] && added[id]->special;
            const bool is_text = tokens_[id].in_vocabulary && bytes.has_value() && (!special || bytes->size() == 1);
            if (special && bytes.has_value()) special_.emplace(spelling, static_cast<int>(id));
            parts.is_text.push_back(is_text);
            parts.vocabulary.tokens.push_back(is_text ? std::move(*bytes) : spelling);
            if (tokens_[id].in_vocabulary) ids_.emplace(spelling, static_cast<int>(id));
        }
    }
    VocabularyBuilder(const VocabularyBuilder&) = delete;

    // Of the vocabulary; -1: it has no such token.
    int id_of(std::string_view spelling) const {
        const auto found = ids_.find(spelling);
        return found == ids_.end() ? -1 : found->second;
    }
    // `what` and `number` tell its place in messages.
    void add_merge(std::string_view left, std::string_view right, const char* what, size_t number) {
        const auto known = [&](std::string_view spelling) {
            const int id = id_of(spelling);
            KILN_CHECK(id >= 0, name_, ": ", what, " ", number, " names the token \"", excerpt(spelling),
                       "\", which is not in the vocabulary");
            return id;
        };
        parts_.vocabulary.merges.emplace_back(known(left), known(right));
        if (special_.empty()) return;
        const auto result = special_.find(concat(left, right));
        if (result == special_.end()) return;
        // Merging needs this special token. The tokenizer then takes it apart again.
        parts_.is_text[result->second] = true;
        parts_.vocabulary.tokens[result->second] = *ByteLevel().unspell(result->first);
    }

    // Of equal merges, the last one counts.
    void finish() {
        auto& merges = parts_.vocabulary.merges;
        std::set<std::pair<int, int>> seen;
        std::vector<std::pair<int, int>> last;
        for (auto merge = merges.rbegin(); merge != merges.rend(); ++merge) {
            if (seen.insert(*merge).second) last.push_back(*merge);
        }
        if (last.size() < merges.size()) merges.assign(last.rbegin(), last.rend());
    }

private:
    std::vector<NamedToken> tokens_;
    TokenizerParts& parts_;
    std::string name_;
    std::unordered_map<std::string_view, int> ids_;  // by spelling in tokens_
    std::unordered_map<std::string, int> special_;   // tokens of the vocabulary, by spelling
};

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

// Returns them with the ids of the file.
std::vector<AddedToken> read_added_tokens(const JsonReader& root, TokenTable& table, TokenizerParts& parts) {
    std::vector<AddedToken> read;
    if (root.member("added_tokens").is_null()) return read;
    const Json& tokens = root.array("added_tokens");
    for (size_t i = 0; i < tokens.size(); ++i) {
        const JsonReader reader(tokens[i], concat(root.where(), ": added token ", i));
        read.push_back(read_added_token(reader));
        read.back().id = read_id(reader.member("id"), reader.where());
        table.add_added(read.back(), parts.added);
    }
    return read;
}

// The tokens and roles of the files beside the tokenizer.
void add_side_tokens(const SideSettings& settings, TokenTable& table, TokenizerParts& parts) {
    for (const AddedToken& token : settings.added) table.add_added(token, parts.added);
    const auto id_of = [&](const std::string& content) { return table.id_of(content, parts.added); };
    parts.roles = settings.roles(id_of, table.ids());
    std::ranges::sort(parts.added, {}, &AddedToken::id);
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

}  // namespace

TokenizerParts parse_tokenizer_json(std::string_view text, const std::string& name, const SideFiles& side) {
    const Json json = JsonReader::parse(text, name);
    const JsonReader root(json, name);
    const JsonReader model = root.object("model");
    const std::string type = model.string("type", "BPE");  // files from before 2020 do not name it
    const bool characters = type == "WordLevel";
    KILN_CHECK(type == "BPE" || characters, model.where(), ": type \"", excerpt(type),
               "\" is not supported; Kiln supports BPE, and WordLevel of single characters");
    for (const char* option : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
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

    TokenTable table(model.member("vocab"), name + ": model.vocab", name);
    const std::vector<AddedToken> own = read_added_tokens(root, table, parts);
    add_side_tokens(read_side_files(side, own), table, parts);
    if (characters) {
        parts.unk_token = model.string("unk_token");
        take_characters(table, parts.unk_token, parts);
        return parts;
    }
    VocabularyBuilder builder(table.take(), parts, name);
    read_merges(model.array("merges"), name, builder);
    builder.finish();
    parts.unk_token = model.string("unk_token", "");
    parts.unknown = parts.unk_token.empty() ? -1 : builder.id_of(parts.unk_token);
    parts.fuse_unknown = model.boolean("fuse_unk", false);
    parts.byte_fallback = model.boolean("byte_fallback", false);
    return parts;
}

TokenizerParts parse_vocab_and_merges(std::string_view vocab_json, const std::string& vocab_name,
                                      std::string_view merges_text, const std::string& merges_name,
                                      const SideFiles& side) {
    // These two files do not name the pre-tokenizer, the normalizer and the special tokens. The class in
    // tokenizer_config.json decides the first two. Without it, they are those of GPT-2.
    const Json vocab = JsonReader::parse(vocab_json, vocab_name);
    TokenTable table(vocab, vocab_name, vocab_name);
    const SideSettings settings = read_side_files(side, {});
    const bool qwen2 = settings.tokenizer_class.starts_with("Qwen2Tokenizer");
    TokenizerParts parts = TokenizerParts::byte_level(
        qwen2 ? NormalizerKind::kNfc : NormalizerKind::kNone,
        PreTokenizerSequence::byte_level(PreTokenizer(qwen2 ? PreTokenizerKind::kQwen2 : PreTokenizerKind::kGpt2),
                                         settings.add_prefix_space));
    add_side_tokens(settings, table, parts);
    const std::vector<AddedToken> named = parts.added;
    for (const auto& [token, id] : vocab.items()) {
        const bool known = std::ranges::count(named, token, &AddedToken::content) > 0;
        if (!known && is_usually_special(token)) table.add_added({.content = token, .special = true}, parts.added);
    }
    std::ranges::sort(parts.added, {}, &AddedToken::id);

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
    builder.finish();
    return parts;
}

}  // namespace kiln
