#include "tools/formats/new_directory.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cpu_reference/interface/error.h"
#include "tokenizer/tokenizer.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/names.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

bool is_of_model(const std::string& name) {
    const std::vector<std::string>& tokenizer = tokenizer_file_names();
    return name == "config.json" || name == "generation_config.json" || std::ranges::count(tokenizer, name) > 0 ||
           (name.starts_with("model") && (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")));
}

// A new path, an empty directory, or a model that is no checkpoint. A wrong --output must not remove a home directory.
void check_replaceable(const fs::path& path) {
    if (!fs::exists(fs::symlink_status(path))) return;
    KILN_CHECK(fs::is_directory(path), path.string(), ": is not a directory; choose another --output");
    if (fs::is_empty(path)) return;
    KILN_CHECK(
        fs::exists(path / "config.json") && !fs::exists(path / "manifest.json"), path.string(),
        ": only a model directory is replaced, and this one is none, or is a checkpoint of a run; choose another "
        "--output");
    for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
        const std::string name = entry.path().filename().string();
        KILN_CHECK(entry.symlink_status().type() == fs::file_type::regular && is_of_model(name), path.string(),
                   ": holds ", name, ", which is no file of a model and would be removed; choose another --output");
    }
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
