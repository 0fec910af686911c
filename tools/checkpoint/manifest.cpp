#include "tools/checkpoint/manifest.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"
#include "tools/checkpoint/names.h"
#include "tools/formats/json_file.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string hash_of(std::string_view text) {
    return hex(xxh3_64(text.data(), text.size()));
}

// A manifest has its files and a checksum of that list, so that a changed bit in the manifest is found too.
std::string manifest_text(int64_t step, const json& files) {
    json manifest = {{"format", "kiln-checkpoint"}, {"version", 1}, {"step", step}, {"files", files}};
    manifest["xxh3_64"] = hash_of(manifest.dump());
    return manifest.dump(1) + "\n";
}

json entry_of(const FileDigest& digest) {
    return {{"bytes", digest.bytes}, {"xxh3_64", hex(digest.xxh3)}};
}

// In parts: the optimizer state as a whole would raise the peak of this process's memory by half.
json describe_file(const fs::path& path) {
    KILN_CHECK(fs::is_regular_file(path), path.string(), ": is missing or not a regular file");
    InputFile file(path);
    std::vector<char> buffer(size_t(1) << 20);
    Xxh3 hash;
    uint64_t bytes = 0;
    for (size_t n; (n = file.read(buffer.data(), buffer.size())) > 0; bytes += n) hash.update(buffer.data(), n);
    return entry_of({bytes, hash.digest()});
}

struct Manifest {
    int64_t step;
    json files;  // name -> what describe_file gives
};

// Checks the manifest itself.
Manifest read_manifest(const fs::path& checkpoint) {
    const fs::path path = checkpoint / "manifest.json";
    const char* what = "; the checkpoint is incomplete or damaged, use another";
    const std::string text = read_file(path);
    const json manifest = parse_json(text, path.string());
    KILN_CHECK(manifest.is_object() && manifest.value("format", json()) == "kiln-checkpoint", path.string(),
               ": is not a manifest of a checkpoint", what);
    KILN_CHECK(manifest.value("version", json()) == 1, path.string(), ": has version ",
               manifest.value("version", json()).dump(), "; this program reads version 1");
    const json files = manifest.value("files", json()), step = manifest.value("step", json());
    KILN_CHECK(files.is_object() && step.is_number_integer() && manifest_text(step.get<int64_t>(), files) == text,
               path.string(), ": does not match its own checksum", what);
    const int64_t named = step_of(checkpoint.filename().string()).value_or(step);
    KILN_CHECK(named == step, path.string(), ": is that of step ", step.dump(),
               "; give the directory its own name again");
    for (const auto& [name, entry] : files.items()) {
        KILN_CHECK(!name.empty() && name.find('/') == name.npos, path.string(), ": '", name,
                   "' is not the name of a file in the checkpoint");
        KILN_CHECK(entry.is_object() && entry.contains("bytes") && entry["bytes"].is_number_unsigned(), path.string(),
                   ": '", name, "' has no size");
    }
    return {step.get<int64_t>(), files};
}

// How a file differs from its entry in the manifest; empty: it does not.
std::string fault_of(const fs::path& path, const json& entry) {
    try {
        const json found = describe_file(path);
        if (entry == found) return "";
        return concat(path.string(), ": is ", found.dump(), " but manifest.json says ", entry.dump());
    } catch (const Error& error) {
        return error.what();
    }
}

}  // namespace

FileDigest write_synced(const fs::path& path, std::string_view content) {
    OutputFile file(path);
    file.write(content);
    file.sync();
    file.close();
    return {content.size(), xxh3_64(content.data(), content.size())};
}

void write_manifest(const fs::path& directory, int64_t step, const std::map<std::string, FileDigest>& files) {
    json entries = json::object();  // sorted by name: equal checkpoints have equal manifests
    for (const auto& [name, digest] : files) {
        const fs::path path = directory / name;
        KILN_CHECK(fs::file_size(path) == digest.bytes, path.string(),
                   ": was changed while the checkpoint was written");
        entries[name] = entry_of(digest);
    }
    write_synced(directory / "manifest.json", manifest_text(step, entries));
}

CheckedFiles check_files(const fs::path& checkpoint) {
    const Manifest manifest = read_manifest(checkpoint);
    CheckedFiles checked{manifest.step, {}};
    for (const auto& [name, entry] : manifest.files.items()) {
        checked.files.push_back({name, entry["bytes"], fault_of(checkpoint / name, entry)});
    }
    return checked;
}

int64_t verify_manifest(const fs::path& checkpoint, bool all) {
    const Manifest manifest = read_manifest(checkpoint);
    for (const auto& [name, entry] : manifest.files.items()) {
        if (!all && name.starts_with("optimizer")) continue;
        const std::string fault = fault_of(checkpoint / name, entry);
        KILN_CHECK(fault.empty(), fault, "; the checkpoint is damaged, use another");
    }
    return manifest.step;
}

}  // namespace kiln
