// kiln inspect: shows the contents of a shard, a data directory, a tokenizer, a checkpoint or a run.
#include <algorithm>
#include <array>
#include <filesystem>
#include <iostream>
#include <optional>
#include <set>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/model_config.h"
#include "tokenizer/data/dataloader.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/data/shard_index.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"
#include "tokenizer/prepare/documents.h"
#include "tokenizer/sentencepiece/model.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/links.h"
#include "tools/checkpoint/model_files.h"
#include "tools/cli/options.h"
#include "tools/cli/terminal.h"
#include "tools/commands/commands.h"
#include "tools/commands/inspect_checkpoint.h"
#include "tools/formats/llmc.h"
#include "tools/formats/safetensors.h"
#include "tools/train/trainer_state.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

// Text of a file as one line without control characters.
std::string line(const std::string& text) {
    return printable(replace_invalid_utf8(text));
}

// Prints a name and its value. The values are aligned.
template <class... Parts>
void row(const std::string& name, const Parts&... value) {
    std::cout << padded(line(name), 16) << line(concat(value...)) << "\n";
}

// The first documents that begin in the shard, about max_bytes of each.
void print_documents(const Shard& shard, const Tokenizer& tokenizer, int documents, size_t max_bytes) {
    constexpr size_t kWindow = 4096;
    std::vector<int> tokens;
    std::string text;
    std::optional<DecodeStream> decode;  // of the current document
    int shown = 0;
    bool cut = false;
    const auto flush = [&] {
        if (shown > 0) row("document " + std::to_string(shown), text, cut ? " ..." : "");
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
    row("format", info.ours ? "Kiln, readable by llm.c" : "llm.c", ", ", info.token_bytes, " bytes per token");
    row("tokens", info.num_tokens);
    if (!info.ours) {
        row("checksum", "none, llm.c's shards have no checksums");
        return;
    }
    row("vocabulary", info.vocab_size);
    row("end of text", info.end_of_text);
    row("documents", info.num_documents, info.num_documents == 1 ? " begins in it" : " begin in it");
    if (info.count > 0) row("number", info.index + 1, " of ", info.count);
    row("tokenizer", "SHA-256 ", hex(info.tokenizer_sha256));
    shard.verify();
    row("checksum", hex(info.payload_xxh3), ", verified");
    const fs::path beside = find_data(path.string()).tokenizer;
    if (documents == 0 || info.end_of_text < 0 || beside.empty()) return;
    const Tokenizer tokenizer = Tokenizer::load(beside);
    if (tokenizer.vocab_size() != info.vocab_size) {
        row("text", "not shown: the tokenizer in the same directory has ", tokenizer.vocab_size(), " ids");
        return;
    }
    print_documents(shard, tokenizer, documents, 200);
}

void inspect_split(const char* name, const ShardIndex::Split& split) {
    row(name, "tokens ", split.tokens, ", documents ", split.documents, ", bytes of text ", split.text_bytes,
        ", shards ", split.files.size());
}

void inspect_files(const fs::path& directory, const ShardIndex& index, const ShardIndex::Split& split) {
    size_t i = 0;
    for (const Shard& shard : open_shards(directory, index, split)) {
        shard.verify();
        const ShardIndex::File& file = split.files[i++];
        row("  " + file.name, "tokens ", file.tokens, ", documents ", file.documents, ", checksum verified");
    }
}

void inspect_data(const fs::path& directory) {
    const ShardIndex index = read_shard_index(directory);
    row("data", directory.string());
    row("vocabulary", index.vocab_size, ", end of text ", index.end_of_text);
    inspect_split("train", index.train);
    inspect_split("val", index.val);
    if (!index.test.files.empty()) inspect_split("test", index.test);
    if (index.bad_records > 0) row("bad records", index.bad_records, ", left out");
    row("recipe", index.recipe.dump());
    inspect_files(directory, index, index.train);
    inspect_files(directory, index, index.val);
    inspect_files(directory, index, index.test);
}

void inspect_sentencepiece(const SentencePieceModel& model) {
    const char* const kinds[] = {"unigram", "BPE", "word", "character"};
    row("kind", "SentencePiece ", kinds[int(model.kind) - 1]);
    row("normalizer", model.charsmap.empty() ? "none" : "the rules in the model",
        model.remove_extra_whitespaces ? "; several spaces become one" : "");
    row("pre-tokenizer", "spaces are part of the pieces",
        model.add_dummy_prefix ? "; a space is added at the start of a text" : "");
    row("byte fallback", model.byte_fallback ? "yes" : "no: a character without a piece is unknown");
    row("merges", "none: the pieces have scores");
    for (size_t id = 0; id < model.pieces.size(); id++) {
        const SentencePiece& piece = model.pieces[id];
        if (piece.type == SentencePiece::Type::control || piece.type == SentencePiece::Type::unknown) {
            row("special", id, " ", piece.text);
        }
    }
}

// What becomes of bytes without a token.
std::string byte_coverage(const TokenizerParts& parts) {
    std::array<bool, 256> known = {};
    for (size_t id = 0; id < parts.is_text.size(); id++) {
        const std::string& token = parts.vocabulary.tokens[id];
        if (parts.is_text[id] && token.size() == 1) known[static_cast<unsigned char>(token[0])] = true;
    }
    const auto missing = std::count(known.begin(), known.end(), false);
    if (missing == 0) return "not needed: every byte has a token";
    return concat(parts.byte_fallback ? "tokens <0x00> to <0xFF>, if there are any" : "no", ": ", missing,
                  " of 256 bytes have no token; in text they ",
                  parts.unk_token.empty() ? "are left out"
                  : parts.unknown >= 0    ? concat("become ", parts.unk_token)
                                       : concat("are refused, because ", parts.unk_token, " is not in the vocabulary"));
}

void inspect_parts(const TokenizerParts& parts) {
    const bool characters = parts.model == TokenizerParts::Model::kCharacters;
    const PreTokenizerSequence& pre = parts.pre_tokenizer;
    row("kind", characters ? "one token per character" : "byte-level BPE");
    row("normalizer", normalizer_name(parts.normalizer));
    if (!characters) {
        row("pre-tokenizer", pre.last.name(), pre.before.empty() ? "" : concat(", after ", pre.before.size(), " more"),
            pre.prefix_space == PreTokenizerSequence::PrefixSpace::kNone ? "" : "; with a space in front");
    }
    row("byte fallback", characters ? parts.unknown >= 0 ? "no: a character without a token is unknown"
                                                         : "no: text with a character that has no token is refused"
                                    : byte_coverage(parts));
    row("merges", parts.vocabulary.merges.size());
    for (const AddedToken& token : parts.added) {
        if (token.special) row("special", token.id, " ", token.content);
    }
}

// Which token has which role, and which file says so.
void print_roles(const Tokenizer& tokenizer) {
    for (const RoleInfo& info : role_table()) {
        const auto& token = tokenizer.roles()[info.role];
        const std::string name = info.role == Role::eos ? "end of text" : std::string(info.name);
        if (token) {
            std::string text(tokenizer.token_bytes(token->id));
            // SentencePiece's unk decodes to another text than its name.
            for (const AddedToken& added : tokenizer.kind().added_tokens()) {
                if (added.id == token->id) text = added.content;
            }
            row(name, token->id, " ", text, ", by ", token->source);
        } else if (info.role == Role::eos) {
            row(name, "none, so `kiln prepare` cannot separate documents");
        }
    }
}

void inspect_tokenizer(const fs::path& path) {
    const Tokenizer tokenizer = Tokenizer::load(path);
    row("tokenizer", path.string());
    row("vocabulary", tokenizer.vocab_size());
    if (!tokenizer.note().empty()) row("note", tokenizer.note());
    const fs::path main = tokenizer_files(path).front();
    if (main.extension() == ".model") {
        inspect_sentencepiece(SentencePieceModel::parse(tokenizer.to_json(), main.string()));
    } else {
        inspect_parts(parse_tokenizer_json(tokenizer.to_json(), main.string()));
    }
    print_roles(tokenizer);
}

// One row, or with `list` also one line for each tensor.
void inspect_tensors(const char* name, const std::vector<const StoredTensor*>& tensors, bool list) {
    uint64_t bytes = 0;
    std::set<std::string> types;
    for (const StoredTensor* tensor : tensors) {
        bytes += tensor->end - tensor->begin;
        types.insert(tensor->dtype);
    }
    row(name, tensors.size(), " of type ", join({types.begin(), types.end()}, ", "), ", ", bytes_text(double(bytes)),
        list ? "" : "; --tensors lists them");
    if (!list) return;
    for (const StoredTensor* tensor : tensors) {
        std::cout << "  " << padded(line(tensor->name), 48) << tensor->dtype << " " << shape_text(tensor->shape)
                  << "\n";
    }
}

std::vector<const StoredTensor*> tensors_of(const SafetensorsFile& file) {
    std::vector<const StoredTensor*> tensors;
    for (const StoredTensor& tensor : file.tensors()) tensors.push_back(&tensor);
    return tensors;
}

void inspect_weights(const fs::path& path, bool list) {
    const SafetensorsFile file(path);
    uint64_t elems = 0;
    for (const StoredTensor& tensor : file.tensors()) elems += tensor.elems();
    row("weights", path.string());
    row("elements", elems, " (", count_text(double(elems)), ")");
    inspect_tensors("tensors", tensors_of(file), list);
}

void inspect_model(const fs::path& path, bool list) {
    const bool is_run = !fs::exists(status_of(path / "config.json")) && !fs::exists(status_of(path / "manifest.json"));
    const ShowRow show = [](const std::string& name, const std::string& value) { row(name, value); };
    const CheckedRun run = is_run ? check_run(path, show) : CheckedRun{};
    KILN_CHECK(!is_run || run.newest, path.string(), ": holds no whole checkpoint");
    const fs::path directory = is_run ? run.newest->directory : follow_link(path);
    row("model", directory.string());
    const bool is_checkpoint = fs::exists(status_of(directory / "manifest.json"));
    if (is_checkpoint) {
        inspect_checkpoint(directory, show);
    }
    const ModelConfig config = read_model_config(directory);
    const int64_t parameters = count_parameters(config);
    if (const auto best = linked_checkpoint(path, kBestLink)) row("best", best->string(), ", by its validation loss");
    row("architecture", describe(config));
    row("parameters", parameters, " (", count_text(double(parameters)), ")");
    if (!find_tokenizer(directory).empty()) print_roles(Tokenizer::load(directory));
    std::vector<std::string> stop;
    for (const int id : stop_tokens(directory)) stop.push_back(std::to_string(id));
    row("stops at",
        stop.empty() ? "no token: neither generation_config.json nor config.json names one" : join(stop, ", "));
    const ModelTensors weights(directory);
    std::vector<const StoredTensor*> tensors;
    for (const std::string& name : weights.names()) tensors.push_back(weights.find(name).tensor);
    inspect_tensors("tensors", tensors, list);
    if (!is_checkpoint) return;
    const std::vector<SafetensorsFile> optimizer = open_optimizer(directory);
    std::vector<const StoredTensor*> state;
    for (const SafetensorsFile& part : optimizer) std::ranges::copy(tensors_of(part), std::back_inserter(state));
    inspect_tensors("optimizer", state, list);
    KILN_CHECK(run.damaged.empty(), run.damaged);
}

// A data directory without an index: what the headers of the shards tell that -i would read.
void inspect_loose_shards(const fs::path& directory) {
    const DataPaths found = find_data(directory.string());
    row("data", directory.string(), ", without ", kShardIndexName);
    for (const auto& [name, shards] : {std::pair{"train", found.train}, std::pair{"val", found.val}}) {
        uint64_t tokens = 0;
        for (const fs::path& path : shards) tokens += Shard(path).info().num_tokens;
        row(name, "tokens ", tokens, ", shards ", shards.size());
    }
}

// A directory of runs: one row for each. Whether there are any.
bool inspect_runs(const fs::path& directory) {
    std::vector<fs::path> runs;
    for (const auto& entry : fs::directory_iterator(directory)) {
        std::error_code ignored;
        if (entry.is_directory(ignored) && !list_checkpoints(entry.path()).empty()) runs.push_back(entry.path());
    }
    std::ranges::sort(runs);
    for (const fs::path& run : runs) {
        const auto checkpoints = list_checkpoints(run);
        row("run", run.string(), ", its newest checkpoint is ", checkpoints[0].directory.filename().string());
    }
    return !runs.empty();
}

void inspect_directory(const fs::path& directory, bool list_tensors) {
    if (has_shard_index(directory) || fs::exists(status_of(directory / kUnfinishedName))) {
        find_data(directory.string());  // refuses incomplete data
        return inspect_data(directory);
    }
    const bool model = fs::exists(status_of(directory / "config.json")) ||
                       fs::exists(status_of(directory / "manifest.json")) || !list_checkpoints(directory).empty();
    if (model) return inspect_model(directory, list_tensors);
    const bool tokenizer = fs::exists(status_of(directory / "tokenizer.json")) ||
                           fs::exists(status_of(directory / "vocab.json")) ||
                           fs::exists(status_of(directory / "tokenizer.model"));
    if (tokenizer) return inspect_tokenizer(directory);
    if (inspect_runs(directory)) return;
    inspect_loose_shards(directory);
}

void inspect_llmc(const fs::path& path) {
    const LlmcModelFile file(path);
    const int64_t parameters = count_parameters(file.config());
    row("model", path.string(), ", a file of llm.c");
    row("architecture", describe(file.config()));
    row("parameters", parameters, " (", count_text(double(parameters)), "), ",
        file.bfloat16() ? "bfloat16" : "float32");
    if (const fs::path tokenizer = tokenizer_of_model(path); !tokenizer.empty())
        print_roles(Tokenizer::load(tokenizer));
}

}  // namespace

