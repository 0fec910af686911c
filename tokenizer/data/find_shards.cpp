#include <algorithm>

#include <glob.h>

#include "cpu_reference/interface/error.h"
#include "tokenizer/data/dataloader.h"
#include "tokenizer/data/shard_index.h"
#include "tokenizer/io/file.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

constexpr char kPrepareHint[] = "run `kiln prepare --input PATH --tokenizer DIR --output DIR` first";

[[noreturn]] void throw_no_shards(const fs::path& directory) {
    size_t bins = 0;
    std::string text;
    for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
        const fs::path extension = entry.path().extension();
        bins += extension == ".bin";
        if (extension == ".txt" || extension == ".jsonl" || extension == ".json") text = entry.path().filename();
    }
    std::string what = concat(directory.string(), ": no shards in this directory (no *train*.bin, no *val*.bin)");
    if (!find_tokenizer(directory).empty()) {
        throw Error(concat(what, "; it holds a tokenizer, with which shards are made: `kiln prepare --input PATH ",
                           "--tokenizer ", directory.string(), " --output DIR`"));
    }
    if (bins > 0) throw Error(concat(what, "; it has ", bins, " other .bin files; name them by a glob"));
    if (!text.empty()) throw Error(concat(what, "; it holds text (", text, "): ", kPrepareHint));
    throw Error(concat(what, "; ", kPrepareHint));
}

DataPaths find_in_directory(const fs::path& directory) {
    DataPaths found;
    if (!find_tokenizer(directory).empty()) found.tokenizer = directory;
    if (has_shard_index(directory)) {
        const ShardIndex index = read_shard_index(directory);
        if (!found.tokenizer.empty()) verify_tokenizer(directory, index);
        for (const Shard& shard : open_shards(directory, index, index.train)) found.train.push_back(shard.path());
        for (const Shard& shard : open_shards(directory, index, index.val)) found.val.push_back(shard.path());
        for (const Shard& shard : open_shards(directory, index, index.test)) found.test.push_back(shard.path());
        return found;
    }
    KILN_CHECK(!fs::exists(status_of(directory / kUnfinishedName)), directory.string(),
               ": `kiln prepare` was interrupted before this directory was complete; run it again");
    for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
        const std::string name = entry.path().filename();
        if (!name.ends_with(".bin")) continue;
        if (name.find("train") != name.npos) {
            found.train.push_back(entry.path());
        } else if (name.find("val") != name.npos) {
            found.val.push_back(entry.path());
        }
    }
    std::sort(found.train.begin(), found.train.end());
    std::sort(found.val.begin(), found.val.end());
    if (found.train.empty() && found.val.empty()) throw_no_shards(directory);
    return found;
}

std::vector<fs::path> expand(const std::string& pattern) {
    struct Matches {
        glob_t list{};
        ~Matches() { ::globfree(&list); }
    } matches;
    const int result = ::glob(pattern.c_str(), 0, nullptr, &matches.list);  // sorts by name
    KILN_CHECK(result == 0 || result == GLOB_NOMATCH, pattern, ": the pattern cannot be expanded");
    return {matches.list.gl_pathv, matches.list.gl_pathv + matches.list.gl_pathc};
}

}  // namespace

DataPaths find_data(const std::string& pattern) {
    KILN_CHECK(!pattern.empty(), "no data given: name a directory of shards, a glob or a file (-i)");
    std::error_code ignored;  // a path that cannot be read is reported as not found
    if (fs::is_directory(pattern, ignored)) return find_in_directory(pattern);
    DataPaths found;
    if (fs::exists(pattern, ignored)) {
        found.train = {pattern};
    } else {
        const bool is_glob = pattern.find_first_of("*?[") != pattern.npos;
        KILN_CHECK(is_glob, pattern, ": not found; give a directory of shards, a glob or a file, or ", kPrepareHint);
        found.train = expand(pattern);
        KILN_CHECK(!found.train.empty(), pattern, ": no file matches; is the pattern quoted, and the path right?");
    }
    const fs::path parent = found.train.front().parent_path(), directory = parent.empty() ? "." : parent;
    if (!find_tokenizer(directory).empty()) found.tokenizer = directory;
    if (!found.tokenizer.empty() && has_shard_index(directory))
        verify_tokenizer(directory, read_shard_index(directory));
    return found;
}

}  // namespace kiln
