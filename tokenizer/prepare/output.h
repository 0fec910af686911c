#pragma once
// The directory that `kiln prepare` writes, and the file in it that says how far it has come.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "tokenizer/prepare/split_writer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_impl.h"

namespace kiln {

class PrepareOutput {
public:
    // Creates the directory and holds it. Throws Error if another process does, or if it holds shards and not `force`.
    PrepareOutput(const std::filesystem::path& directory, bool force);

    // What save() wrote last, if a run was interrupted here; none if that cannot be used.
    std::optional<nlohmann::json> saved() const;
    bool unfinished() const { return unfinished_; }
    // Makes the directory empty of shards and marks it unfinished.
    void start();
    // Removes the shards that the interrupted run began after it saved last.
    void remove_all_but(const SplitWriter& writer);
    void save(const nlohmann::json& state);
    void finish(const ShardIndex& index);  // from now on it is whole

private:
    const std::filesystem::path directory_;
    std::optional<DirectoryLock> lock_;
    bool unfinished_ = false;
};

// The files of a tokenizer as they lie beside the shards, the main one first: its own bytes if there is one, so that
// the copy has the same SHA-256.
std::vector<TokenizerKind::File> tokenizer_copy(const std::filesystem::path& source, const Tokenizer& tokenizer);

}  // namespace kiln