int command_inspect(const std::vector<std::string>& args) {
    std::string path;
    int documents = 3;
    bool list_tensors = false;
    OptionSet set(
        "kiln inspect",
        "Shows the contents of a shard, a data directory, a tokenizer, a checkpoint, a run or a .safetensors "
        "file, and verifies checksums.",
        {"runs/mine", "runs/mine/model --tensors", "tok/tokenizer.json", "shards/train_000000.bin --documents 10"});
    set.add_positional(path, {.name = "path", .unit = "PATH", .help = "a file or directory", .required = true});
    set.add(documents, {.name = "documents",
                        .unit = "N",
                        .help = "show the first N documents of a shard as text",
                        .min = 0,
                        .max = 1e6});
    set.add(list_tensors, {.name = "tensors", .help = "list the tensors of a model, with their types and shapes"});
    if (!set.parse(args)) return 0;
    std::error_code error;
    const bool found = fs::exists(path, error);
    KILN_CHECK(!error, path, ": cannot be read: ", error.message());
    KILN_CHECK(found, path, ": not found; give a shard, a data directory, a tokenizer, a checkpoint or a run");
    if (fs::is_directory(status_of(path))) {
        inspect_directory(path, list_tensors);
    } else if (path.ends_with(".json") || path.ends_with(".model")) {
        inspect_tokenizer(path);
    } else if (is_llmc_model(path)) {
        inspect_llmc(path);
    } else if (path.ends_with(".safetensors")) {
        inspect_weights(path, list_tensors);
    } else {
        inspect_shard(path, documents);
    }
    return 0;
}

}  // namespace kiln
