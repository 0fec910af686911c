#pragma once
// Encoded documents -> the shards of the training and the validation split.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tokenizer/data/shard.h"
#include "tokenizer/data/shard_index.h"

namespace kiln {

// The shards of one split, <name>_000000.bin and on, each full but the last.
class ShardSeries {
public:
    // `like` gives vocab_size, end_of_text and tokenizer_sha256.
    ShardSeries(std::filesystem::path directory, std::string name, uint64_t shard_tokens, const ShardInfo& like);
    void begin_document();                                                    // writes the end-of-text token
    void append(std::span<const unsigned char> packed, uint64_t text_bytes);  // by pack_tokens()
    ShardIndex::Split finish();
    nlohmann::json save();  // where it stands; all of it survives a power cut
    // Goes on from there. Throws Error if the shards are not as they were.
    void restore(const nlohmann::json& saved);
    bool owns(const std::string& file) const;  // the name of one of its shards, whole or partial

private:
    void put(std::span<const unsigned char> packed);
    void finish_shard();

    const std::filesystem::path directory_;
    const std::string name_;
    const uint64_t shard_tokens_;
    const ShardInfo like_;
    std::optional<ShardWriter> writer_;
    int documents_in_shard_ = 0;
    ShardIndex::Split split_;
};

// Sends each document to its split. The hash of a document's beginning decides, so that a document stays where it is
// when others are added, and its exact copies go with it.
class SplitWriter {
public:
    SplitWriter(const std::filesystem::path& directory, double val_fraction, uint64_t shard_tokens,
                const ShardInfo& like);
    void begin_document(uint64_t hash);
    void append(std::span<const unsigned char> packed, uint64_t text_bytes);  // by pack_tokens()
    void end_document();
    void finish(ShardIndex& index);  // fills in the splits
    nlohmann::json save();           // as of ShardSeries, at any time
    void restore(const nlohmann::json& saved);
    bool owns(const std::string& file) const { return train_.owns(file) || val_.owns(file); }
    uint64_t documents() const { return documents_; }
    uint64_t tokens() const { return tokens_; }

private:
    // A small data set may have no document whose hash falls into the fraction; yet without validation nobody sees it
    // overfit. So until one does, the document of smallest hash is kept back, and at the end it is the validation
    // split. One longer than this is never kept back: it would cost memory, and much of the training data.
    static constexpr size_t kMaxHeldTokens = size_t(1) << 22;
    struct Held {
        uint64_t hash = 0, text_bytes = 0;
        std::vector<unsigned char> packed;
    };
    enum class Target { train, val, held };
    static nlohmann::json save(const std::optional<Held>& held);
    static std::optional<Held> restore_held(const nlohmann::json& saved);
    void release(std::optional<Held>& held, ShardSeries& series);

    const std::filesystem::path directory_;
    const double val_fraction_;
    const size_t token_bytes_;
    ShardSeries train_, val_;
    Target target_ = Target::train;
    bool val_chosen_ = false;
    std::optional<Held> best_, current_;  // the smallest hash so far; the document being written if its is smaller
    uint64_t documents_ = 0, tokens_ = 0;
};

}  // namespace kiln
