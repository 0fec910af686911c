#pragma once
// Reads (B, T) batches from shards, in an order given by a keyed permutation. A thread reads ahead.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"

namespace kiln {

// The data cannot be read, or has changed since the loader opened it.
class DataError : public Error {
public:
    using Error::Error;
};

// The files that -i names by a directory, a glob or a file.
struct DataPaths {
    std::vector<std::filesystem::path> train, val, test;  // shards, sorted by name
    std::filesystem::path tokenizer;                      // directory with a tokenizer, or empty
};
// In a directory, shards.json lists the shards; without it, they are *train*.bin and *val*.bin. A glob or a file gives
// training data only. Throws Error if nothing is found.
DataPaths find_data(const std::string& pattern);

struct DataLoaderOptions {
    std::vector<std::filesystem::path> shards;
    int B = 4, T = 64;  // sequences per rank, tokens per sequence
    int rank = 0, world = 1;
    uint64_t seed = 0;
    bool shuffle = true;  // false: in file order
    int vocab_size = 0;   // > 0: a token id that is not below it is an Error
    // Of the ranks that read the same files, each verifies a part of the shards.
    int verify_part = 0, verify_parts = 1;
    uint64_t verify_first_bytes = uint64_t(256) << 20;  // more data is verified in the background
    int prefetch = 2;                                   // batches to read ahead; 0: none, without a thread
};

// Position p of a run reads sequence permutation(seed, p / N)(p mod N) of the N sequences of length T. A global batch
// has world * B positions, and rank r reads rows [r * B, (r + 1) * B) of it. So the samples of a step do not depend on
// the number of ranks or micro-batches, and `position` is enough to resume a run exactly.
class DataLoader {
public:
    // Throws if a shard is bad or its checksum is wrong, or if there are fewer than T + 1 tokens. If data is verified
    // in the background, next() throws DataError for a wrong checksum, as for all that goes wrong with the data.
    explicit DataLoader(const DataLoaderOptions& options);
    DataLoader(DataLoader&&) noexcept;
    ~DataLoader();

    struct Rows {
        const int* tokens;      // (B, T)
        const int* targets;     // (B, T): tokens shifted by one
        uint64_t first_sample;  // position of this rank's row 0
    };
    Rows next();                     // valid until the next call
    void seek(uint64_t position);    // the next global batch starts at `position`
    uint64_t position() const;       // of the next global batch
    uint64_t num_sequences() const;  // N, per epoch, over all shards
    uint64_t num_tokens() const;     // of all shards
    uint64_t fingerprint() const;    // of the lengths and checksums of the shards, in order
    // Also of some of their tokens: llm.c's shards have no checksum. Throws Error if they cannot be read.
    uint64_t sample_fingerprint() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace kiln
