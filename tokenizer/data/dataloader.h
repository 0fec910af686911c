#pragma once
// Shards -> (B, T) batches: memory-mapped, shuffled by a keyed permutation, fetched ahead by a thread.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace kiln {

// What -i names: a directory, a glob or a file.
struct DataPaths {
    std::vector<std::filesystem::path> train, val;  // shards, sorted by name
    std::filesystem::path tokenizer;                // directory with tokenizer.json, or empty
};
// Throws Error if nothing matches, saying what was looked for. A directory with shards.json is read through it;
// without, shards are *train*.bin and *val*.bin. A glob or a file gives train only.
DataPaths find_data(const std::string& pattern);

struct DataLoaderOptions {
    std::vector<std::filesystem::path> shards;
    int B = 4, T = 64;  // rows a rank, tokens a row
    int rank = 0, world = 1;
    uint64_t seed = 0;
    bool shuffle = true;  // false: in file order
    int vocab_size = 0;   // > 0: a token that does not fit is an Error naming shard and position
    uint64_t verify_first_bytes = uint64_t(256) << 20;  // up to so much, checksums are taken before the first batch
    int prefetch = 2;                                   // batches ahead; 0: none, no thread
};

// Position p of the run's order is sequence permutation(seed, p / N)(p mod N) of all N sequences of length T. A global
// batch is `world * B` positions; rank r has rows [r * B, (r + 1) * B) of it. So neither ranks nor micro-batches change
// which samples a step sees, and `position` alone resumes exactly.
class DataLoader {
public:
    // Throws on bad shards, a wrong checksum among them, or fewer than T + 1 tokens. The checksums of much data
    // are taken in the background; next() throws once one is wrong.
    explicit DataLoader(const DataLoaderOptions& options);
    DataLoader(DataLoader&&) noexcept;
    ~DataLoader();

    struct Rows {
        const int* tokens;      // (B, T)
        const int* targets;     // (B, T): tokens shifted by one
        uint64_t first_sample;  // position of this rank's row 0
    };
    Rows next();                     // valid until the following call
    void seek(uint64_t position);    // the next global batch starts here
    uint64_t position() const;       // of the next global batch
    uint64_t num_sequences() const;  // N, per epoch, over all shards
    uint64_t num_tokens() const;     // of all shards
    uint64_t fingerprint()
        const;  // of the shards' contents in order, from their lengths and checksums; not their names

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace kiln
