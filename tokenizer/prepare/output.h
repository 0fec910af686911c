#pragma once
// The directory that `kiln prepare` writes, and the file in it that tells how far the run is.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "tokenizer/prepare/split_writer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_impl.h"

namespace kiln {

class PrepareOutput {
public:
    // Creates and locks the directory. Throws Error if another process has locked it, or if the run with this identity
    // would replace what is there and `force` is not given: shards, or another tokenizer than `files`.
    PrepareOutput(const std::filesystem::path& directory, bool force, const std::string& identity,
                  const std::vector<TokenizerKind::File>& files);

    // The last state that an interrupted run saved here; nothing if there is none, or if it is damaged.
    const std::optional<nlohmann::json>& saved() const { return saved_; }
    bool unfinished() const { return unfinished_; }
    // Whether only the mark is left to remove: finish() was interrupted, and saved() is of the run with this identity.
    bool lacks_nothing() const { return unfinished_ && complete_; }
    // Removes all shards and marks the directory as unfinished.
    void start();
    // Removes the shards that the interrupted run began after its last save().
    void remove_all_but(const SplitWriter& writer);
    void save(const nlohmann::json& state);
    void finish(const ShardIndex& index);  // marks it as complete
    void remove_mark();
    // If this start has begun the directory's first run: removes all that it has made.
    void take_back();

private:
    const std::filesystem::path directory_;
    std::optional<DirectoryLock> lock_;
    std::optional<nlohmann::json> saved_;
    bool complete_ = false, unfinished_ = false;
    std::vector<std::filesystem::path> made_;  // files and directories that this start makes, in the order to remove
};

// The files that Tokenizer::load reads, the main one first.
std::vector<TokenizerKind::File> read_tokenizer_files(const std::filesystem::path& source);

// The files for the output directory, the main one first, of a tokenizer that was loaded from `files`. They are exact
// copies, so the main file keeps its SHA-256; only vocab.json with merges.txt gets a new tokenizer.json.
std::vector<TokenizerKind::File> tokenizer_copy(const std::vector<TokenizerKind::File>& files,
                                                const Tokenizer& tokenizer);

}  // namespace kiln
