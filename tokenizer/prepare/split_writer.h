#pragma once
// Writes encoded documents into the shards of the training and the validation split.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tokenizer/data/shard.h"
#include "tokenizer/data/shard_index.h"
#include "tokenizer/prepare/documents.h"

namespace kiln {

// The shards of one split: <name>_000000.bin, ... All are full except the last.
class ShardSeries {
public:
    // `like` gives vocab_size, end_of_text and tokenizer_sha256.
    ShardSeries(std::filesystem::path directory, std::string name, uint64_t shard_tokens, const ShardInfo& like);
    void begin_document();                                                    // writes the end-of-text token
    void append(std::span<const unsigned char> packed, uint64_t text_bytes);  // from pack_tokens()
    ShardIndex::Split finish();
    nlohmann::json save();  // the state; what was written survives a power cut
    // Resumes from a saved state. Throws Error if the shards have changed.
    void restore(const nlohmann::json& saved);
    bool owns(const std::string& file) const;  // whether this is the name of one of its shards or partial shards

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

// Puts each document into a split. If its file is not for validation or test, the hash of its first chunk decides, so a
// document stays in its split when others are added, and exact copies are in the same split.
class SplitWriter {
public:
    SplitWriter(const std::filesystem::path& directory, double val_fraction, uint64_t shard_tokens,
                const ShardInfo& like);
    void begin_document(uint64_t hash, SplitName split);
    void append(std::span<const unsigned char> packed, uint64_t text_bytes);  // from pack_tokens()
    void end_document();
    void finish(ShardIndex& index);  // sets the splits of the index
    nlohmann::json save();           // as in ShardSeries, at any time
    void restore(const nlohmann::json& saved);
    bool owns(const std::string& file) const { return train_.owns(file) || val_.owns(file) || test_.owns(file); }
    uint64_t documents() const { return documents_; }
    uint64_t tokens() const { return tokens_; }

private:
    // In a small data set, the hashes may choose no document for validation; but validation is needed to see
    // overfitting. So the document with the smallest hash is held back until one is chosen. If none is, it is the
    // validation split. A longer document is never held back: it would need much memory, and would be much of the
    // training data.
    static constexpr size_t kMaxHeldTokens = size_t(1) << 22;
    struct Held {
        uint64_t hash = 0, text_bytes = 0;
        std::vector<unsigned char> packed;
    };
    enum class Target { train, val, held, test };
    static nlohmann::json save(const std::optional<Held>& held);
    static std::optional<Held> restore_held(const nlohmann::json& saved);
    void release(std::optional<Held>& held, ShardSeries& series);
    ShardSeries& series() { return target_ == Target::val ? val_ : target_ == Target::test ? test_ : train_; }

    const std::filesystem::path directory_;
    const double val_fraction_;
    const size_t token_bytes_;
    ShardSeries train_, val_, test_;
    Target target_ = Target::train;
    bool val_chosen_ = false;
    std::optional<Held> best_, current_;  // the document with the smallest hash; the current one
    uint64_t documents_ = 0, tokens_ = 0;
};

}  // namespace kiln
