#include "tools/checkpoint/model_files.h"

#include <algorithm>
#include <optional>

#include "cpu_reference/interface/error.h"
#include "tokenizer/data/shard_index.h"
#include "tokenizer/formats/llmc.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/json_reader.h"
#include "tokenizer/tokenizer.h"
#include "tools/checkpoint/manifest.h"
#include "tools/formats/huggingface.h"
#include "tools/formats/json_file.h"
#include "tools/formats/llmc.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kGenerationConfig = "generation_config.json";

// A number, a list of numbers, or null.
std::vector<int> read_ids(const json& value, const std::string& where, const std::string& key = "eos_token_id") {
    std::vector<int> ids;
    if (value.is_null()) return ids;
    for (const json& id : value.is_array() ? value : json::array({value})) {
        KILN_CHECK(id.is_number_integer(), where, ": \"", key, "\" is ", describe(id),
                   "; expected a whole number or a list of them");
        ids.push_back(static_cast<int>(std::clamp<int64_t>(id.get<int64_t>(), -1, INT32_MAX)));
    }
    return ids;
}

json eos_of(const json& file, const std::string& where) {
    KILN_CHECK(file.is_object(), where, ": is not a JSON object");
    return file.value("eos_token_id", json());
}

std::vector<TokenizerKind::File> read_files(const fs::path& tokenizer) {
    if (tokenizer.extension() == ".bin") return Tokenizer::load(tokenizer).kind().files();  // llm.c's, llama2.c's
    // A file of any name is found again only under the usual one.
    if (fs::is_regular_file(tokenizer)) {
        return {{tokenizer.extension() == ".model" ? "tokenizer.model" : "tokenizer.json", read_file(tokenizer)}};
    }
    std::vector<TokenizerKind::File> files;
    for (const fs::path& file : tokenizer_files(tokenizer)) files.push_back({file.filename(), read_file(file)});
    return files;
}

}  // namespace

ModelFiles::ModelFiles(const fs::path& tokenizer, const fs::path& model) {
    if (is_llmc_model(model)) {
        *this = ModelFiles(tokenizer.empty() ? tokenizer_of_model(model) : tokenizer, {});
        return;
    }
    const fs::path own = model.empty() ? fs::path() : find_tokenizer(model);
    const fs::path used = tokenizer.empty() && !own.empty() ? model : tokenizer;
    if (!used.empty()) files = read_files(used);
    bool same = !model.empty();
    if (!own.empty() && !tokenizer.empty()) {
        same = files.front().content == read_file(own) ||
               Tokenizer::load(tokenizer).to_json() == Tokenizer::load(model).to_json();
        if (same) files = read_files(model);  // its other files say more
    }
    if (!used.empty()) {
        const Roles roles = Tokenizer::load(same && !own.empty() ? model : used).roles();
        for (const Role role : {Role::bos, Role::eos, Role::pad}) {
            const auto& token = roles[role] || role != Role::bos ? roles[role] : roles[Role::eos];
            if (token) token_ids[concat(role_table()[size_t(role)].name, "_token_id")] = token->id;
        }
    }
    if (!same) return;
    const json config = read_json(model / "config.json");
    KILN_CHECK(config.is_object(), (model / "config.json").string(), ": is not a JSON object");
    for (const auto& [key, value] : config.items()) {
        if (!key.ends_with("_token_id") || value.is_null()) continue;
        read_ids(value, model / "config.json", key);
        token_ids[key] = value;
    }
    if (fs::exists(model / kGenerationConfig))
        files.push_back({kGenerationConfig, read_file(model / kGenerationConfig)});
}

fs::path tokenizer_of_model(const fs::path& model) {
    if (!is_llmc_model(model)) return find_tokenizer(model).empty() ? fs::path() : model;
    const fs::path beside = model.parent_path() / kLlmcTokenizerName;
    return fs::exists(status_of(beside)) ? beside : fs::path();
}

void verify_tokenizer(const fs::path& path) {
    if (fs::exists(path / "manifest.json")) verify_manifest(path, false);
    if (has_shard_index(path)) verify_tokenizer(path, read_shard_index(path));
}

std::vector<int> stop_tokens(const fs::path& model_directory) {
    if (is_llmc_model(model_directory)) return stop_tokens(ModelFiles({}, model_directory));
    const fs::path generation = model_directory / kGenerationConfig;
    if (fs::exists(generation)) return read_ids(eos_of(read_json(generation), generation), generation);
    const fs::path path = model_directory / "config.json";
    const json config = read_json(path);
    KILN_CHECK(config.is_object(), path.string(), ": is not a JSON object");
    return read_ids(config.contains("eos_token_id") ? config["eos_token_id"] : hf_default_eos(config), path);
}

std::vector<int> stop_tokens(const ModelFiles& files) {
    for (const TokenizerKind::File& file : files.files) {
        if (file.name != kGenerationConfig) continue;
        return read_ids(eos_of(parse_json(file.content, file.name), file.name), file.name);
    }
    return read_ids(eos_of(json(files.token_ids), "config.json"), "config.json");
}

}  // namespace kiln
