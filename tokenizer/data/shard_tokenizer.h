#pragma once
// Whether shards and a tokenizer belong together: ids of another tokenizer are other words.
#include <filesystem>
#include <string>
#include <vector>

namespace kiln {

// Empty if the shards were made with the tokenizer in this directory or file, or if they do not tell (llm.c's own do
// not). Otherwise says which shard was made with another one. Files with different bytes may be the same tokenizer: if
// the one that made the shards lies beside them, the two are compared.
std::string other_tokenizer(const std::vector<std::filesystem::path>& shards, const std::filesystem::path& tokenizer);

}  // namespace kiln
