#include <algorithm>
#include <cstring>
#include <iterator>
#include <string_view>
#include <utility>

#include <fnmatch.h>
#include <sys/stat.h>

#include "cpu_reference/interface/error.h"
#include "tokenizer/data/shard_index.h"
#include "tokenizer/io/binary.h"
#include "tokenizer/io/byte_source.h"
#include "tokenizer/prepare/documents.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

template <class List>
bool contains(const List& list, std::string_view word) {
    return std::find(list.begin(), list.end(), word) != list.end();
}

// Throws if it is not a file or a pipe of text.
InputFileInfo examine(const fs::path& path) {
    struct stat status {};
    KILN_CHECK(::stat(path.c_str(), &status) == 0, path.string(), ": ",
               errno == ENOENT ? "not found" : std::strerror(errno),
               "; --input takes files, directories and quoted patterns");
    KILN_CHECK(S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode), path.string(), ": is a ",
               S_ISSOCK(status.st_mode) ? "socket" : "device",
               " where text is expected; --input takes files, pipes and directories");
    if (!conversion_of(lower_extension(path)).empty()) {
        std::string head(64, '\0');
        if (S_ISREG(status.st_mode)) head.resize(InputFile(path).read(head.data(), head.size()));
        throw Error(concat(path.string(), ": ", conversion_of(lower_extension(path), head)));
    }
    if (S_ISFIFO(status.st_mode)) return {.path = path, .pipe = true};
    return {.path = path,
            .bytes = uint64_t(status.st_size),
            .modified_ns = int64_t(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec};
}

std::vector<fs::path> entries_of(const fs::path& directory) {
    std::vector<fs::path> entries;
    std::error_code error;
    fs::directory_iterator it(directory, error), end;
    for (; !error && it != end; it.increment(error)) {
        if (!it->path().filename().string().starts_with(".")) entries.push_back(it->path());
    }
    KILN_CHECK(!error, directory.string(), ": the directory cannot be read: ", error.message(),
               "; check its permissions, or name the files in it");
    std::sort(entries.begin(), entries.end());
    return entries;
}

// Links to directories are not followed, since they may form loops. Links to files are: model hubs' caches use them.
bool is_own_directory(const fs::path& path) {
    std::error_code ignored;
    return fs::is_directory(fs::symlink_status(path, ignored));
}

bool is_file(const fs::path& path) {
    std::error_code ignored;  // a broken or circular link is not a file
    return fs::is_regular_file(path, ignored);
}

void walk(const fs::path& directory, std::vector<fs::path>& files, std::vector<fs::path>& passed_over) {
    for (const fs::path& entry : entries_of(directory)) {
        if (is_own_directory(entry)) {
            walk(entry, files, passed_over);
        } else if (is_file(entry)) {
            (is_text_name(entry) || is_archive_name(entry) ? files : passed_over).push_back(entry);
        }
    }
}

// A dataset card: the description of a cloned data set, not its data.
bool is_card(const fs::path& path) {
    const std::string stem = path.stem();
    return stem == "README" || stem == "LICENSE" || stem == "CHANGELOG";
}

// Where data for training is passed over, the rest may be the test split. `passed_over` are names within `where`.
void check_training(const fs::path& where, const std::vector<fs::path>& used,
                    const std::vector<fs::path>& passed_over) {
    bool named = false;
    for (const fs::path& name : used) {
        if (split_named(name) == SplitName::train) return;
        named = named || split_named(name);
    }
    for (const fs::path& name : passed_over) {
        if (!named || split_named(name) != SplitName::train) continue;
        const std::string conversion = conversion_of(lower_extension(name));
        KILN_CHECK(conversion.empty(), (where / name).string(), ": ", conversion);
    }
}

// Adds the files below `base` that match the parts [at, end) of a pattern.
void expand(const fs::path& base, fs::path::iterator at, fs::path::iterator end, std::vector<fs::path>& found) {
    if (at == end) {
        if (is_file(base)) found.push_back(base);
        return;
    }
    const std::string part = at->string();
    const auto next = std::next(at);
    std::error_code ignored;
    if (part == "**") {
        expand(base, next, end, found);
        for (const fs::path& entry : entries_of(base.empty() ? "." : base)) {
            if (is_own_directory(entry)) expand(base.empty() ? entry.filename() : entry, at, end, found);
        }
    } else if (part.find_first_of("*?[") == part.npos) {
        if (fs::exists(base / part, ignored)) expand(base / part, next, end, found);
    } else if (base.empty() || fs::is_directory(base, ignored)) {
        for (const fs::path& entry : entries_of(base.empty() ? "." : base)) {
            const std::string name = entry.filename();
            if (::fnmatch(part.c_str(), name.c_str(), FNM_PERIOD) == 0) expand(base / name, next, end, found);
        }
    }
}

}  // namespace

bool is_text_name(const fs::path& path) {
    return contains(document_extensions(), lower_extension(decompressed_name(path))) &&
           !contains(tokenizer_file_names(), path.filename().string()) && !path.filename().string().starts_with(".") &&
           path.filename() != kShardIndexName;
}

std::optional<SplitName> split_named(const fs::path& path) {
    static constexpr std::pair<std::string_view, SplitName> kWords[] = {
        {"train", SplitName::train}, {"training", SplitName::train}, {"val", SplitName::val},
        {"valid", SplitName::val},   {"validation", SplitName::val}, {"dev", SplitName::val},
        {"test", SplitName::test}};
    const auto is_letter = [](unsigned char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; };
    std::optional<SplitName> found;
    for (const fs::path& part : path) {
        const std::string name = part.string();
        for (size_t begin = 0, end; begin < name.size(); begin = end + 1) {
            std::string word;
            for (end = begin; end < name.size() && is_letter(name[end]); end++) word += char(name[end] | 32);
            const auto known = std::ranges::find(kWords, word, &std::pair<std::string_view, SplitName>::first);
            if (known == std::end(kWords)) continue;
            found = known->second;
            break;
        }
    }
    return found;
}

