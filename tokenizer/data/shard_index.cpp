#include "tokenizer/data/shard_index.h"

#include <optional>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/json_reader.h"
#include "tokenizer/io/sha256.h"

namespace kiln {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

namespace {

constexpr char kFormat[] = "kiln-shards";
// Version 1 has no checksums of the index itself and of the tokenizer's files.
constexpr int kVersion = 2;
constexpr char kChecksum[] = ",\n  \"xxh3_64\": \"";

uint64_t count_in(const JsonReader& reader, const char* key, std::optional<int64_t> absent = std::nullopt) {
    return uint64_t(reader.integer(key, 0, INT64_MAX, absent));
}

// A path that leads out of the directory is a mistake or an attack.
const std::string& file_name(const std::string& name, const std::string& where) {
    KILN_CHECK(!name.empty() && fs::path(name).filename() == name && name != "..", where, ": \"", name,
               "\" is not the name of a file in this directory");
    return name;
}

// The text of the object, whose last member is a checksum of what is before it.
std::string with_checksum(std::string text) {
    return concat(text, kChecksum, hex(xxh3_64(text.data(), text.size())), "\"\n}\n");
}

ShardIndex parse_shard_index(const json& parsed, const std::string& where) {
    const JsonReader root(parsed, where);
    const std::string format = root.string("format");
    KILN_CHECK(format == kFormat, where, ": format \"", excerpt(format), "\" where \"", kFormat, "\" is expected");
    const int64_t version = root.integer("version", 0, INT32_MAX);
    KILN_CHECK(version == 1 || version == kVersion, where, ": version ", version, ", but only versions 1 and ",
               kVersion, " can be read");
    const JsonReader tokenizer = root.object("tokenizer"), splits = root.object("splits");
    ShardIndex index;
    index.vocab_size = int(tokenizer.integer("vocab_size", INT32_MIN, INT32_MAX));
    index.end_of_text = int(tokenizer.integer("end_of_text", INT32_MIN, INT32_MAX));
    index.tokenizer_file = tokenizer.string("file");
    index.tokenizer_sha256 = tokenizer.string("sha256");
    if (version > 1) {
        const JsonReader files = tokenizer.object("files");
        for (const auto& [name, hash] : tokenizer.member("files").items()) {
            index.tokenizer_xxh3[file_name(name, files.where())] = files.string(name.c_str());
        }
    }
    index.train = split_from_json(splits.member("train"), splits.where() + ": train");
    index.val = split_from_json(splits.member("val"), splits.where() + ": val");
    // Only data whose files are named for it has a test split.
    if (const json test = splits.member("test"); !test.is_null()) {
        index.test = split_from_json(test, splits.where() + ": test");
    }
    index.bad_records = count_in(root, "bad_records", 0);
    index.recipe = root.member("recipe");
    KILN_CHECK(!index.recipe.is_null(), where, ": \"recipe\" is missing");
    return index;
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
    const JsonReader reader(object, where);
    ShardIndex::Split split;
    split.tokens = count_in(reader, "tokens");
    split.documents = count_in(reader, "documents");
    split.text_bytes = count_in(reader, "text_bytes");
    for (const json& entry : reader.array("files")) {
        const JsonReader file(entry, where + ": files");
        const std::string name = file.string("name");
        split.files.push_back(
            {file_name(name, where), count_in(file, "tokens"), count_in(file, "documents"), file.string("xxh3")});
    }
    return split;
}

bool has_shard_index(const fs::path& directory) {
    return fs::exists(status_of(directory / kShardIndexName));
}

ShardIndex read_shard_index(const fs::path& directory) {
    const std::string path = directory / kShardIndexName;
    const std::string text = read_file(path);
    const json parsed = JsonReader::parse(text, path);
    try {
        ShardIndex index = parse_shard_index(parsed, path);
        KILN_CHECK(parsed["version"] == 1 || with_checksum(text.substr(0, text.rfind(kChecksum))) == text, path,
                   ": does not match its own checksum, so it has changed since `kiln prepare` wrote it");
        return index;
    } catch (const Error& error) {
        throw Error(concat(error.what(), "; run `kiln prepare` again"));
    }
}

std::vector<Shard> open_shards(const fs::path& directory, const ShardIndex& index, const ShardIndex::Split& split) {
    const std::string where = (directory / kShardIndexName).string();
    std::vector<Shard> shards;
    uint64_t tokens = 0, documents = 0;
    for (const ShardIndex::File& file : split.files) {
        const fs::path path = directory / file.name;
        KILN_CHECK(fs::exists(status_of(path)), path.string(), ": missing, though ", where,
                   " names it; copy it there, or run `kiln prepare` again");
        const ShardInfo& info = shards.emplace_back(path).info();
        KILN_CHECK(info.num_tokens == file.tokens && hex(info.payload_xxh3) == file.xxh3 &&
                       (!info.ours || info.vocab_size == index.vocab_size),
                   path.string(), ": is not the shard that ", where, " names: ", info.num_tokens, " tokens of ",
                   info.vocab_size, " ids, checksum ", hex(info.payload_xxh3), " where ", file.tokens, " of ",
                   index.vocab_size, " and ", file.xxh3, " are expected; run `kiln prepare` again");
        tokens += file.tokens;
        documents += file.documents;
    }
    KILN_CHECK(tokens == split.tokens && documents == split.documents, where, ": its shards have ", tokens,
               " tokens and ", documents, " documents, but it gives totals of ", split.tokens, " and ", split.documents,
               "; run `kiln prepare` again");
    return shards;
}

void verify_tokenizer(const fs::path& directory, const ShardIndex& index) {
    for (const auto& [name, hash] : index.tokenizer_xxh3) {
        const fs::path path = directory / name;
        const std::string content = read_file(path);
        KILN_CHECK(hex(xxh3_64(content.data(), content.size())) == hash, path.string(), ": has changed since ",
                   "`kiln prepare` put it beside the shards; copy the directory again, or run `kiln prepare` again");
    }
}

void write_shard_index(const fs::path& directory, const ShardIndex& index) {
    ordered_json splits = {{"train", split_to_json(index.train)}, {"val", split_to_json(index.val)}};
    if (!index.test.files.empty()) splits["test"] = split_to_json(index.test);
    const ordered_json root = {
        {"format", kFormat},
        {"version", kVersion},
        {"tokenizer",
         {{"file", index.tokenizer_file},
          {"sha256", index.tokenizer_sha256},
          {"files", index.tokenizer_xxh3},
          {"vocab_size", index.vocab_size},
          {"end_of_text", index.end_of_text}}},
        {"splits", std::move(splits)},
        {"bad_records", index.bad_records},
        {"recipe", index.recipe},
    };
    const std::string text = root.dump(2);
    write_file_atomic(directory / kShardIndexName, with_checksum(text.substr(0, text.size() - 2)));  // without "\n}"
}

}  // namespace kiln
