// Follows PreTrainedTokenizerBase._from_pretrained and TokenizersBackend.__init__ of transformers 5.
#include "tokenizer/huggingface/side_files.h"

#include <algorithm>
#include <map>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"

namespace kiln {
namespace {

using Json = JsonReader::Json;
namespace fs = std::filesystem;

constexpr const char* kConfig = "tokenizer_config.json";
constexpr const char* kMap = "special_tokens_map.json";
constexpr const char* kTemplate = "chat_template.jinja";
constexpr const char* kAdded = "added_tokens.json";

// A special token of one of the files, as a string or an object.
std::optional<AddedToken> read_special(const Json& value, const std::string& where, bool special) {
    if (value.is_string()) {
        if (value.get_ref<const std::string&>().empty()) return std::nullopt;
        return AddedToken{.content = value.get<std::string>(), .special = true};
    }
    if (!value.is_object()) return std::nullopt;
    AddedToken token = read_added_token(JsonReader(value, where));
    token.special = token.special || special;
    return token;
}

template <class Tokens>
auto find_content(Tokens& tokens, const std::string& content) {
    return std::find_if(tokens.begin(), tokens.end(), [&](const AddedToken& t) { return t.content == content; });
}

class Reader {
public:
    explicit Reader(const SideFiles& side) : side_(side) {}

    SideSettings read(const std::vector<AddedToken>& own) {
        const Json config = parse(side_.config, kConfig), map = parse(side_.special_tokens_map, kMap);
        const JsonReader reader(config, path(kConfig));
        settings_.tokenizer_class = reader.string("tokenizer_class", "");
        settings_.add_prefix_space = reader.boolean("add_prefix_space", false);
        const bool whole = config.contains("added_tokens_decoder");
        if (!whole) read_roles(map, kMap);
        read_roles(config, kConfig);
        read_model_specific(config);
        read_extra(config, kConfig, false);
        if (whole) {
            read_decoder(config["added_tokens_decoder"]);
            const auto named = roles_;
            read_roles(map, kMap);
            roles_ = named;
        } else {
            read_extra(map, kMap, true);
            read_added_json();
            // transformers adds them once more, by their ids. Without side files it is `tokenizers` that reads the
            // file.
            const bool alone = side_.config.empty() && side_.special_tokens_map.empty() && side_.added_tokens.empty();
            for (const AddedToken& token : own) {
                if (!alone) decoder_[token.id] = token;
            }
        }
        read_model_config();
        collect(own);
        return std::move(settings_);
    }

private:
    std::string path(const char* file) const { return side_.directory / file; }
    Json parse(const std::string& text, const char* file) const {
        Json json = text.empty() ? Json::object() : JsonReader::parse(text, path(file));
        JsonReader(json, path(file));
        return json;
    }

    // Of two files, the first one that names a role's token wins.
    void read_roles(const Json& json, const char* file) {
        for (const RoleInfo& info : role_table()) {
            const std::string key = concat(info.name, "_token");
            const auto value = json.find(key);
            if (value == json.end()) continue;
            const auto token = read_special(*value, concat(path(file), ": ", key), true);
            if (!token) continue;
            settings_.named.push_back({info.role, token->content, file});
            roles_.try_emplace(info.role, *token);
        }
    }

    // Other members NAME_token, such as image_token.
    void read_model_specific(const Json& config) {
        for (const auto& [key, value] : config.items()) {
            const bool role = std::ranges::any_of(
                role_table(), [&, &name = key](const RoleInfo& info) { return name == concat(info.name, "_token"); });
            if (key.ends_with("_token") && !role && value.is_string()) {
                if (const auto token = read_special(value, "", true)) specific_.push_back(*token);
            }
        }
    }

    void read_extra(const Json& json, const char* file, bool special) {
        for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
            const auto list = json.find(key);
            if (list == json.end() || list->empty()) continue;
            const bool older = std::string_view(key) == "additional_special_tokens";
            if (older && !extra_.empty()) continue;  // as in transformers
            for (const Json& value : *list) {
                // A dictionary NAME -> token has the rank of NAME_token.
                auto& tokens = list->is_object() ? specific_ : extra_;
                const auto token = read_special(value, concat(path(file), ": ", key), special);
                if (token) tokens.push_back(*token);
            }
        }
    }

    void read_decoder(const Json& tokens) {
        for (const auto& [id, token] : tokens.items()) {
            const JsonReader reader(token, concat(path(kConfig), ": added_tokens_decoder: ", excerpt(id)));
            // The id is a key here, so it is a string.
            decoder_[read_id(JsonReader::parse(id, reader.where()), reader.where())] = read_added_token(reader);
        }
    }

    void read_added_json() {
        const Json json = parse(side_.added_tokens, kAdded);
        for (const auto& [content, id] : json.items()) {
            const bool special = is_special(content);
            decoder_[read_id(id, concat(path(kAdded), ": \"", excerpt(content), "\""))] = {
                .content = content, .special = special, .normalized = !special};
        }
    }
    bool is_special(const std::string& content) const {
        const auto in = [&](const std::vector<AddedToken>& tokens) {
            return find_content(tokens, content) != tokens.end();
        };
        return in(named_tokens()) || in(extra_);
    }
    // Of roles and other members, in the order in which they are added.
    std::vector<AddedToken> named_tokens() const {
        std::vector<AddedToken> tokens;
        for (const auto& [role, token] : roles_) tokens.push_back(token);
        tokens.insert(tokens.end(), specific_.begin(), specific_.end());
        return tokens;
    }

