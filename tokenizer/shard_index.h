#pragma once
// shards.json: what a data directory holds. Written last, so that a directory that has one is whole.
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

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
    std::string tokenizer_sha256;  // of tokenizer.json, hexadecimal
    nlohmann::json recipe;         // how the directory was made: the options of `kiln prepare`
};

bool has_shard_index(const std::filesystem::path& directory);
// Throws Error naming the file and the field if it is not what write_shard_index() writes.
ShardIndex read_shard_index(const std::filesystem::path& directory);
void write_shard_index(const std::filesystem::path& directory, const ShardIndex& index);

}  // namespace kiln
