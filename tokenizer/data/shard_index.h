#pragma once
// shards.json: what a data directory holds. Written last, so that a directory that has one is whole.
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tokenizer/data/shard.h"

namespace kiln {

inline constexpr char kShardIndexName[] = "shards.json";
// Stands in the directory while `kiln prepare` writes it, and stays there if that is killed.
inline constexpr char kUnfinishedName[] = "shards.json.unfinished";

struct ShardIndex {
    struct File {
        std::string name;  // within the directory
        uint64_t tokens = 0, documents = 0;
        std::string xxh3;  // of the payload, 16 hexadecimal digits
    };
    struct Split {
        std::vector<File> files;
        uint64_t tokens = 0, documents = 0;
        uint64_t text_bytes = 0;  // UTF-8 bytes of the documents, before any normalisation: for bits per byte
    };
    Split train, val;
    int vocab_size = 0, end_of_text = -1;
    std::string tokenizer_file = "tokenizer.json";  // or tokenizer.model
    std::string tokenizer_sha256;                   // of that file, hexadecimal
    uint64_t bad_records = 0;                       // left out
    nlohmann::json recipe;                          // how the directory was made: the options of `kiln prepare`
};

// As in shards.json. Throws Error beginning with `where`.
nlohmann::ordered_json split_to_json(const ShardIndex::Split& split);
ShardIndex::Split split_from_json(const nlohmann::json& object, const std::string& where);

bool has_shard_index(const std::filesystem::path& directory);
// Throws Error naming the file and the field if it is not what write_shard_index() writes.
ShardIndex read_shard_index(const std::filesystem::path& directory);
// The shards of a split, opened. Throws Error if one is missing or not the one the index names, or the totals are not
// theirs.
std::vector<Shard> open_shards(const std::filesystem::path& directory, const ShardIndex& index,
                               const ShardIndex::Split& split);
void write_shard_index(const std::filesystem::path& directory, const ShardIndex& index);

}  // namespace kiln
