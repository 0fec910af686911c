#include "tokenizer/prepare.h"

#include <algorithm>
#include <cctype>
#include <thread>
#include <utility>

#include "cpu_reference/error.h"
#include "tokenizer/encode_pool.h"
#include "tokenizer/file.h"
#include "tokenizer/sha256.h"
#include "tokenizer/split_writer.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

constexpr size_t kBatchBytes = size_t(256) << 10;  // small documents go to the threads together
constexpr char kTokenizerJson[] = "tokenizer.json";
constexpr const char* kTokenizerFiles[] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                           "special_tokens_map.json"};  // besides
constexpr size_t kBatchesAhead = 4;                                     // a thread

bool is_tokenizer_file(const std::string& name) {
    return std::find(std::begin(kTokenizerFiles), std::end(kTokenizerFiles), name) != std::end(kTokenizerFiles);
}

// train_000000.bin or val_000000.bin.
bool is_own_shard(const std::string& name) {
    const size_t prefix = name.starts_with("train_") ? 6 : name.starts_with("val_") ? 4 : 0;
    if (prefix == 0 || name.size() != prefix + 10) return false;
    const std::string number = name.substr(prefix, 6);
    const auto is_digit = [](unsigned char c) { return std::isdigit(c) != 0; };
    return std::all_of(number.begin(), number.end(), is_digit) && name.ends_with(".bin");
}

struct Contents {
    std::vector<fs::path> shards;     // of `kiln prepare`
    std::vector<fs::path> leftovers;  // temporary files of a killed run
};

Contents contents_of(const fs::path& directory) {
    Contents found;
    std::error_code error;
    fs::directory_iterator it(directory, error), end;
    for (; !error && it != end; it.increment(error)) {
        const std::string name = it->path().filename().string(), target = name.substr(0, name.find(".tmp-"));
        if (is_own_shard(name)) {
            found.shards.push_back(it->path());
        } else if (target != name && (is_own_shard(target) || target == kShardIndexName || target == kUnfinishedName ||
                                      target == kTokenizerJson || is_tokenizer_file(target))) {
            found.leftovers.push_back(it->path());
        }
    }
    KILN_CHECK(!error, directory.string(), ": the directory cannot be read: ", error.message());
    return found;
}

void remove_file(const fs::path& path) {
    std::error_code error;
    fs::remove(path, error);
    KILN_CHECK(!error, path.string(), ": cannot be removed: ", error.message());
}

// Makes the directory ready and marks it unfinished. Shards that an unfinished run left are nobody's data: they go.
void open_output(const fs::path& output, bool force) {
    std::error_code error;
    fs::create_directories(output, error);
    KILN_CHECK(!error, output.string(), ": the directory cannot be created: ", error.message());
    const auto [shards, leftovers] = contents_of(output);
    const bool whole = has_shard_index(output);
    const bool unfinished = !whole && fs::exists(output / kUnfinishedName);
    KILN_CHECK(force || unfinished || (!whole && shards.empty()), output.string(), ": holds shards already (",
               shards.size(), " files); choose another --output, or replace them with --force");
    write_file_atomic(output / kUnfinishedName, "kiln prepare has not finished this directory.\n");
    remove_file(output / kShardIndexName);
    for (const fs::path& path : shards) remove_file(path);
    for (const fs::path& path : leftovers) remove_file(path);
    sync_directory(output);
}

// Its own bytes if there are any, so that the copy has the same SHA-256; a vocab.json with merges.txt has none.
std::string tokenizer_json(const fs::path& source, const Tokenizer& tokenizer) {
    const fs::path file = fs::is_directory(source) ? source / kTokenizerJson : source;
    return fs::exists(file) ? read_file(file) : tokenizer.to_json();
}

void copy_tokenizer(const fs::path& source, const std::string& json, const fs::path& output) {
    write_file_atomic(output / kTokenizerJson, json);
    if (!fs::is_directory(source)) return;
    for (const char* name : kTokenizerFiles) {
        if (fs::exists(source / name)) write_file_atomic(output / name, read_file(source / name));
    }
}

const char* mode_name(DocumentMode mode) {
    return mode == DocumentMode::file ? "file" : mode == DocumentMode::line ? "line" : "paragraph";
}

// What changes the shards; the number of threads does not.
nlohmann::json recipe(const PrepareOptions& options) {
    return {{"inputs", options.inputs},
            {"tokenizer", options.tokenizer.string()},
            {"documents", options.documents.separator.empty() ? mode_name(options.documents.mode) : "separated"},
            {"document_separator", options.documents.separator},
            {"text_key", options.documents.text_key},
            {"val_fraction", options.val_fraction},
            {"shard_tokens", options.shard_tokens}};
}

// Reads, tokenizes and writes at once: this thread reads ahead and writes what is done, in order.
void encode_documents(DocumentReader& reader, const Tokenizer& tokenizer, int threads, SplitWriter& writer,
                      const std::function<void(const PrepareProgress&)>& progress) {
    EncodePool pool(tokenizer, threads);
    bool more = true;
    const auto read_batch = [&] {
        std::vector<Piece> pieces;
        size_t bytes = 0;
        Piece piece;
        while (bytes < kBatchBytes && (more = reader.next(piece))) {
            bytes += piece.text.size();
            pieces.push_back(std::move(piece));
        }
        if (!pieces.empty()) pool.push(std::move(pieces));
    };
    while (more || pool.in_flight() > 0) {
        while (more && pool.in_flight() < kBatchesAhead * size_t(threads)) read_batch();
        if (pool.in_flight() == 0) continue;
        const EncodedBatch batch = pool.pop();
        for (size_t i = 0; i < batch.pieces.size(); i++) {
            const Piece& piece = batch.pieces[i];
            if (piece.starts_document) writer.begin_document(xxh3_64(piece.text.data(), piece.text.size()));
            writer.append(batch.ids[i], piece.text.size());
            if (piece.ends_document) writer.end_document();
        }
        if (progress) progress({reader.bytes_read(), reader.bytes_total(), writer.documents(), writer.tokens()});
    }
}

}  // namespace

ShardIndex prepare(const PrepareOptions& options, const std::function<void(const PrepareProgress&)>& progress) {
    // Everything that can be wrong with the request comes before the output is touched.
    const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
    DocumentReader reader(find_documents(options.inputs), options.documents);
    ShardIndex index;
    index.vocab_size = tokenizer.vocab_size();
    index.end_of_text = tokenizer.end_of_text();
    index.recipe = recipe(options);
    const std::string json = tokenizer_json(options.tokenizer, tokenizer);
    ShardInfo like;
    like.vocab_size = index.vocab_size;
    like.end_of_text = index.end_of_text;
    like.tokenizer_sha256 = sha256(json);
    index.tokenizer_sha256 =
        hex({reinterpret_cast<const char*>(like.tokenizer_sha256.data()), like.tokenizer_sha256.size()});
    SplitWriter writer(options.output, options.val_fraction, options.shard_tokens, like);
    const int threads = options.threads > 0 ? options.threads : int(std::max(1u, std::thread::hardware_concurrency()));

    open_output(options.output, options.force);
    copy_tokenizer(options.tokenizer, json, options.output);
    encode_documents(reader, tokenizer, threads, writer, progress);
    KILN_CHECK(writer.documents() > 0, "the input holds no text (", reader.bytes_read(),
               " bytes read, all of them white space); nothing was prepared");
    writer.finish(index);
    write_shard_index(options.output, index);
    remove_file(options.output / kUnfinishedName);
    return index;
}

}  // namespace kiln
