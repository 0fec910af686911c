#pragma once
// Whether shards and a tokenizer belong together: the ids of another tokenizer mean other text.
#include <filesystem>
#include <string>
#include <vector>

namespace kiln {

// Says which shard was made with another tokenizer than the one in this directory or file. Empty: none was, or the
// shards do not tell (llm.c's own do not). Files with different bytes may be the same tokenizer: if the one that made
// a shard lies beside it, the two are compared.
std::string other_tokenizer(const std::vector<std::filesystem::path>& shards, const std::filesystem::path& tokenizer);

}  // namespace kiln