namespace {

// A file, with the names that may say its split: its path below the input, and those of an archive's members.
struct Named {
    InputFileInfo info;
    fs::path name;
    std::vector<std::string> members = {};
};

// The files of one input.
std::vector<Named> find_input(const std::string& input, std::vector<std::string>& passed_over) {
    std::error_code ignored;
    std::vector<fs::path> found;
    fs::path base = fs::path(input).parent_path();  // what does not count as a name
    if (fs::is_directory(input, ignored)) {
        base = input;
        std::vector<fs::path> others;
        walk(input, found, others);
        if (std::ranges::all_of(found, is_card)) {
            for (const fs::path& path : others) examine(path);  // throws for data that cannot be read
        }
        // A README.md beside records describes them; among texts, it is a text.
        const bool records = std::ranges::any_of(found, [](const fs::path& path) {
            return is_archive_name(path) || format_of(path) != DocumentFormat::text;
        });
        std::erase_if(found, [&](const fs::path& path) {
            const bool card = records && is_card(path);
            if (card) others.push_back(path);
            return card;
        });
        std::vector<fs::path> used, unused;
        for (const fs::path& path : found) used.push_back(path.lexically_relative(input));
        for (const fs::path& path : others) unused.push_back(path.lexically_relative(input));
        check_training(input, used, unused);
        passed_over.insert(passed_over.end(), others.begin(), others.end());
        std::string names;
        for (const std::string& extension : document_extensions()) names += extension + ", ";
        KILN_CHECK(!found.empty(), input, ": no text in this directory (no ", names,
                   "also with .gz or .zst); files with other names must be named one by one");
    } else if (!fs::exists(input, ignored) && input.find_first_of("*?[") != input.npos) {
        const fs::path pattern(input);
        base = fs::path(input.substr(0, input.find_first_of("*?["))).parent_path();
        expand("", pattern.begin(), pattern.end(), found);
        std::sort(found.begin(), found.end());
        found.erase(std::unique(found.begin(), found.end()), found.end());
        KILN_CHECK(!found.empty(), input, ": no file matches; is the pattern quoted, and the path right?");
    } else {
        found.push_back(input);
    }
    std::vector<Named> files;
    for (const fs::path& path : found) {
        Named file{examine(path), path.lexically_relative(base)};
        if (base.empty()) file.name = path;
        if (is_archive_name(path) && !file.info.pipe) {
            std::vector<fs::path> others;
            for (const std::string& member : archive_members(path)) {
                if (is_text_name(member)) {
                    file.members.push_back(member);
                } else {
                    others.push_back(member);
                }
            }
            check_training(path, {file.members.begin(), file.members.end()}, others);
        }
        files.push_back(std::move(file));
    }
    return files;
}

// Gives files the splits that their names say, if some are for training and others are not.
void split_by_names(std::vector<Named>& files, InputFiles& result) {
    bool named[3] = {};
    const auto note = [&](const fs::path& name) {
        if (const auto split = split_named(name)) named[int(*split)] = true;
    };
    for (const Named& file : files) {
        note(file.name);
        for (const std::string& member : file.members) note(member);
    }
    if (!named[int(SplitName::train)] || !(named[int(SplitName::val)] || named[int(SplitName::test)])) return;
    result.by_names = true;
    result.has_val = named[int(SplitName::val)];
    for (Named& file : files) {
        const auto split = split_named(file.name);
        file.info.split = split.value_or(SplitName::train);
        file.info.members_by_names = !split && is_archive_name(file.info.path);
    }
    std::erase_if(files, [&](const Named& file) {
        const bool card = is_card(file.info.path);
        if (card) result.passed_over.push_back(file.info.path.string());
        return card;
    });
}

}  // namespace

InputFiles find_documents(const std::vector<std::string>& inputs, const std::vector<std::string>& val_inputs,
                          bool split_names) {
    InputFiles result;
    const auto find_all = [&](const std::vector<std::string>& of) {
        std::vector<Named> files;
        for (const std::string& input : of)
            std::ranges::move(find_input(input, result.passed_over), std::back_inserter(files));
        return files;
    };
    std::vector<Named> files = find_all(inputs), val = find_all(val_inputs);
    KILN_CHECK(!files.empty(), "no text given; name files or directories with --input");
    std::error_code ignored;
    std::erase_if(files, [&](const Named& file) {  // --input DIR --val-input DIR/held_out.txt
        return std::ranges::any_of(
            val, [&](const Named& other) { return fs::equivalent(file.info.path, other.info.path, ignored); });
    });
    KILN_CHECK(!files.empty(), "--val-input has all files of --input, so none is left to train on");
    if (split_names) split_by_names(files, result);
    for (Named& file : val) {
        file.info.split = SplitName::val;
        result.has_val = true;
        files.push_back(std::move(file));
    }
    for (Named& file : files) result.files.push_back(std::move(file.info));
    return result;
}

void report_passed_over(const std::vector<std::string>& files, const std::function<void(const std::string&)>& report) {
    constexpr size_t kShown = 5;
    std::string names;
    for (size_t i = 0; i < std::min(files.size(), kShown); i++) names += (i == 0 ? "" : ", ") + files[i];
    if (files.empty()) return;
    report(concat("passed over, since their names are not those of data: ", names,
                  files.size() > kShown ? concat(" and ", files.size() - kShown, " more") : ""));
}

}  // namespace kiln
