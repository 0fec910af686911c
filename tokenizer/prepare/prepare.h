#pragma once
// Documents -> shards: tokenized on all cores, the same bytes whatever the number of threads and however often the run
// was killed and started again.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "tokenizer/data/shard_index.h"
#include "tokenizer/prepare/documents.h"

namespace kiln {

struct PrepareProgress {
    uint64_t bytes_read = 0, bytes_total = 0;  // of the input files, as they are packed; total 0: not known
    uint64_t bytes_before = 0;                 // of bytes_read, by the run that this one goes on with
    uint64_t documents = 0, tokens = 0, bad_records = 0;
};

// The run was asked to stop.
class PrepareStopped : public Error {
public:
    using Error::Error;
};

struct PrepareOptions {
    std::vector<std::string> inputs;  // as find_documents() takes them
    std::filesystem::path tokenizer;  // as Tokenizer::load() takes it
    std::filesystem::path output;     // a directory; created if need be
    DocumentOptions documents;
    double val_fraction = 0.01;           // of the documents, [0, 1)
    uint64_t shard_tokens = 100'000'000;  // a shard, at most kMaxShardTokens
    uint64_t max_documents = 0;           // 0: all there are
    bool strict = false;                  // the first bad record is an Error; else they are left out and counted
    double max_bad_fraction = 0.5;        // of the records; more are an Error all the same
    int threads = 0;                      // 0: one a core
    bool force = false;                   // replace shards that are in `output` already
    // Asked after each block: true ends the run, which throws PrepareStopped once the place to go on at is saved.
    std::function<bool()> stop = [] { return false; };
    double save_seconds = 5;  // between the places where a killed run can go on; 0: after each block

    // Called now and then, by one thread at a time. If it throws, the run ends, and can be gone on with.
    std::function<void(const PrepareProgress&)> progress = [](const PrepareProgress&) {};
    // What a user should know: a run is gone on with or started over; the first bad records.
    std::function<void(const std::string&)> report = [](const std::string&) {};
};

// Writes train_000000.bin, ..., val_000000.bin, ..., the tokenizer's files, and shards.json last; until then a file
// shards.json.unfinished marks the directory, and whoever reads data refuses it. It also says how far the run has come:
// after a kill, a power cut or a full disk the same call goes on from there. Each document starts with the end-of-text
// token. A document belongs to the validation split if its hash says so: adding data moves none. Throws Error; what
// `output` held before is then gone only if `force`.
ShardIndex prepare(const PrepareOptions& options);

}  // namespace kiln
