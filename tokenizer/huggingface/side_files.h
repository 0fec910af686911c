#pragma once
// The files beside a tokenizer: its roles and more added tokens, read as transformers reads them for every layout.
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tokenizer/io/json_reader.h"
#include "tokenizer/roles.h"
#include "tokenizer/tokenizer_impl.h"

namespace kiln {

// The texts of optional files in the tokenizer's directory; empty if there is no such file.
struct SideFiles {
    std::filesystem::path directory;  // for messages
    std::string added_tokens, special_tokens_map, config, model_config, chat_template;

    static SideFiles read(const std::filesystem::path& directory);
};

inline constexpr const char* kModelConfigName = "config.json";

struct SideSettings {
    std::string tokenizer_class;
    bool add_prefix_space = false;
    // In the order in which they are added. Their ids mean nothing, as in transformers.
    std::vector<AddedToken> added;

    // The roles, after all tokens were added. `id_of` returns the id of a text, or -1.
    Roles roles(const std::function<int(const std::string&)>& id_of, int64_t vocab_size) const;

    struct NamedRole {
        Role role;
        std::string content, source;  // without content, `id` is the token
        int id = -1;
    };
    std::vector<NamedRole> named;  // by precedence
};

// `own`: the added tokens of the tokenizer itself, with the ids of its file. If tokenizer_config.json has an
// added_tokens_decoder, then added_tokens.json counts for nothing, and special_tokens_map.json only for roles that
// tokenizer_config.json does not name; otherwise special_tokens_map.json comes first. Throws Error that names the file
// and the place in it.
SideSettings read_side_files(const SideFiles& side, const std::vector<AddedToken>& own);

// The files that a saved copy has beside its own: unchanged if they were read, else made. `config`: the first
// members of a new tokenizer_config.json. `tokens`: the text of each id. No added_tokens.json without tokens for it.
std::vector<TokenizerKind::File> write_side_files(const SideFiles& side, nlohmann::ordered_json config,
                                                  const Roles& roles, const std::vector<AddedToken>& added,
                                                  const std::vector<std::string>& tokens);

// The properties of an added token, as all files have them.
nlohmann::ordered_json added_token_json(const AddedToken& token);

// An added token of any of the files, without its id.
AddedToken read_added_token(const JsonReader& reader);

}  // namespace kiln
