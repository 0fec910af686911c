#pragma once
// Published tokenizers. Their files are not part of Kiln: they are downloaded from the publisher, checked against the
// hashes here, and kept in a cache.
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/huggingface/parts.h"
#include "tokenizer/tokenizer.h"
#include "tools/fetch/download.h"

namespace kiln {

struct PublishedTokenizer {
    struct File {
        std::string path;    // relative to `base`
        std::string sha256;  // lower-case hexadecimal
    };
    std::string name;
    std::string base;         // the publisher's address, or that of a mirror
    std::vector<File> files;  // encoder.json and vocab.bpe (a vocab.json and a merges.txt), or one .tiktoken
    PreTokenizerKind pre_tokenizer;
    std::vector<SpecialToken> special_tokens;
};

const std::vector<PublishedTokenizer>& published_tokenizers();
const PublishedTokenizer* find_published(std::string_view name);  // nullptr if there is none

struct FetchOptions {
    std::string mirror;           // an address or a directory; empty: the publisher
    std::filesystem::path cache;  // empty: default_cache()
    DownloadLimits limits;
    DownloadProgress progress;
};

// $XDG_CACHE_HOME/kiln, else ~/.cache/kiln. Throws UsageError if the environment has neither.
std::filesystem::path default_cache();

// Returns the files in the order of the table, after checking their hashes. They come from the cache, or are downloaded
// from the mirror or the publisher into the cache. A directory as mirror has them under their paths or names, and they
// are not copied. Several processes may call it at once. Throws Error that tells which files are needed, what went
// wrong, and what to do without a network.
std::vector<std::filesystem::path> fetch_published(const PublishedTokenizer& tokenizer, const FetchOptions& options);

Tokenizer load_published(const PublishedTokenizer& tokenizer, const FetchOptions& options);

}  // namespace kiln
