#include "tokenizer/data/shard_index.h"

#include <algorithm>
#include <type_traits>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"

namespace kiln {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

namespace {

constexpr char kFormat[] = "kiln-shards";
constexpr int kVersion = 1;

// A field of the type that is wanted.
template <class T>
T get(const json& object, const char* key, const std::string& where) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    KILN_CHECK(object.is_object() && found != object.end(), where, ": \"", key,
               "\" is missing; run `kiln prepare` again");
    const bool fits = std::is_same_v<T, std::string> ? found->is_string()
                      : std::is_same_v<T, json>      ? true
                      : std::is_unsigned_v<T>
                          ? found->is_number_unsigned()
                          : found->is_number_integer() && *found >= INT32_MIN && *found <= INT32_MAX;
    KILN_CHECK(fits, where, ": \"", key, "\" is ",
               found->dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 40), " where ",
               std::is_same_v<T, std::string> ? "a text" : "a whole number", " is expected; run `kiln prepare` again");
    return found->get<T>();
}

}  // namespace

ordered_json split_to_json(const ShardIndex::Split& split) {
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

ShardIndex::Split split_from_json(const json& object, const std::string& where) {
    ShardIndex::Split split;
    split.tokens = get<uint64_t>(object, "tokens", where);
    split.documents = get<uint64_t>(object, "documents", where);
    split.text_bytes = get<uint64_t>(object, "text_bytes", where);
    const json files = get<json>(object, "files", where);
    KILN_CHECK(files.is_array(), where, ": \"files\" is no list; run `kiln prepare` again");
    for (const json& entry : files) {
        ShardIndex::File file;
        file.name = get<std::string>(entry, "name", where);
        file.tokens = get<uint64_t>(entry, "tokens", where);
        file.documents = get<uint64_t>(entry, "documents", where);
        file.xxh3 = get<std::string>(entry, "xxh3", where);
        // The index speaks of its own directory only: a path that leads out of it is a mistake or a trap.
        KILN_CHECK(!file.name.empty() && fs::path(file.name).filename() == file.name && file.name != "..", where,
                   ": \"", file.name, "\" is not the name of a file in this directory");
        split.files.push_back(std::move(file));
    }
    return split;
}

bool has_shard_index(const fs::path& directory) {
    return fs::exists(directory / kShardIndexName);
}

ShardIndex read_shard_index(const fs::path& directory) {
    const fs::path path = directory / kShardIndexName;
    const std::string text = read_file(path), where = path.string();
    json root;
    try {
        root = json::parse(text);
    } catch (const json::exception& error) {
        std::string_view what = error.what();
        what.remove_prefix(std::min(what.size(), what.find("] ") + 2));  // the exception's number
        throw Error(concat(where, ": not JSON: ", what, "; run `kiln prepare` again"));
    }
    const std::string format = get<std::string>(root, "format", where);
    KILN_CHECK(format == kFormat, where, ": format \"", format, "\" where \"", kFormat, "\" is expected");
    const int version = get<int>(root, "version", where);
    KILN_CHECK(version == kVersion, where, ": version ", version, ", but only version ", kVersion,
               " can be read; run `kiln prepare` again");
    const json tokenizer = get<json>(root, "tokenizer", where), splits = get<json>(root, "splits", where);
    ShardIndex index;
    index.vocab_size = get<int>(tokenizer, "vocab_size", where);
    index.end_of_text = get<int>(tokenizer, "end_of_text", where);
    index.tokenizer_file = get<std::string>(tokenizer, "file", where);
    index.tokenizer_sha256 = get<std::string>(tokenizer, "sha256", where);
    index.train = split_from_json(get<json>(splits, "train", where), where);
    index.val = split_from_json(get<json>(splits, "val", where), where);
    if (root.contains("bad_records")) index.bad_records = get<uint64_t>(root, "bad_records", where);
    index.recipe = get<json>(root, "recipe", where);
    return index;
}

std::vector<Shard> open_shards(const fs::path& directory, const ShardIndex& index, const ShardIndex::Split& split) {
    const std::string where = (directory / kShardIndexName).string();
    std::vector<Shard> shards;
    uint64_t tokens = 0, documents = 0;
    for (const ShardIndex::File& file : split.files) {
        const fs::path path = directory / file.name;
        KILN_CHECK(fs::exists(path), path.string(), ": missing, though ", where,
                   " names it; copy it there, or run `kiln prepare` again");
        const ShardInfo& info = shards.emplace_back(path).info();
        KILN_CHECK(info.num_tokens == file.tokens && hex_u64(info.payload_xxh3) == file.xxh3 &&
                       (!info.ours || info.vocab_size == index.vocab_size),
                   path.string(), ": is not the shard that ", where, " names: ", info.num_tokens, " tokens of ",
                   info.vocab_size, " ids, checksum ", hex_u64(info.payload_xxh3), " where ", file.tokens, " of ",
                   index.vocab_size, " and ", file.xxh3, " are expected; run `kiln prepare` again");
        tokens += file.tokens;
        documents += file.documents;
    }
    KILN_CHECK(tokens == split.tokens && documents == split.documents, where, ": its shards have ", tokens,
               " tokens and ", documents, " documents, but it gives totals of ", split.tokens, " and ", split.documents,
               "; run `kiln prepare` again");
    return shards;
}

void write_shard_index(const fs::path& directory, const ShardIndex& index) {
    const ordered_json root = {
        {"format", kFormat},
        {"version", kVersion},
        {"tokenizer",
         {{"file", index.tokenizer_file},
          {"sha256", index.tokenizer_sha256},
          {"vocab_size", index.vocab_size},
          {"end_of_text", index.end_of_text}}},
        {"splits", {{"train", split_to_json(index.train)}, {"val", split_to_json(index.val)}}},
        {"bad_records", index.bad_records},
        {"recipe", index.recipe},
    };
    write_file_atomic(directory / kShardIndexName, root.dump(2) + "\n");
}

}  // namespace kiln
