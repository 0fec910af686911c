#pragma once
// manifest.json, the last file of a checkpoint: the size and XXH3-64 of every other file, and a checksum of that list.
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tools/formats/safetensors.h"

namespace kiln {

// Writes a file, fsyncs it, and returns the size and the hash of `content`.
FileDigest write_synced(const std::filesystem::path& path, std::string_view content);

// `files`: the digest of each file in the directory, computed from what was to be written.
void write_manifest(const std::filesystem::path& directory, int64_t step,
                    const std::map<std::string, FileDigest>& files);

struct FileCheck {
    std::string name;
    uint64_t bytes;     // as the manifest says
    std::string fault;  // how the file differs from the manifest; empty: it does not
};
struct CheckedFiles {
    int64_t step;
    std::vector<FileCheck> files;
};
// Compares every file with the manifest. Throws Error if the manifest itself is damaged, or is that of another step
// than the directory's name says.
CheckedFiles check_files(const std::filesystem::path& checkpoint);

// Throws Error with the first file that is missing or differs from the manifest. If `all` is false, skips the
// optimizer state, which inference does not need and which is two thirds of the bytes. Returns the step.
int64_t verify_manifest(const std::filesystem::path& checkpoint, bool all);

}  // namespace kiln
