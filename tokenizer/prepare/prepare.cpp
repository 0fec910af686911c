#include "tokenizer/prepare/prepare.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"
#include "tokenizer/prepare/block_reader.h"
#include "tokenizer/prepare/encode_blocks.h"
#include "tokenizer/prepare/output.h"
#include "tokenizer/prepare/split_writer.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int kSavedVersion = 2;
constexpr uint64_t kShownBadRecords = 5;
// So many bad records and not one good one: nobody waits for the end to learn it.
constexpr uint64_t kHopeless = 1000;

// What changes the shards; the number of threads does not.
json recipe_of(const PrepareOptions& options) {
    const DocumentOptions& documents = options.documents;
    const char* const modes[] = {"file", "line", "paragraph"};
    return {{"inputs", options.inputs},
            {"tokenizer", options.tokenizer.string()},
            {"format", document_format_names()[size_t(documents.format)]},
            {"encoding", documents.encoding},
            {"documents", documents.separator.empty() ? modes[int(documents.mode)] : "separated"},
            {"document_separator", documents.separator},
            {"text_key", documents.text_keys},
            {"max_documents", options.max_documents},
            {"val_fraction", options.val_fraction},
            {"shard_tokens", options.shard_tokens}};
}

// The options among them: the inputs and the tokenizer may be spelt in several ways.
json options_of(json recipe) {
    recipe.erase("inputs");
    recipe.erase("tokenizer");
    return recipe;
}

