#include "tools/fetch/published_tokenizers.h"

#include <algorithm>
#include <cstdlib>

#include "cpu_reference/interface/error.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/io/file.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

constexpr const char* kOpenAi = "https://openaipublic.blob.core.windows.net";
constexpr uint64_t kMaxBytes = 16 << 20;  // the largest, o200k_base, has less than 4 MB

std::string file_name(const std::string& path) {
    return fs::path(path).filename().string();
}

// The file in a directory that is used as a mirror.
fs::path find_in_directory(const fs::path& directory, const PublishedTokenizer::File& file) {
    for (const fs::path& path : {directory / file.path, directory / file_name(file.path)}) {
        if (!fs::exists(status_of(path))) continue;
        KILN_CHECK(file_has_sha256(path, file.sha256), path.string(),
                   ": its SHA-256 is not that of the published file, ", file.sha256, "; download it again");
        return path;
    }
    throw Error(
        concat((directory / file_name(file.path)).string(), ": not found in the directory that --mirror names"));
}

fs::path fetch(const PublishedTokenizer& tokenizer, const PublishedTokenizer::File& file, const fs::path& directory,
               const FetchOptions& options) {
    const fs::path path = directory / file_name(file.path);
    if (file_has_sha256(path, file.sha256)) return path;
    const DirectoryLock lock(directory, /*wait=*/true);
    if (file_has_sha256(path, file.sha256)) return path;  // another process may have downloaded it
    std::string base = options.mirror.empty() ? tokenizer.base : options.mirror;
    while (base.ends_with('/')) base.pop_back();
    try {
        download({.url = base + "/" + file.path, .path = path, .sha256 = file.sha256, .max_bytes = kMaxBytes},
                 options.limits, options.progress);
    } catch (const Error& error) {
        std::string by_hand;
        for (const auto& needed : tokenizer.files) {
            by_hand += concat(by_hand.empty() ? "" : " and ", tokenizer.base, "/", needed.path, " (SHA-256 ",
                              needed.sha256, ")");
        }
        throw Error(concat(tokenizer.name, " needs ", file_name(file.path),
                           ", which could not be fetched: ", error.what(),
                           ". To use another server with the same paths: --mirror URL (or KILN_MIRROR). "
                           "Without a network: download ",
                           by_hand, " on another machine, put them into a directory and use --mirror DIR"));
    }
    return path;
}

}  // namespace

const std::vector<PublishedTokenizer>& published_tokenizers() {
    static const std::vector<PublishedTokenizer> all = {
        {.name = "gpt2",
         .base = kOpenAi,
         .files = {{"gpt-2/encodings/main/encoder.json",
                    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"},
                   {"gpt-2/encodings/main/vocab.bpe",
                    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"}},
         .pre_tokenizer = PreTokenizerKind::kGpt2,
         .special_tokens = {{"<|endoftext|>", 50256}}},
        {.name = "r50k_base",
         .base = kOpenAi,
         .files = {{"encodings/r50k_base.tiktoken",
                    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"}},
         .pre_tokenizer = PreTokenizerKind::kGpt2,
         .special_tokens = {{"<|endoftext|>", 50256}}},
        {.name = "p50k_base",
         .base = kOpenAi,
         .files = {{"encodings/p50k_base.tiktoken",
                    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069"}},
         .pre_tokenizer = PreTokenizerKind::kGpt2,
         .special_tokens = {{"<|endoftext|>", 50256}}},
        {.name = "cl100k_base",
         .base = kOpenAi,
         .files = {{"encodings/cl100k_base.tiktoken",
                    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"}},
         .pre_tokenizer = PreTokenizerKind::kCl100k,
         .special_tokens = {{"<|endoftext|>", 100257},
                            {"<|fim_prefix|>", 100258},
                            {"<|fim_middle|>", 100259},
                            {"<|fim_suffix|>", 100260},
                            {"<|endofprompt|>", 100276}}},
        {.name = "o200k_base",
         .base = kOpenAi,
         .files = {{"encodings/o200k_base.tiktoken",
                    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"}},
         .pre_tokenizer = PreTokenizerKind::kO200k,
         .special_tokens = {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}}}};
    return all;
}

const PublishedTokenizer* find_published(std::string_view name) {
    const auto& all = published_tokenizers();
    const auto found = std::find_if(all.begin(), all.end(), [&](const auto& t) { return t.name == name; });
    return found == all.end() ? nullptr : &*found;
}

fs::path default_cache() {
    const char* xdg = std::getenv("XDG_CACHE_HOME");
    if (xdg && *xdg == '/') return fs::path(xdg) / "kiln";  // its specification says to ignore relative paths
    const char* home = std::getenv("HOME");
    if (home && *home) return fs::path(home) / ".cache" / "kiln";
    throw UsageError(
        "neither XDG_CACHE_HOME nor HOME is set; name a directory for downloads with --cache DIR (or KILN_CACHE)");
}

std::vector<fs::path> fetch_published(const PublishedTokenizer& tokenizer, const FetchOptions& options) {
    const bool from_directory = !options.mirror.empty() && options.mirror.find("://") == std::string::npos;
    std::vector<fs::path> paths;
    if (from_directory) {
        for (const auto& file : tokenizer.files) paths.push_back(find_in_directory(options.mirror, file));
        return paths;
    }
    const fs::path cache = options.cache.empty() ? default_cache() : options.cache;
    const fs::path directory = cache / "tokenizers" / tokenizer.name;
    std::error_code failed;
    fs::create_directories(directory, failed);
    KILN_CHECK(!failed, directory.string(), ": cannot be created: ", failed.message(),
               "; choose another directory with --cache (or KILN_CACHE)");
    for (const auto& file : tokenizer.files) paths.push_back(fetch(tokenizer, file, directory, options));
    return paths;
}

Tokenizer load_published(const PublishedTokenizer& tokenizer, const FetchOptions& options) {
    const std::vector<fs::path> paths = fetch_published(tokenizer, options);
    if (paths.size() == 1) {
        return make_tokenizer(parse_tiktoken(read_file(paths[0]), paths[0].string(),
                                             {.last = PreTokenizer(tokenizer.pre_tokenizer)}, tokenizer.special_tokens),
                              tokenizer.name);
    }
    return make_tokenizer(
        parse_vocab_and_merges(read_file(paths[0]), paths[0].string(), read_file(paths[1]), paths[1].string()),
        tokenizer.name);
}

}  // namespace kiln
