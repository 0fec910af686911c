#pragma once
// A directory that is written under a temporary name, and gets its final name only when it is complete.
#include <filesystem>
#include <memory>

#include "tokenizer/io/file.h"

namespace kiln {

// The files are written into path(), the directory .saving-NAME beside the target. commit() renames it to the target
// and fsyncs the parent directory. It may replace an empty directory or, by exchanging the names, a model: a directory
// with a config.json, without a manifest.json (a checkpoint has one), and with nothing but regular files. Without
// commit(), the destructor removes path(). What a killed process left is removed by the next one that writes the same
// directory.
class NewDirectory {
public:
    // Throws Error if something else has the name, or if another process writes it.
    explicit NewDirectory(const std::filesystem::path& target);
    NewDirectory(const NewDirectory&) = delete;
    ~NewDirectory();
    const std::filesystem::path& path() const { return path_; }
    void commit();  // the files in it are fsynced already

private:
    std::filesystem::path target_, path_;
    std::unique_ptr<DirectoryLock> lock_;
    bool pending_ = true;
};

}  // namespace kiln
