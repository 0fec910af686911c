#include "tokenizer/data/shard_tokenizer.h"

#include <array>

#include "cpu_reference/interface/error.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

namespace fs = std::filesystem;
using Sha256 = std::array<unsigned char, 32>;

namespace {

Sha256 hash_of(const fs::path& tokenizer) {
    return sha256(read_file(tokenizer_files(tokenizer).front()));
}

}  // namespace

std::string other_tokenizer(const std::vector<fs::path>& shards, const fs::path& tokenizer) {
    Sha256 same = hash_of(tokenizer);
    for (const fs::path& path : shards) {
        const ShardInfo info = Shard(path).info();
        if (!info.ours || info.tokenizer_sha256 == Sha256{} || info.tokenizer_sha256 == same) continue;
        const fs::path beside = path.parent_path().empty() ? "." : path.parent_path();
        if (find_tokenizer(beside).empty() || hash_of(beside) != info.tokenizer_sha256 ||
            Tokenizer::load(beside).to_json() != Tokenizer::load(tokenizer).to_json()) {
            return concat(path.string(), ": was made with another tokenizer than the one in ", tokenizer.string());
        }
        same = info.tokenizer_sha256;
    }
    return "";
}

}  // namespace kiln
