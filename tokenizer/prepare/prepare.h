#pragma once
// Encodes documents into shards on all cores. The shards do not depend on the number of threads, or on how often the
// run was killed and resumed.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "tokenizer/data/shard_index.h"
#include "tokenizer/prepare/documents.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

struct PrepareProgress {
    uint64_t bytes_read = 0, bytes_total = 0;  // of the input files, before decompression; total 0: not known
    uint64_t documents = 0, tokens = 0, bad_records = 0;
};

// Thrown when `stop` ends the run.
class PrepareStopped : public Error {
public:
    using Error::Error;
};

struct PrepareOptions {
    std::vector<std::string> inputs, val_inputs;  // for find_documents()
    bool split_names = true;
    std::filesystem::path tokenizer;  // for Tokenizer::load()
    std::filesystem::path output;     // a directory; created if it does not exist
    DocumentOptions documents;
    bool allow_special = false;                // special tokens in the text become their ids
    std::vector<std::string> allowed_special;  // only these; empty: all
    double val_fraction = 0.01;                // of the documents, [0, 1)
    uint64_t shard_tokens = 100'000'000;       // of each shard; at most kMaxShardTokens
    uint64_t max_documents = 0;                // 0: no limit
    // The first bad record, and the first character without a token, is an Error; false: bad records are left out, and
    // such characters become the unk token or nothing.
    bool strict = false;
    double max_bad_fraction = 0.5;  // of the records; more bad records are an Error
    int threads = 0;                // 0: one for each core
    bool force = false;             // replace existing shards in `output`
    // Called after each block; true saves the state, and prepare() throws PrepareStopped.
    std::function<bool()> stop = [] { return false; };
    double save_seconds = 5;  // between saves, from which a killed run is resumed; 0: save after each block

    // Called from time to time, by one thread at a time. An exception ends the run, which can be resumed.
    std::function<void(const PrepareProgress&)> progress = [](const PrepareProgress&) {};
    // Called at the end.
    std::function<void(const EncodeCounts&, const Tokenizer&)> counted = [](const EncodeCounts&, const Tokenizer&) {};
    // Gets messages for the user: a run is resumed or started again; the first bad records.
    std::function<void(const std::string&)> report = [](const std::string&) {};
};

// Writes train_000000.bin, ..., val_000000.bin, ..., test_000000.bin, ... (for files that are named for it), the
// tokenizer's files, and shards.json last. Until then, a file shards.json.unfinished marks the directory, and data
// loaders refuse it. The file also holds the state of the run: after a kill, a power cut or a full disk, the same call
// resumes it. Each document starts with the end-of-text token. If no file is for validation, the hash of a document
// decides whether it belongs to that split, so new data does not move old documents. Throws Error; existing shards in
// `output` are lost only with `force`.
ShardIndex prepare(const PrepareOptions& options);

}  // namespace kiln
