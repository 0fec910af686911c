#include "tokenizer/data/shard_tokenizer.h"

#include <algorithm>
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

// Of the files that can be a tokenizer's main file: a directory may hold a tokenizer.json and a tokenizer.model.
std::vector<Sha256> hashes_of(const fs::path& tokenizer) {
    std::vector<Sha256> hashes{sha256(read_file(tokenizer_files(tokenizer).front()))};
    for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
        if (fs::exists(status_of(tokenizer / name))) hashes.push_back(sha256(read_file(tokenizer / name)));
    }
    return hashes;
}

// Whether the tokenizer beside the shard made it, and equals `tokenizer` although their files differ.
bool same_tokenizer(const fs::path& shard, const Sha256& made_with, const fs::path& tokenizer) {
    const fs::path beside = shard.parent_path().empty() ? "." : shard.parent_path();
    return !find_tokenizer(beside).empty() && std::ranges::count(hashes_of(beside), made_with) > 0 &&
           Tokenizer::load(beside).to_json() == Tokenizer::load(tokenizer).to_json();
}

}  // namespace

std::string other_tokenizer(const std::vector<fs::path>& shards, const fs::path& tokenizer) {
    std::vector<Sha256> same = hashes_of(tokenizer);
    for (const fs::path& path : shards) {
        const ShardInfo info = Shard(path).info();
        if (!info.ours || info.tokenizer_sha256 == Sha256{}) continue;
        if (std::ranges::count(same, info.tokenizer_sha256) > 0) continue;
        if (!same_tokenizer(path, info.tokenizer_sha256, tokenizer)) {
            return concat(path.string(), ": was made with another tokenizer than the one in ", tokenizer.string(),
                          ", so its ids mean other text");
        }
        same.push_back(info.tokenizer_sha256);
    }
    return "";
}

}  // namespace kiln
