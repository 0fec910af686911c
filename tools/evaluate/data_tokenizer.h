#pragma once
// Whether shards were made with the tokenizer of a model.
#include <filesystem>
#include <string>
#include <vector>

namespace kiln {

// With another vocabulary of the same size a loss means nothing. This is only a warning, because files with different
// bytes can describe the same tokenizer.

// A warning with what to do if a shard was made with another tokenizer than the one in `model`, a directory; else
// empty, also if the shard or the directory does not say.
std::string warn_of_other_tokenizer(const std::vector<std::filesystem::path>& shards,
                                    const std::filesystem::path& model);

}  // namespace kiln
