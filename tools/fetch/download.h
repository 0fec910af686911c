#pragma once
// One file over HTTP(S), whole or not at all: resumed, bounded, and checked against a SHA-256 known beforehand.
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace kiln {

struct Download {
    std::string url;
    std::filesystem::path path;  // the file's name once it is complete and its hash is right; its directory exists
    std::string sha256;          // lower-case hexadecimal
    uint64_t max_bytes = 0;      // more than this is refused
};

struct DownloadLimits {
    std::chrono::seconds connect{10};      // name resolution, connection and TLS
    std::chrono::seconds stall{30};        // under 100 bytes a second for so long is a failure
    int attempts = 4;                      // each goes on where the one before broke off
    std::chrono::milliseconds pause{500};  // before the second attempt; doubled for each later one
};

// Bytes there are and bytes there will be (0: not known).
using DownloadProgress = std::function<void(uint64_t done, uint64_t total)>;

// Writes <path>.<hash>.part, which outlives a kill and is resumed, and renames it when its hash is right. A server that
// ignores ranges, or a part that turns out wrong, costs a start from the beginning. Proxies are those of the
// environment. Callers see to it that one process at a time downloads a path. Throws Error with the address and the
// reason; on a wrong hash no part is kept. No connection at all is not tried twice.
void download(const Download& what, const DownloadLimits& limits = {}, const DownloadProgress& progress = {});

// Whether the file exists and has the hash.
bool file_has_sha256(const std::filesystem::path& path, const std::string& sha256);

}  // namespace kiln
