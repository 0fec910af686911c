#include <algorithm>
#include <array>
#include <string_view>

#include "cpu_reference/error.h"
#include "tokenizer/documents.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

constexpr std::array<std::string_view, 6> kTextExtensions = {".txt", ".text", ".md", ".jsonl", ".ndjson", ".json"};
constexpr std::array<std::string_view, 12> kUnreadable = {".gz",  ".zst", ".bz2",   ".xz",  ".zip", ".parquet",
                                                          ".csv", ".tsv", ".arrow", ".pdf", ".bin", ".safetensors"};
// What tokenizers and data directories consist of: never meant as text when a directory is named.
constexpr std::array<std::string_view, 6> kOwnFiles = {"tokenizer.json",          "vocab.json", "tokenizer_config.json",
                                                       "special_tokens_map.json", "merges.txt", "shards.json"};

template <class List>
bool contains(const List& list, std::string_view word) {
    return std::find(list.begin(), list.end(), word) != list.end();
}

std::string lower_extension(const fs::path& path) {
    std::string extension = path.extension().string();
    for (char& c : extension) c = c >= 'A' && c <= 'Z' ? char(c + 32) : c;
    return extension;
}

void check_readable(const fs::path& path) {
    KILN_CHECK(!contains(kUnreadable, lower_extension(path)), path.string(), ": ", lower_extension(path),
               " files cannot be read here; unpack or convert it to .txt or .jsonl first");
}

std::vector<fs::path> walk(const fs::path& directory) {
    std::vector<fs::path> files;
    std::error_code error;
    fs::recursive_directory_iterator it(directory, error), end;
    for (; !error && it != end; it.increment(error)) {
        const std::string name = it->path().filename().string();
        if (name.starts_with(".")) {
            it.disable_recursion_pending();
            continue;
        }
        std::error_code ignored;
        if (it->is_regular_file(ignored) && contains(kTextExtensions, lower_extension(name)) &&
            !contains(kOwnFiles, name)) {
            files.push_back(it->path());
        }
    }
    KILN_CHECK(!error, directory.string(), ": the directory cannot be read: ", error.message());
    std::sort(files.begin(), files.end());
    return files;
}

}  // namespace

std::vector<fs::path> find_documents(const std::vector<std::string>& inputs) {
    std::vector<fs::path> files;
    for (const std::string& input : inputs) {
        std::error_code ignored;
        KILN_CHECK(fs::exists(input, ignored), input, ": not found; --input takes files and directories of text");
        if (!fs::is_directory(input, ignored)) {
            check_readable(input);
            files.push_back(input);
            continue;
        }
        const std::vector<fs::path> found = walk(input);
        KILN_CHECK(!found.empty(), input, ": no text in this directory (no .txt, .text, .md, .jsonl, .ndjson, .json); ",
                   "files with other names must be named one by one");
        files.insert(files.end(), found.begin(), found.end());
    }
    KILN_CHECK(!files.empty(), "no text given; name files or directories with --input");
    return files;
}

}  // namespace kiln