    void read_model_config() {
        const Json json = parse(side_.model_config, kModelConfigName);
        for (const RoleInfo& info : role_table()) {
            const auto value = json.find(concat(info.name, "_token_id"));
            if (value == json.end()) continue;
            const Json& id = value->is_array() && !value->empty() ? value->front() : *value;
            if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) continue;
            settings_.named.push_back({info.role, "", kModelConfigName, id.get<int>()});
        }
    }

    // The tokens that transformers would add.
    void collect(const std::vector<AddedToken>& own) {
        std::vector<AddedToken>& added = settings_.added;
        for (const auto& [id, token] : decoder_) added.push_back(token);
        const std::vector<AddedToken> named = named_tokens();
        for (AddedToken& token : added) {
            token.special = token.special || find_content(named, token.content) != named.end();
        }
        // Two of these may have one text; then the properties of the last one count.
        const std::vector<AddedToken> before = added;
        for (const auto* tokens : {&named, &std::as_const(extra_)}) {
            for (const AddedToken& token : *tokens) {
                const bool known = find_content(own, token.content) != own.end() ||
                                   find_content(before, token.content) != before.end();
                if (!known) added.push_back(token);
            }
        }
    }

    const SideFiles& side_;
    SideSettings settings_;
    std::map<Role, AddedToken> roles_;
    std::vector<AddedToken> specific_, extra_;  // other members NAME_token; lists
    std::map<int, AddedToken> decoder_;         // added tokens by the ids in the files
};

}  // namespace

std::vector<TokenizerKind::File> write_side_files(const SideFiles& side, nlohmann::ordered_json config,
                                                  const Roles& named, const std::vector<AddedToken>& added,
                                                  const std::vector<std::string>& tokens) {
    using Ordered = nlohmann::ordered_json;
    const Roles roles = with_usual_names(named, added);
    // `source`: only those that this file names; null: all.
    const auto members = [&](const char* source) {
        Ordered json = Ordered::object();
        for (const RoleInfo& info : role_table()) {
            const auto& token = roles[info.role];
            if (token && (!source || token->source == source)) json[concat(info.name, "_token")] = tokens[token->id];
        }
        return json;
    };
    const auto text = [](const Ordered& json) { return json.dump(2, ' ', /*ensure_ascii=*/false) + "\n"; };

    std::vector<TokenizerKind::File> files;
    Ordered beyond = Ordered::object();  // what the vocabulary lacks
    for (const AddedToken& token : added) {
        if (!token.in_vocabulary) beyond[token.content] = token.id;
    }
    if (!beyond.empty()) files.push_back({kAdded, text(beyond)});

    // A copy has no config.json, so the roles that only that file names get into special_tokens_map.json.
    const bool none = side.config.empty() && side.special_tokens_map.empty();
    const Ordered more = members(none ? nullptr : kModelConfigName);
    if (!side.special_tokens_map.empty() && more.empty()) {
        files.push_back({kMap, side.special_tokens_map});
    } else if (none || !more.empty()) {
        Ordered map = side.special_tokens_map.empty() ? Ordered::object() : Ordered::parse(side.special_tokens_map);
        map.update(more);
        files.push_back({kMap, text(map)});
    }
    if (side.config.empty()) {
        Ordered decoder = Ordered::object();
        for (const AddedToken& token : added) decoder[std::to_string(token.id)] = added_token_json(token);
        config["clean_up_tokenization_spaces"] = false;
        config["added_tokens_decoder"] = std::move(decoder);
        config.update(members(nullptr));
        files.push_back({kConfig, text(config)});
    } else {
        files.push_back({kConfig, side.config});
    }
    if (!side.chat_template.empty()) files.push_back({kTemplate, side.chat_template});
    return files;
}

nlohmann::ordered_json added_token_json(const AddedToken& token) {
    return {{"content", token.content}, {"single_word", token.single_word}, {"lstrip", token.lstrip},
            {"rstrip", token.rstrip},   {"normalized", token.normalized},   {"special", token.special}};
}

AddedToken read_added_token(const JsonReader& reader) {
    AddedToken token;
    token.content = reader.string("content");
    token.special = reader.boolean("special", false);
    token.normalized = reader.boolean("normalized", !token.special);
    token.single_word = reader.boolean("single_word", false);
    token.lstrip = reader.boolean("lstrip", false);
    token.rstrip = reader.boolean("rstrip", false);
    return token;
}

SideFiles SideFiles::read(const fs::path& directory) {
    const auto text = [&](const char* name) {
        if (!fs::exists(status_of(directory / name))) return std::string();
        std::string content = read_file(directory / name);
        KILN_CHECK(!content.empty() || name == std::string_view(kTemplate), (directory / name).string(),
                   ": is empty; download it again, or remove it");
        return content;
    };
    return {directory, text(kAdded), text(kMap), text(kConfig), text(kModelConfigName), text(kTemplate)};
}

Roles SideSettings::roles(const std::function<int(const std::string&)>& id_of, int64_t vocab_size) const {
    Roles found;
    for (const NamedRole& role : named) {
        const int id = role.content.empty() ? role.id : id_of(role.content);
        if (!found[role.role] && id >= 0 && id < vocab_size) found[role.role] = {id, role.source};
    }
    return found;
}

SideSettings read_side_files(const SideFiles& side, const std::vector<AddedToken>& own) {
    return Reader(side).read(own);
}

}  // namespace kiln
