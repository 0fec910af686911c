#pragma once
// A directory that is written under another name, and gets its own only when it is complete.
#include <filesystem>
#include <memory>

#include "tokenizer/io/file.h"

namespace kiln {

// Its files are written into path(), the directory .saving-NAME beside it. commit() gives it its name and fsyncs the
// parent. It may replace an empty directory or, by exchanging the names, a model: a directory with a config.json and
// with nothing but files, which is no checkpoint. Without commit() the destructor removes it; what a killed process
// left is removed by the next one that writes the same directory.
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
