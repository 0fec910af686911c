#include "tokenizer/prepare/output.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "tokenizer/huggingface/side_files.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"

namespace kiln {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr char kFirstLine[] = "kiln prepare has not finished this directory; run it again to resume.\n";
constexpr size_t kSameInAllVersions = sizeof("kiln prepare has not finished this directory") - 1;
constexpr size_t kHashDigits = 16;

bool is_number(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

// train_000000.bin, val_000000.bin or test_000000.bin, or one of them with .partial.
bool is_own_shard(std::string_view name) {
    if (name.ends_with(".partial")) name.remove_suffix(8);
    if (!name.ends_with(".bin")) return false;
    name.remove_suffix(4);
    for (const std::string_view split : {"train_", "val_", "test_"}) {
        if (name.starts_with(split)) return name.size() >= split.size() + 6 && is_number(name.substr(split.size()));
    }
    return false;
}

bool is_own_file(const std::string& name) {
    const auto& tokenizer = tokenizer_file_names();
    return name == kShardIndexName || name == kUnfinishedName ||
           std::find(tokenizer.begin(), tokenizer.end(), name) != tokenizer.end();
}

struct Contents {
    std::vector<fs::path> shards;     // written by `kiln prepare`
    std::vector<fs::path> leftovers;  // temporary files of a killed run
};

Contents contents_of(const fs::path& directory) {
    Contents found;
    std::error_code error;
    fs::directory_iterator it(directory, error), end;
    for (; !error && it != end; it.increment(error)) {
        const std::string name = it->path().filename().string();
        if (is_own_shard(name)) {
            found.shards.push_back(it->path());
        } else if (is_own_file(target_of_temporary(name))) {
            found.leftovers.push_back(it->path());
        }
    }
    KILN_CHECK(!error, directory.string(), ": the directory cannot be read: ", error.message());
    return found;
}

void remove_file(const fs::path& path) {
    std::error_code error;
    fs::remove(path, error);
    KILN_CHECK(!error, path.string(), ": cannot be removed: ", error.message());
}

// The state in a mark. Throws Error if the mark was not written by `kiln prepare`.
std::optional<json> read_mark(const fs::path& path) {
    const std::string text = read_file(path);
    KILN_CHECK(text.compare(0, kSameInAllVersions, kFirstLine, kSameInAllVersions) == 0, path.string(),
               ": was not written by `kiln prepare`; choose another --output, or remove this file");
    const size_t hash = text.find('\n') + 1, head = hash + kHashDigits + 1;
    if (text.size() < head) return std::nullopt;
    const std::string_view body = std::string_view(text).substr(head);
    if (text.substr(hash, kHashDigits) != hex(xxh3_64(body.data(), body.size()))) return std::nullopt;
    return json::from_cbor(body);
}

}  // namespace

PrepareOutput::PrepareOutput(const fs::path& directory, bool force, const std::string& identity,
                             const std::vector<TokenizerKind::File>& files)
    : directory_(directory) {
    const std::vector<fs::path> directories = make_directories(directory);
    lock_.emplace(directory);
    complete_ = has_shard_index(directory);
    if (fs::exists(status_of(directory / kUnfinishedName))) {
        saved_ = read_mark(directory / kUnfinishedName);
        // shards.json comes last, so beside it the mark means that finish() was interrupted, or start() was.
        unfinished_ = !complete_ || (!force && saved_ && saved_->at("done") && saved_->at("identity") == identity);
        if (!unfinished_) saved_.reset();
    }
    for (const TokenizerKind::File& file : files) {
        if (!fs::exists(fs::symlink_status(directory / file.name))) made_.push_back(directory / file.name);
    }
    made_.insert(made_.end(), directories.begin(), directories.end());
    if (force || unfinished_) return;
    const size_t shards = contents_of(directory).shards.size();
    KILN_CHECK(!complete_ && shards == 0, directory.string(), ": already holds shards (", shards,
               " files); choose another --output, or replace them with --overwrite");
    check_replaces_nothing(directory, files);
}

void PrepareOutput::save(const json& state) {
    std::string body;
    json::to_cbor(state, body);
    write_file_atomic(directory_ / kUnfinishedName,
                      concat(kFirstLine, hex(xxh3_64(body.data(), body.size())), "\n", body));
}

void PrepareOutput::start() {
    write_file_atomic(directory_ / kUnfinishedName, kFirstLine);
    remove_file(directory_ / kShardIndexName);
    const auto [shards, leftovers] = contents_of(directory_);
    for (const fs::path& path : shards) remove_file(path);
    for (const fs::path& path : leftovers) remove_file(path);
    sync_directory(directory_);
}

void PrepareOutput::remove_all_but(const SplitWriter& writer) {
    const auto [shards, leftovers] = contents_of(directory_);
    for (const fs::path& path : shards) {
        if (!writer.owns(path.filename())) remove_file(path);
    }
    for (const fs::path& path : leftovers) remove_file(path);
}

void PrepareOutput::finish(const ShardIndex& index) {
    write_shard_index(directory_, index);
    remove_mark();
}

void PrepareOutput::remove_mark() {
    remove_file(directory_ / kUnfinishedName);
}

void PrepareOutput::take_back() {
    if (complete_ || unfinished_) return;
    const auto [shards, leftovers] = contents_of(directory_);
    std::error_code ignored;  // the failure to tell is the one before
    for (const fs::path& path : shards) fs::remove(path, ignored);
    fs::remove(directory_ / kUnfinishedName, ignored);
    for (const fs::path& path : made_) fs::remove(path, ignored);  // a directory only if nothing else is in it
}

std::vector<TokenizerKind::File> read_tokenizer_files(const fs::path& source) {
    std::vector<TokenizerKind::File> files;
    for (const fs::path& path : tokenizer_files(source)) files.push_back({path.filename().string(), read_file(path)});
    return files;
}

std::vector<TokenizerKind::File> tokenizer_copy(const std::vector<TokenizerKind::File>& files,
                                                const Tokenizer& tokenizer) {
    std::vector<TokenizerKind::File> copy = files;
    const std::string& main = files.front().name;
    if (main == "vocab.json") {  // with merges.txt, without tokenizer.json
        copy.insert(copy.begin(), {"tokenizer.json", tokenizer.to_json()});
    } else {
        copy.front().name = main.ends_with(".model") ? "tokenizer.model" : "tokenizer.json";
    }
    // A role that only config.json names would be lost: it is no file of the tokenizer.
    for (const RoleInfo& info : role_table()) {
        const auto& token = tokenizer.roles()[info.role];
        if (!token || token->source != kModelConfigName) continue;
        for (const TokenizerKind::File& file : tokenizer.kind().files()) {
            if (file.name != "special_tokens_map.json") continue;
            std::erase_if(copy, [&](const auto& old) { return old.name == file.name; });
            copy.push_back(file);
        }
        break;
    }
    return copy;
}

}  // namespace kiln
