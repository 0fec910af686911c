#include "tokenizer/shard_index.h"

#include "cpu_reference/error.h"
#include "tokenizer/file.h"

namespace kiln {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

namespace {

constexpr char kFormat[] = "kiln-shards";
constexpr int kVersion = 1;

ordered_json to_json(const ShardIndex::Split& split) {
    ordered_json files = ordered_json::array();
    for (const ShardIndex::File& file : split.files) {
        files.push_back(
            {{"name", file.name}, {"tokens", file.tokens}, {"documents", file.documents}, {"xxh3", file.xxh3}});
    }
    return {{"tokens", split.tokens},
            {"documents", split.documents},
            {"text_bytes", split.text_bytes},
            {"files", std::move(files)}};
}

ShardIndex::Split split_from(const json& object, const std::string& where) {
    ShardIndex::Split split;
    object.at("tokens").get_to(split.tokens);
    object.at("documents").get_to(split.documents);
    object.at("text_bytes").get_to(split.text_bytes);
    for (const json& entry : object.at("files")) {
        ShardIndex::File file;
        entry.at("name").get_to(file.name);
        entry.at("tokens").get_to(file.tokens);
        entry.at("documents").get_to(file.documents);
        entry.at("xxh3").get_to(file.xxh3);
        // The index speaks of its own directory only: a path that leads out of it is a mistake or a trap.
        KILN_CHECK(!file.name.empty() && fs::path(file.name).filename() == file.name && file.name != "..", where,
                   ": \"", file.name, "\" is not the name of a file in this directory");
        split.files.push_back(std::move(file));
    }
    return split;
}

}  // namespace

bool has_shard_index(const fs::path& directory) {
    return fs::exists(directory / kShardIndexName);
}

ShardIndex read_shard_index(const fs::path& directory) {
    const fs::path path = directory / kShardIndexName;
    const std::string text = read_file(path);
    try {
        const json root = json::parse(text);
        KILN_CHECK(root.at("format") == kFormat, path.string(), ": format ", root.at("format").dump(), " where \"",
                   kFormat, "\" is expected");
        KILN_CHECK(root.at("version") == kVersion, path.string(), ": version ", root.at("version").dump(),
                   ", but only version ", kVersion, " can be read; run `kiln prepare` again");
        ShardIndex index;
        root.at("tokenizer").at("vocab_size").get_to(index.vocab_size);
        root.at("tokenizer").at("end_of_text").get_to(index.end_of_text);
        root.at("tokenizer").at("sha256").get_to(index.tokenizer_sha256);
        index.train = split_from(root.at("splits").at("train"), path.string());
        index.val = split_from(root.at("splits").at("val"), path.string());
        index.recipe = root.at("recipe");
        return index;
    } catch (const json::exception& error) {
        throw Error(concat(path.string(), ": ", error.what(), "; run `kiln prepare` again"));
    }
}

void write_shard_index(const fs::path& directory, const ShardIndex& index) {
    const ordered_json root = {
        {"format", kFormat},
        {"version", kVersion},
        {"tokenizer",
         {{"file", "tokenizer.json"},
          {"sha256", index.tokenizer_sha256},
          {"vocab_size", index.vocab_size},
          {"end_of_text", index.end_of_text}}},
        {"splits", {{"train", to_json(index.train)}, {"val", to_json(index.val)}}},
        {"recipe", index.recipe},
    };
    write_file_atomic(directory / kShardIndexName, root.dump(2) + "\n");
}

}  // namespace kiln
