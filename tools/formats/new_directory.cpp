#include "tools/formats/new_directory.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cpu_reference/interface/error.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/names.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

// A new path, an empty directory, or a model that is no checkpoint. A wrong --output must not remove a home directory.
void check_replaceable(const fs::path& path) {
    if (!fs::exists(fs::symlink_status(path))) return;
    KILN_CHECK(fs::is_directory(path), path.string(), ": is not a directory; choose another --output");
    if (fs::is_empty(path)) return;
    bool only_files = true;
    for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
        only_files &= entry.symlink_status().type() == fs::file_type::regular;
    }
    KILN_CHECK(
        only_files && fs::exists(path / "config.json") && !fs::exists(path / "manifest.json"), path.string(),
        ": only a model directory is replaced, and this one is none, or is a checkpoint of a run; choose another "
        "--output");
}

}  // namespace

NewDirectory::NewDirectory(const fs::path& target) : target_(follow_link(target)) {
    check_replaceable(target_);
    make_directories(fs::absolute(target_).parent_path());
    path_ = target_.parent_path() / (std::string(kUnfinished) + target_.filename().string());
    make_directories(path_);
    lock_ = std::make_unique<DirectoryLock>(path_);
    for (const fs::directory_entry& entry : fs::directory_iterator(path_)) fs::remove_all(entry.path());
}

NewDirectory::~NewDirectory() {
    std::error_code ignored;
    if (pending_) fs::remove_all(path_, ignored);
}

void NewDirectory::commit() {
    sync_directory(path_);
    check_replaceable(target_);  // it may have changed meanwhile
    const bool replaces = fs::exists(target_);
    const auto rename = [&] {
        return ::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(), replaces ? RENAME_EXCHANGE : 0);
    };
    const int error = rename() == 0 ? 0 : errno;
    KILN_CHECK(error == 0, target_.string(), ": cannot be ", replaces ? "replaced" : "created", ": ",
               std::strerror(error), "; choose another --output, or remove it first");
    try {
        sync_directory(target_.parent_path());
    } catch (const Error&) {  // the new name may not be on the disk, so the old model must not be removed
        if (replaces) rename();
        throw;
    }
    // After an exchange, path_ is what was replaced.
    if (!replaces) pending_ = false;
}

}  // namespace kiln
