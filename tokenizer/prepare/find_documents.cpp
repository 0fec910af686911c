#include <algorithm>
#include <cstring>
#include <string_view>

#include <fnmatch.h>
#include <sys/stat.h>

#include "cpu_reference/interface/error.h"
#include "tokenizer/data/shard_index.h"
#include "tokenizer/io/binary.h"
#include "tokenizer/prepare/documents.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

template <class List>
bool contains(const List& list, std::string_view word) {
    return std::find(list.begin(), list.end(), word) != list.end();
}

// Throws if it is not a file or a pipe of text.
InputFileInfo examine(const fs::path& path) {
    struct stat status {};
    KILN_CHECK(::stat(path.c_str(), &status) == 0, path.string(), ": ",
               errno == ENOENT ? "not found" : std::strerror(errno),
               "; --input takes files, directories and quoted patterns");
    KILN_CHECK(S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode), path.string(), ": is a ",
               S_ISSOCK(status.st_mode) ? "socket" : "device",
               " where text is expected; --input takes files, pipes and directories");
    const std::string conversion = conversion_of(lower_extension(path));
    KILN_CHECK(conversion.empty(), path.string(), ": ", conversion);
    if (S_ISFIFO(status.st_mode)) return {.path = path, .pipe = true};
    return {.path = path,
            .bytes = uint64_t(status.st_size),
            .modified_ns = int64_t(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec};
}

std::vector<fs::path> entries_of(const fs::path& directory) {
    std::vector<fs::path> entries;
    std::error_code error;
    fs::directory_iterator it(directory, error), end;
    for (; !error && it != end; it.increment(error)) {
        if (!it->path().filename().string().starts_with(".")) entries.push_back(it->path());
    }
    KILN_CHECK(!error, directory.string(), ": the directory cannot be read: ", error.message(),
               "; check its permissions, or name the files in it");
    std::sort(entries.begin(), entries.end());
    return entries;
}

// Links to directories are not followed, since they may form loops. Links to files are: model hubs' caches use them.
bool is_own_directory(const fs::path& path) {
    std::error_code ignored;
    return fs::is_directory(fs::symlink_status(path, ignored));
}

bool is_file(const fs::path& path) {
    std::error_code ignored;  // a broken or circular link is not a file
    return fs::is_regular_file(path, ignored);
}

void walk(const fs::path& directory, std::vector<fs::path>& files, std::vector<fs::path>& passed_over) {
    for (const fs::path& entry : entries_of(directory)) {
        if (is_own_directory(entry)) {
            walk(entry, files, passed_over);
        } else if (is_file(entry)) {
            (is_text_name(entry) || is_archive_name(entry) ? files : passed_over).push_back(entry);
        }
    }
}

// The description of a cloned data set, not its data.
bool is_card(const fs::path& path) {
    const std::string stem = path.stem();
    return stem == "README" || stem == "LICENSE" || stem == "CHANGELOG";
}

// Adds the files below `base` that match the parts [at, end) of a pattern.
void expand(const fs::path& base, fs::path::iterator at, fs::path::iterator end, std::vector<fs::path>& found) {
    if (at == end) {
        if (is_file(base)) found.push_back(base);
        return;
    }
    const std::string part = at->string();
    const auto next = std::next(at);
    std::error_code ignored;
    if (part == "**") {
        expand(base, next, end, found);
        for (const fs::path& entry : entries_of(base.empty() ? "." : base)) {
            if (is_own_directory(entry)) expand(base.empty() ? entry.filename() : entry, at, end, found);
        }
    } else if (part.find_first_of("*?[") == part.npos) {
        if (fs::exists(base / part, ignored)) expand(base / part, next, end, found);
    } else if (base.empty() || fs::is_directory(base, ignored)) {
        for (const fs::path& entry : entries_of(base.empty() ? "." : base)) {
            const std::string name = entry.filename();
            if (::fnmatch(part.c_str(), name.c_str(), FNM_PERIOD) == 0) expand(base / name, next, end, found);
        }
    }
}

}  // namespace

bool is_text_name(const fs::path& path) {
    return contains(document_extensions(), lower_extension(decompressed_name(path))) &&
           !contains(tokenizer_file_names(), path.filename().string()) && !path.filename().string().starts_with(".") &&
           path.filename() != kShardIndexName;
}

std::vector<InputFileInfo> find_documents(const std::vector<std::string>& inputs, std::vector<fs::path>* passed_over) {
    std::vector<InputFileInfo> files;
    for (const std::string& input : inputs) {
        std::error_code ignored;
        std::vector<fs::path> found;
        if (fs::is_directory(input, ignored)) {
            std::vector<fs::path> others;
            walk(input, found, others);
            if (std::ranges::all_of(found, is_card)) {
                for (const fs::path& path : others) examine(path);  // throws for data that cannot be read
            }
            if (passed_over) passed_over->insert(passed_over->end(), others.begin(), others.end());
            std::string names;
            for (const std::string& extension : document_extensions()) names += extension + ", ";
            KILN_CHECK(!found.empty(), input, ": no text in this directory (no ", names,
                       "also with .gz or .zst); files with other names must be named one by one");
        } else if (!fs::exists(input, ignored) && input.find_first_of("*?[") != input.npos) {
            const fs::path pattern(input);
            expand("", pattern.begin(), pattern.end(), found);
            std::sort(found.begin(), found.end());
            found.erase(std::unique(found.begin(), found.end()), found.end());
            KILN_CHECK(!found.empty(), input, ": no file matches; is the pattern quoted, and the path right?");
        } else {
            found.push_back(input);
        }
        for (const fs::path& path : found) files.push_back(examine(path));
    }
    KILN_CHECK(!files.empty(), "no text given; name files or directories with --input");
    return files;
}

}  // namespace kiln