// Equal for two runs that make the same bytes.
std::string identity(const json& recipe, const PrepareOptions& options, const std::vector<InputFileInfo>& files,
                     const std::string& tokenizer_sha256) {
    json all = {options_of(recipe), tokenizer_sha256, kSavedVersion, options.documents.piece_bytes,
                options.documents.max_record_bytes};
    for (const InputFileInfo& file : files) {
        std::error_code none;  // a pipe as /dev/stdin has no other name
        const fs::path path = fs::weakly_canonical(file.path, none);
        all.push_back({none ? file.path.string() : path.string(), file.bytes, file.modified_ns});
    }
    const auto digest = sha256(all.dump(-1, ' ', false, json::error_handler_t::replace));
    return hex({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

json to_json(const InputPosition& at) {
    return {at.file, at.offset, at.line, at.continues, at.in_line, at.json_state, at.records};
}

InputPosition position_from(const json& saved) {
    return {saved.at(0), saved.at(1), saved.at(2), saved.at(3), saved.at(4), saved.at(5), saved.at(6)};
}

// What an unfinished run was started with, and this one is not.
std::string difference(const json& saved, const json& recipe) {
    std::string names;
    const json ours = options_of(recipe);
    for (const auto& [name, value] : ours.items()) {
        if (!saved.contains(name) || saved.at(name) != value) names += (names.empty() ? "--" : ", --") + name;
    }
    std::replace(names.begin(), names.end(), '_', '-');
    return names.empty() ? "input files, tokenizer or version of Kiln" : names;
}

// The documents' way from the threads into the shards, and what of it has to be known after a kill.
class Run {
public:
    Run(const PrepareOptions& options, std::string identity, json recipe, PrepareOutput& output, const ShardInfo& like)
        : options_(options),
          identity_(std::move(identity)),
          recipe_(options_of(std::move(recipe))),
          output_(output),
          vocab_size_(like.vocab_size),
          writer_(options.output, options.val_fraction, options.shard_tokens, like) {}

    // False: there is nothing to go on with.
    bool resume() {
        const std::optional<json> saved = output_.saved();
        if (!saved || saved->at("identity") != identity_) return false;
        from_ = position_from(saved->at("position"));
        bad_ = saved->at("bad_records");
        saved->at("shown").get_to(shown_);
        in_document_ = saved->at("in_document");
        done_ = saved->at("done");
        writer_.restore(saved->at("splits"));
        output_.remove_all_but(writer_);
        options_.report(concat(options_.output.string(), ": going on with the run that was interrupted"));
        for (const std::string& text : shown_) options_.report(text + " (left out)");
        return true;
    }

    void encode(const std::vector<InputFileInfo>& files, const Tokenizer& tokenizer, int threads) {
        if (done_) return;
        BlockReader reader(files, options_.documents, from_);
        PrepareProgress progress{.bytes_total = reader.bytes_total(), .bytes_before = reader.bytes_read()};
        const bool can_resume = std::none_of(files.begin(), files.end(), [](const auto& file) { return file.pipe; });
        encode_blocks(reader, tokenizer, options_.documents, threads, [&](const EncodedBlock& block) {
            write(block);
            const bool stop = options_.stop();
            if (can_resume && (stop || due())) save(block.end);
            if (stop) {
                throw PrepareStopped(concat(
                    options_.output.string(), ": not finished; ",
                    can_resume ? "the same command goes on from here" : "what came from a pipe is lost, start again"));
            }
            progress.bytes_read = block.bytes_read;
            progress.documents = writer_.documents();
            progress.tokens = writer_.tokens();
            progress.bad_records = bad_;
            options_.progress(progress);
            return !full_;
        });
        done_ = true;
        if (can_resume) save({});
    }

    // Throw if what came in is not what was meant.
    void check_text(uint64_t bytes) const {
        check_records();
        KILN_CHECK(writer_.documents() > 0, "the input holds no text (", bytes,
                   " bytes read, all of them white space or bad records); nothing was prepared");
    }
    void check_records() const {
        const uint64_t records = writer_.documents() + bad_;
        KILN_CHECK(double(bad_) <= options_.max_bad_fraction * double(records), bad_, " of ",
                   counted(records, "record"), records == 1 ? " is" : " are", " bad, the first: ",
                   shown_.empty() ? "" : shown_[0].substr(0, shown_[0].find("; ")),  // the advice has been reported
                   "; nothing is finished. If so many are meant to be left out, allow it with --max-bad-fraction");
    }

    void finish(ShardIndex& index) {
        writer_.finish(index);
        index.bad_records = bad_;
    }

private:
    void write(const EncodedBlock& block) {
        std::span<const unsigned char> tokens = block.tokens;
        size_t taken = 0;  // pieces; the next is of a document too many, if there is one
        for (; taken < block.pieces.size(); taken++) {
            const EncodedBlock::Piece& piece = block.pieces[taken];
            if (piece.valid) {
                if (!in_document_) {
                    full_ = options_.max_documents > 0 && writer_.documents() == options_.max_documents;
                    if (full_) break;
                    writer_.begin_document(piece.hash);
                }
                in_document_ = true;
                const size_t bytes = piece.tokens * size_t(shard_token_bytes(vocab_size_));
                writer_.append(tokens.first(bytes), piece.text_bytes);
                tokens = tokens.subspan(bytes);
            }
            if (piece.ends_document && std::exchange(in_document_, false)) writer_.end_document();
        }
        for (size_t i = 0; i < block.bad.size() && block.bad_before[i] <= taken; i++) {
            const BadRecord& record = block.bad[i];
            const std::string text = concat(record.place, ": ", record.what);
            KILN_CHECK(!options_.strict, text);
            if (bad_++ >= kShownBadRecords) continue;
            // Long advice is given once.
            const bool same = record.what == std::exchange(last_reported_, record.what);
            shown_.push_back(same ? concat(record.place, ": the same again") : text);
            options_.report(shown_.back() + " (left out)");
        }
        if (bad_ >= kHopeless && writer_.documents() == 0) check_records();
    }

    bool due() const { return Clock::now() - last_save_ >= std::chrono::duration<double>(options_.save_seconds); }

    void save(const InputPosition& at) {
        output_.save({{"identity", identity_},
                      {"options", recipe_},
                      {"position", to_json(at)},
                      {"bad_records", bad_},
                      {"shown", shown_},
                      {"in_document", in_document_},
                      {"done", done_},
                      {"splits", writer_.save()}});
        last_save_ = Clock::now();
    }

    const PrepareOptions& options_;
    const std::string identity_;
    const json recipe_;
    PrepareOutput& output_;
    const int vocab_size_;
    SplitWriter writer_;
    InputPosition from_;
    uint64_t bad_ = 0;
    std::vector<std::string> shown_;  // the first bad records
    std::string last_reported_;       // what was wrong with the last of them
    bool in_document_ = false, full_ = false, done_ = false;
    Clock::time_point last_save_ = Clock::now();
};

}  // namespace

ShardIndex prepare(const PrepareOptions& options) {
    // Everything that can be wrong with the request comes before the output is touched.
    const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
    const std::vector<InputFileInfo> files = find_documents(options.inputs);
    ShardIndex index;
    index.vocab_size = tokenizer.vocab_size();
    index.end_of_text = tokenizer.end_of_text();
    index.recipe = recipe_of(options);
    const std::vector<TokenizerKind::File> tokenizer_files = tokenizer_copy(options.tokenizer, tokenizer);
    index.tokenizer_file = tokenizer_files.front().name;
    ShardInfo like;
    like.vocab_size = index.vocab_size;
    like.end_of_text = index.end_of_text;
    like.tokenizer_sha256 = sha256(tokenizer_files.front().content);
    index.tokenizer_sha256 =
        hex({reinterpret_cast<const char*>(like.tokenizer_sha256.data()), like.tokenizer_sha256.size()});
    const std::string id = identity(index.recipe, options, files, index.tokenizer_sha256);
    SplitWriter(options.output, options.val_fraction, options.shard_tokens, like);  // throws on wrong numbers
    const int threads = options.threads > 0 ? options.threads : int(std::max(1u, std::thread::hardware_concurrency()));

    PrepareOutput output(options.output, options.force);
    const std::optional<json> saved = output.saved();
    const bool other = saved && saved->at("identity") != id;
    // One that failed at its end, or before its first document, has nothing to lose.
    KILN_CHECK(options.force || !other || saved->at("done") || saved->at("splits").at("documents") == 0,
               options.output.string(), ": holds an unfinished run with other ",
               difference(saved->value("options", json::object()), index.recipe),
               "; run it again as it was to go on, or start over with --force");
    auto run = std::make_unique<Run>(options, id, index.recipe, output, like);
    bool resumed = false;
    KILN_CHECK(!options.strict || !saved || other || saved->at("bad_records") == 0, saved->at("shown").at(0),
               "; without --strict the run goes on");
    try {
        resumed = run->resume();
    } catch (const std::exception& error) {
        options.report(concat("the unfinished run cannot be gone on with: ", error.what()));
        run = std::make_unique<Run>(options, id, index.recipe, output, like);
    }
    if (!resumed) {
        if (output.unfinished()) {
            options.report(concat(options.output.string(), ": starting over what an unfinished run left"));
        }
        output.start();
        replace_tokenizer_files(options.output, tokenizer_files);
    }
    run->encode(files, tokenizer, threads);
    uint64_t bytes = 0;
    for (const InputFileInfo& file : files) bytes += file.bytes;
    run->check_text(bytes);
    run->finish(index);
    output.finish(index);
    return index;
}

}  // namespace kiln
