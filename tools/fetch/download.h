#pragma once
// Downloads one file over HTTP(S): resumed if interrupted, limited in size, and checked against a known SHA-256.
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace kiln {

struct Download {
    std::string url;
    std::filesystem::path path;  // the file gets this name when it is complete; the directory must exist
    std::string sha256;          // lower-case hexadecimal
    uint64_t max_bytes = 0;      // a larger file is refused
};

struct DownloadLimits {
    std::chrono::seconds connect{10};      // name resolution, connection and TLS
    std::chrono::seconds stall{30};        // less than 100 bytes a second for this time is a failure
    int attempts = 4;                      // each resumes where the one before it failed
    std::chrono::milliseconds pause{500};  // before the second attempt; doubles for each later one
};

// Bytes so far, and bytes in total (0: not known).
using DownloadProgress = std::function<void(uint64_t done, uint64_t total)>;

// Writes <path>.<hash>.part, which a later call resumes, and renames it when its hash is right. If the server ignores
// ranges, or the part is wrong, it starts from the beginning. Uses the proxies of the environment. Only one process at
// a time may download a path. Throws Error with the address and the reason; keeps no part with a wrong hash. If it
// cannot connect, it does not try again.
void download(const Download& what, const DownloadLimits& limits = {}, const DownloadProgress& progress = {});

// Whether the file exists and has the hash.
bool file_has_sha256(const std::filesystem::path& path, const std::string& sha256);

}  // namespace kiln
