#pragma once
// Tokenizers known by name. Their files are not part of Kiln: they are fetched from their publisher, checked against
// the hashes here, and kept in a cache.
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
        std::string path;    // below `base`
        std::string sha256;  // lower-case hexadecimal
    };
    std::string name;
    std::string base;         // the publisher's address; a mirror's replaces it
    std::vector<File> files;  // encoder.json and vocab.bpe (a vocab.json and a merges.txt), or one .tiktoken
    std::string splitter;     // as --pre-tokenizer names it
    std::vector<SpecialToken> special_tokens;
};

const std::vector<PublishedTokenizer>& published_tokenizers();
const PublishedTokenizer* find_published(std::string_view name);  // nullptr: none of that name

struct FetchOptions {
    std::string mirror;           // an address or a directory in place of the publisher's; empty: the publisher
    std::filesystem::path cache;  // empty: default_cache()
    DownloadLimits limits;
    DownloadProgress progress;
};

// $XDG_CACHE_HOME/kiln, else ~/.cache/kiln. Throws UsageError if the environment has neither.
std::filesystem::path default_cache();

// The files, in the table's order, each with the hash it should have: out of the cache, else from the mirror or the
// publisher and into the cache. A mirror that is a directory holds them under their paths or their names, and nothing
// is copied. Several processes may do this at once. Throws Error saying what is wanted, from where, what went wrong and
// what to do without a network.
std::vector<std::filesystem::path> fetch_published(const PublishedTokenizer& tokenizer, const FetchOptions& options);

Tokenizer load_published(const PublishedTokenizer& tokenizer, const FetchOptions& options);

}  // namespace kiln
