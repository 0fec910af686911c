#include "tools/evaluate/data_tokenizer.h"

#include <algorithm>
#include <array>

#include "cpu_reference/interface/error.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"

namespace kiln {

std::string warn_of_other_tokenizer(const std::vector<std::filesystem::path>& shards,
                                    const std::filesystem::path& model) {
    std::vector<std::array<unsigned char, 32>> known;
    for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
        if (std::filesystem::exists(model / name)) known.push_back(sha256(read_file(model / name)));
    }
    if (known.empty()) return "";
    for (const std::filesystem::path& path : shards) {
        const ShardInfo info = Shard(path).info();
        if (!info.ours || info.tokenizer_sha256 == std::array<unsigned char, 32>{}) continue;
        if (std::find(known.begin(), known.end(), info.tokenizer_sha256) != known.end()) continue;
        return concat(
            "warning: ", path.string(), " was made with another tokenizer than that of ", model.string(),
            ", so its ids mean other text to the model; make the shards again with `kiln prepare --tokenizer ",
            model.string(), "`");
    }
    return "";
}

}  // namespace kiln
