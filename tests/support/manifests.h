#pragma once
// A manifest that agrees with files which a test has changed.
#include <filesystem>
#include <map>
#include <string>

#include "tokenizer/io/file.h"
#include "tools/checkpoint/manifest.h"

namespace kiln {

inline void rewrite_manifest(const std::filesystem::path& checkpoint, int64_t step) {
    std::filesystem::remove(checkpoint / "manifest.json");
    std::map<std::string, FileDigest> files;
    for (const auto& entry : std::filesystem::directory_iterator(checkpoint)) {
        const std::string content = read_file(entry.path());
        files[entry.path().filename()] = {content.size(), xxh3_64(content.data(), content.size())};
    }
    write_manifest(checkpoint, step, files);
}

}  // namespace kiln
