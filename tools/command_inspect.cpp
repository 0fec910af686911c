// kiln inspect: what is in a shard, a data directory, a tokenizer, a checkpoint or a run.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>

#include "cpu_reference/error.h"
#include "cpu_reference/model_config.h"
#include "tokenizer/dataloader.h"
#include "tokenizer/sha256.h"
#include "tokenizer/shard.h"
#include "tokenizer/shard_index.h"
#include "tokenizer/tokenizer.h"
#include "tools/checkpoint.h"
#include "tools/commands.h"
#include "tools/options.h"
#include "tools/safetensors.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

// Name and value, the values below each other.
template <class... Parts>
void row(const std::string& name, const Parts&... value) {
    std::cout << name << std::string(name.size() < 16 ? 16 - name.size() : 1, ' ') << concat(value...) << "\n";
}

// As one line a terminal can show: control characters are spelled out, a character that is cut shows as \x..
std::string printable(const std::string& text) {
    std::string line;
    for (const char c : text) {
        const unsigned char byte = static_cast<unsigned char>(c);
        if (c == '\n') {
            line += "\\n";
        } else if (byte < 0x20 || byte == 0x7f) {
            line += "\\x" + hex({&c, 1});
        } else {
            line += c;
        }
    }
    return line;
}

// The documents that begin first in the shard, each to about max_bytes.
void print_documents(const Shard& shard, const Tokenizer& tokenizer, int documents, size_t max_bytes) {
    constexpr size_t kWindow = 4096;
    std::vector<int> tokens;
    std::string text;
    std::optional<DecodeStream> decode;  // of the document being shown
    int shown = 0;
    bool cut = false;
    const auto flush = [&] {
        if (shown > 0) row("document " + std::to_string(shown), printable(text), cut ? " ..." : "");
        text.clear();
        decode.emplace(tokenizer);
        cut = false;
    };
    for (uint64_t at = 0; at < shard.info().num_tokens; at++) {
        if (at % kWindow == 0) {
            tokens.resize(std::min<uint64_t>(kWindow, shard.info().num_tokens - at));
            shard.copy(at, tokens.size(), tokens.data());
        }
        const int token = tokens[at % kWindow];
        if (token == shard.info().end_of_text) {
            flush();
            if (shown++ == documents) return;
        } else if (text.size() >= max_bytes) {
            cut = true;
        } else if (shown > 0) {
            text += decode->push(token);
        }
    }
    flush();
}

void inspect_shard(const fs::path& path, int documents) {
    const Shard shard(path);
    const ShardInfo& info = shard.info();
    row("shard", path.string());
    row("layout", info.ours ? "Kiln's, as llm.c reads it" : "llm.c's", ", ", info.token_bytes, " bytes a token");
    row("tokens", info.num_tokens);
    if (!info.ours) {
        row("checksum", "none in llm.c's shards");
        return;
    }
    row("vocabulary", info.vocab_size);
    row("end of text", info.end_of_text);
    row("documents", info.num_documents, " begin in it");
    if (info.count > 0) row("place", info.index + 1, " of ", info.count);
    row("tokenizer", "SHA-256 ",
        hex({reinterpret_cast<const char*>(info.tokenizer_sha256.data()), info.tokenizer_sha256.size()}));
    shard.verify();
    row("checksum", hex_u64(info.payload_xxh3), ", verified");
    const fs::path beside = find_data(path.string()).tokenizer;
    if (documents == 0 || info.end_of_text < 0 || beside.empty()) return;
    const Tokenizer tokenizer = Tokenizer::load(beside);
    if (tokenizer.vocab_size() != info.vocab_size) {
        row("text", "not shown: the tokenizer beside it has ", tokenizer.vocab_size(), " ids");
        return;
    }
    print_documents(shard, tokenizer, documents, 200);
}

void inspect_split(const char* name, const fs::path& directory, const ShardIndex& index,
                   const ShardIndex::Split& split) {
    row(name, split.tokens, " tokens, ", split.documents, " documents, ", split.text_bytes, " bytes of text, ",
        split.files.size(), split.files.size() == 1 ? " shard" : " shards");
    size_t i = 0;
    for (const Shard& shard : open_shards(directory, index, split)) {
        shard.verify();
        const ShardIndex::File& file = split.files[i++];
        row("  " + file.name, file.tokens, " tokens, ", file.documents, " documents, checksum verified");
    }
}

