#pragma once
// shards.json lists the contents of a data directory. It is written last, so a directory that has it is complete.
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tokenizer/data/shard.h"

namespace kiln {

inline constexpr char kShardIndexName[] = "shards.json";
// Exists while `kiln prepare` writes the directory, and after it was killed.
inline constexpr char kUnfinishedName[] = "shards.json.unfinished";

struct ShardIndex {
    struct File {
        std::string name;  // in the directory
        uint64_t tokens = 0, documents = 0;
        std::string xxh3;  // of the payload, 16 hexadecimal digits
    };
    struct Split {
        std::vector<File> files;
        uint64_t tokens = 0, documents = 0;
        uint64_t text_bytes = 0;  // UTF-8 bytes of the documents before normalization, for bits per byte
    };
    Split train, val, test;
    int vocab_size = 0, end_of_text = -1;
    std::string tokenizer_file = "tokenizer.json";      // or tokenizer.model
    std::string tokenizer_sha256;                       // of that file, hexadecimal
    std::map<std::string, std::string> tokenizer_xxh3;  // of each file of the tokenizer; empty in the first versions
    uint64_t bad_records = 0;                           // records that were left out
    nlohmann::json recipe = nlohmann::json::object();   // the options of `kiln prepare`
};

// Both use the format of shards.json. Messages begin with `where`.
nlohmann::ordered_json split_to_json(const ShardIndex::Split& split);
ShardIndex::Split split_from_json(const nlohmann::json& object, const std::string& where);

bool has_shard_index(const std::filesystem::path& directory);
// Throws Error that names the file and the member if write_shard_index() cannot have written it, or if it is damaged.
ShardIndex read_shard_index(const std::filesystem::path& directory);
// Opens the shards of a split. Throws Error if a shard is missing, or differs from the index, or if the totals are
// wrong.
std::vector<Shard> open_shards(const std::filesystem::path& directory, const ShardIndex& index,
                               const ShardIndex::Split& split);
// Throws Error if the directory holds a tokenizer that is not the one that `kiln prepare` put there.
void verify_tokenizer(const std::filesystem::path& directory, const ShardIndex& index);
void write_shard_index(const std::filesystem::path& directory, const ShardIndex& index);

}  // namespace kiln
