#pragma once
// Documents -> shards: tokenized on all cores, the same bytes whatever the number of threads.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tokenizer/documents.h"
#include "tokenizer/shard_index.h"

namespace kiln {

struct PrepareOptions {
    std::vector<std::string> inputs;  // files and directories, as find_documents() takes them
    std::filesystem::path tokenizer;  // a directory, or a tokenizer.json
    std::filesystem::path output;     // a directory; created if need be
    DocumentOptions documents;
    double val_fraction = 0.01;           // of the documents, [0, 1)
    uint64_t shard_tokens = 100'000'000;  // a shard, at most kMaxShardTokens
    int threads = 0;                      // 0: one a core
    bool force = false;                   // replace shards that are in `output` already
};

struct PrepareProgress {
    uint64_t bytes_read = 0, bytes_total = 0;  // of the input files; total 0: not known
    uint64_t documents = 0, tokens = 0;
};

// Writes train_000000.bin, ..., val_000000.bin, ..., the tokenizer's files, and shards.json last; until then a file
// shards.json.unfinished marks the directory, and whoever reads data refuses it. Each document starts with the end-of-
// text token. A document belongs to the validation split if its hash says so: adding data moves none. `progress` is
// called now and then, from the calling thread. Throws Error; what `output` held before is then gone only if `force`.
ShardIndex prepare(const PrepareOptions& options, const std::function<void(const PrepareProgress&)>& progress = {});

}  // namespace kiln