void inspect_data(const fs::path& directory) {
    const ShardIndex index = read_shard_index(directory);
    row("data", directory.string());
    row("vocabulary", index.vocab_size, ", end of text ", index.end_of_text);
    inspect_split("train", directory, index, index.train);
    inspect_split("val", directory, index, index.val);
    if (index.bad_records > 0) row("left out", index.bad_records, " bad records");
    row("recipe", index.recipe.dump());
}

void inspect_tokenizer(const fs::path& path) {
    const Tokenizer tokenizer = Tokenizer::load(path);
    row("tokenizer", path.string());
    row("vocabulary", tokenizer.vocab_size());
    for (int id = 0; id < tokenizer.vocab_size(); id++) {
        if (tokenizer.is_special(id)) row("special", id, " ", printable(std::string(tokenizer.token_bytes(id))));
    }
}

void print_tensor(const StoredTensor& tensor) {
    std::cout << "  " << tensor.name << std::string(tensor.name.size() < 48 ? 48 - tensor.name.size() : 1, ' ')
              << tensor.dtype << " " << shape_text(tensor.shape) << "\n";
}

void inspect_model(const fs::path& path) {
    const fs::path directory = resolve_model_directory(path);
    const ModelConfig config = read_model_config(directory);
    row("model", directory.string());
    row("architecture", describe(config));
    row("parameters", count_parameters(config));
    if (fs::exists(directory / "manifest.json")) {
        verify_checkpoint(directory);
        row("manifest", "every file has its size and checksum");
    }
    const ModelTensors tensors(directory);
    const std::vector<std::string> names = tensors.names();
    row("tensors", names.size());
    for (const std::string& name : names) print_tensor(*tensors.find(name).tensor);
}

// A data directory without an index: the headers of what -i would read.
void inspect_loose_shards(const fs::path& directory) {
    const DataPaths found = find_data(directory.string());
    row("data", directory.string(), ", without ", kShardIndexName);
    for (const auto& [name, shards] : {std::pair{"train", found.train}, std::pair{"val", found.val}}) {
        uint64_t tokens = 0;
        for (const fs::path& path : shards) tokens += Shard(path).info().num_tokens;
        row(name, tokens, " tokens in ", shards.size(), shards.size() == 1 ? " shard" : " shards");
    }
}

void inspect_directory(const fs::path& directory) {
    if (has_shard_index(directory) || fs::exists(directory / kUnfinishedName)) {
        find_data(directory.string());  // refuses what is not whole
        return inspect_data(directory);
    }
    const bool model = fs::exists(directory / "config.json") || !list_checkpoints(directory).empty();
    if (model) return inspect_model(directory);
    const bool tokenizer = fs::exists(directory / "tokenizer.json") || fs::exists(directory / "vocab.json") ||
                           fs::exists(directory / "tokenizer.model");
    if (tokenizer) return inspect_tokenizer(directory);
    inspect_loose_shards(directory);
}

}  // namespace

int command_inspect(const std::vector<std::string>& args) {
    std::string path;
    int documents = 3;
    OptionSet set("kiln inspect",
                  "What is in a shard, a data directory, a tokenizer, a checkpoint, a run or a .safetensors file; "
                  "checksums are verified.");
    set.add_positional(path, {.name = "path", .unit = "PATH", .help = "file or directory", .required = true});
    set.add(documents, {.name = "documents", .unit = "N", .help = "of a shard to show as text", .min = 0, .max = 1e6});
    if (!set.parse(args)) return 0;
    std::error_code error;
    const bool found = fs::exists(path, error);
    KILN_CHECK(!error, path, ": cannot be looked at: ", error.message());
    KILN_CHECK(found, path, ": not found; name a shard, a data directory, a tokenizer, a checkpoint or a run");
    if (fs::is_directory(path)) {
        inspect_directory(path);
    } else if (path.ends_with(".json") || path.ends_with(".model")) {
        inspect_tokenizer(path);
    } else if (path.ends_with(".safetensors")) {
        const SafetensorsFile file{fs::path(path)};
        for (const StoredTensor& tensor : file.tensors()) print_tensor(tensor);
    } else {
        inspect_shard(path, documents);
    }
    return 0;
}

}  // namespace kiln
