#include "tokenizer/prepare/prepare.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"
#include "tokenizer/io/threads.h"
#include "tokenizer/prepare/block_reader.h"
#include "tokenizer/prepare/encode_blocks.h"
#include "tokenizer/prepare/output.h"
#include "tokenizer/prepare/split_writer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int kSavedVersion = 5;
// After so many bad records and no good one, the run fails without reading the rest.
constexpr uint64_t kHopeless = 1000;

// JSON is UTF-8, but the name of a file is any bytes: text that is not UTF-8 is percent-encoded.
json text_to_json(const std::string& text) {
    if (!find_invalid_utf8(text)) return text;
    std::string encoded;
    for (const unsigned char c : text) {
        encoded += c == '%' || c >= 0x80 ? concat("%", hex({&c, 1})) : std::string(1, char(c));
    }
    return {{"percent_encoded", encoded}};
}

json texts_to_json(const std::vector<std::string>& texts) {
    json list = json::array();
    for (const std::string& text : texts) list.push_back(text_to_json(text));
    return list;
}

// The options that change the shards. The number of threads does not.
json recipe_of(const PrepareOptions& options) {
    const DocumentOptions& documents = options.documents;
    const char* const modes[] = {"file", "line", "paragraph"};
    return {{"inputs", texts_to_json(options.inputs)},
            {"val_inputs", texts_to_json(options.val_inputs)},
            {"ignore_split_names", !options.split_names},
            {"tokenizer", text_to_json(options.tokenizer)},
            {"format", document_format_names()[size_t(documents.format)]},
            {"encoding", documents.encoding},
            {"documents", documents.separator.empty() ? modes[int(documents.mode)] : "separated"},
            {"document_separator", text_to_json(documents.separator)},
            {"text_key", texts_to_json(documents.text_keys)},
            {"allow_special", options.allow_special ? texts_to_json(options.allowed_special) : json(false)},
            {"max_documents", options.max_documents},
            {"val_fraction", options.val_fraction},
            {"shard_tokens", options.shard_tokens}};
}

// Without the inputs and the tokenizer, which can be written in several ways.
json options_of(json recipe) {
    recipe.erase("inputs");
    recipe.erase("val_inputs");
    recipe.erase("tokenizer");
    return recipe;
}

// Equal for two runs that make the same shards.
std::string fingerprint(const json& recipe, const PrepareOptions& options, const std::vector<InputFileInfo>& files,
                        const std::string& tokenizer_sha256) {
    json all = {options_of(recipe), tokenizer_sha256, kSavedVersion, options.documents.chunk_bytes,
                options.documents.max_record_bytes};
    for (const InputFileInfo& file : files) {
        std::error_code none;  // a pipe, like /dev/stdin, has no canonical name
        const fs::path path = fs::weakly_canonical(file.path, none);
        all.push_back({text_to_json(none ? file.path : path), file.bytes, file.modified_ns, int(file.split)});
    }
    return hex(sha256(all.dump()));
}

void report_splits(const InputFiles& found, const std::function<void(const std::string&)>& report) {
    if (!found.by_names) return;
    std::string text = "splits by the names of files:";
    for (const auto& [split, name] :
         {std::pair{SplitName::train, "train"}, {SplitName::val, "val"}, {SplitName::test, "test"}}) {
        size_t count = 0;
        std::string first;
        for (const InputFileInfo& file : found.files) {
            if (file.split != split || file.members_by_names) continue;
            if (count++ == 0) first = file.path.string();
        }
        if (count > 0) text += concat(" ", name, " ", first, count > 1 ? concat(" and ", count - 1, " more") : "", ";");
    }
    for (const InputFileInfo& file : found.files) {
        if (file.members_by_names) text += concat(" those in ", file.path.string(), ";");
    }
    report(text + " --ignore-split-names uses all of them for training and validation");
}

json to_json(const InputPosition& at) {
    return {at.file, at.offset, at.line, at.continues, at.in_line, at.json_state, at.records, at.member};
}

EncodeCounts counts_from(const json& saved) {
    return {saved.at(0), saved.at(1), saved.at(2), saved.at(3)};
}

InputPosition position_from(const json& saved) {
    return {saved.at(0), saved.at(1), saved.at(2), saved.at(3), saved.at(4), saved.at(5), saved.at(6), saved.at(7)};
}

// The options of this run that differ from those of an unfinished run.
std::string difference(const json& saved, const json& recipe) {
    std::string names;
    const json ours = options_of(recipe);
    for (const auto& [name, value] : ours.items()) {
        if (!saved.contains(name) || saved.at(name) != value) names += (names.empty() ? "--" : ", --") + name;
    }
    std::replace(names.begin(), names.end(), '_', '-');
    return names.empty() ? "input files, tokenizer or version of Kiln" : names;
}

// Writes encoded documents into shards, and saves the state that is needed to resume.
class Run {
public:
    Run(const PrepareOptions& options, double val_fraction, std::string fingerprint, json recipe, PrepareOutput& output,
        const ShardInfo& like)
        : options_(options),
          fingerprint_(std::move(fingerprint)),
          recipe_(options_of(std::move(recipe))),
          output_(output),
          vocab_size_(like.vocab_size),
          writer_(options.output, val_fraction, options.shard_tokens, like) {}

    // Returns false if there is no saved state of this run.
    bool resume() {
        const std::optional<json>& saved = output_.saved();
        if (!saved || saved->at("identity") != fingerprint_) return false;
        from_ = position_from(saved->at("position"));
        bad_ = saved->at("bad_records");
        saved->at("shown").get_to(shown_);
        counts_ = counts_from(saved->at("counts"));
        in_document_ = saved->at("in_document");
        done_ = saved->at("done");
        writer_.restore(saved->at("splits"));
        output_.remove_all_but(writer_);
        options_.report(concat(options_.output.string(), ": resuming the interrupted run"));
        for (const std::string& text : shown_) options_.report(text + " (left out)");
        return true;
    }

    void encode(const std::vector<InputFileInfo>& files, const Tokenizer& tokenizer, int threads) {
        if (done_) return;
        const bool can_resume = std::none_of(files.begin(), files.end(), [](const auto& file) { return file.pipe; });
        const std::vector<bool> allowed = options_.allowed_special.empty()
                                              ? std::vector<bool>(size_t(tokenizer.vocab_size()), true)
                                              : tokenizer.special_ids(options_.allowed_special);
        const EncodeOptions encode{.allow_special = options_.allow_special, .allowed = &allowed};
        DocumentOptions documents = options_.documents;
        documents.find_cut = [&](std::string_view text, size_t from) { return tokenizer.find_cut(text, from, encode); };
        BlockReader reader(files, documents, from_);
        PrepareProgress progress{.bytes_total = reader.bytes_total()};
        encode_blocks(reader, tokenizer, documents, encode, threads, [&](const EncodedBlock& block) {
            write(block);
            const bool stop = options_.stop();
            if (can_resume && (stop || due())) save(block.end);
            if (stop) {
                throw PrepareStopped(
                    concat(options_.output.string(), ": not finished; ",
                           can_resume ? "the same command resumes it" : "the input from a pipe is lost, start again"));
            }
            progress.bytes_read = block.bytes_read;
            progress.documents = writer_.documents();
            progress.tokens = writer_.tokens();
            progress.bad_records = bad_;
            options_.progress(progress);
            return !full_;
        });
        report_passed_over(reader.passed_over(), options_.report);
        done_ = true;
        if (can_resume) save({});
    }

    // Both throw if the input is probably not the intended one.
    void check_text(uint64_t bytes) const {
        check_records();
        KILN_CHECK(writer_.documents() > 0, "the input holds no text (", bytes,
                   " bytes read, all of them white space or bad records); nothing was prepared");
    }
    void check_records() const {
        const uint64_t records = writer_.documents() + bad_;
        KILN_CHECK(
            double(bad_) <= options_.max_bad_fraction * double(records), "bad records: ", bad_, " of ", records,
            ", the first: ",
            shown_.empty() ? "" : shown_[0].substr(0, shown_[0].find("; ")),  // without the advice, which was reported
            "; the shards are not finished. To allow this, set a larger --max-bad-fraction");
    }

    bool holds_nothing() const { return writer_.documents() == 0; }

    const EncodeCounts& counts() const { return counts_; }

    void finish(ShardIndex& index) {
        writer_.finish(index);
        KILN_CHECK(index.train.documents > 0,
                   "the files for training hold no text, only those for validation or test; "
                   "see --ignore-split-names and --val-input");
        index.bad_records = bad_;
    }

private:
    void write(const EncodedBlock& block) {
        std::span<const unsigned char> tokens = block.tokens;
        size_t taken = 0;  // number of chunks that are written
        for (; taken < block.chunks.size(); taken++) {
            const EncodedBlock::Chunk& chunk = block.chunks[taken];
            if (chunk.valid) {
                if (!in_document_) {
                    full_ = options_.max_documents > 0 && writer_.documents() == options_.max_documents;
                    if (full_) break;
                    writer_.begin_document(chunk.hash, block.split);
                }
                in_document_ = true;
                const size_t bytes = chunk.tokens * size_t(shard_token_bytes(vocab_size_));
                writer_.append(tokens.first(bytes), chunk.text_bytes);
                tokens = tokens.subspan(bytes);
            }
            if (chunk.ends_document && std::exchange(in_document_, false)) writer_.end_document();
        }
        const uint64_t bad = taken < block.chunks.size() ? block.chunks[taken].bad_before : block.bad.count;
        for (const BadRecord& record :
             std::span(block.bad.first).first(std::min<uint64_t>(bad, block.bad.first.size()))) {
            const std::string text = concat(record.place, ": ", record.what);
            KILN_CHECK(!options_.strict, text);
            if (shown_.size() == BadRecords::kShown) break;
            // Long advice is shown once.
            const bool same = record.what == std::exchange(last_reported_, record.what);
            shown_.push_back(same ? concat(record.place, ": the same again") : text);
            options_.report(shown_.back() + " (left out)");
        }
        bad_ += bad;
        if (options_.strict && block.counts.unknown + block.counts.left_out > 0) {
            throw Error(concat(block.first_unknown, ": the document holds a character without a token"));
        }
        counts_ += block.counts;
        if (bad_ >= kHopeless && writer_.documents() == 0) check_records();
    }

    bool due() const { return Clock::now() - last_save_ >= std::chrono::duration<double>(options_.save_seconds); }

    void save(const InputPosition& at) {
        output_.save({{"identity", fingerprint_},
                      {"options", recipe_},
                      {"position", to_json(at)},
                      {"bad_records", bad_},
                      {"shown", shown_},
                      {"counts", {counts_.special_as_text, counts_.first_special, counts_.unknown, counts_.left_out}},
                      {"in_document", in_document_},
                      {"done", done_},
                      {"splits", writer_.save()}});
        last_save_ = Clock::now();
    }

    const PrepareOptions& options_;
    const std::string fingerprint_;
    const json recipe_;
    PrepareOutput& output_;
    const int vocab_size_;
    SplitWriter writer_;
    InputPosition from_;
    uint64_t bad_ = 0;
    EncodeCounts counts_;
    std::vector<std::string> shown_;  // the first bad records
    std::string last_reported_;       // the reason of the last one
    bool in_document_ = false, full_ = false, done_ = false;
    Clock::time_point last_save_ = Clock::now();
};

}  // namespace

ShardIndex prepare(const PrepareOptions& options) {
    // Check everything that can be wrong with the options before the output changes.
    const std::vector<TokenizerKind::File> source = read_tokenizer_files(options.tokenizer);
    const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
    tokenizer.special_ids(options.allowed_special);  // throws on a wrong one
    const InputFiles found = find_documents(options.inputs, options.val_inputs, options.split_names);
    const std::vector<InputFileInfo>& files = found.files;
    report_passed_over(found.passed_over, options.report);
    report_splits(found, options.report);
    const double val_fraction = found.has_val ? 0 : options.val_fraction;
    ShardIndex index;
    index.vocab_size = tokenizer.vocab_size();
    index.end_of_text = tokenizer.end_of_text();
    index.recipe = recipe_of(options);
    // The same bytes before and after, so the tokenizer was made of them and not of what another process wrote.
    const auto same = [](const auto& a, const auto& b) { return a.name == b.name && a.content == b.content; };
    KILN_CHECK(std::ranges::equal(read_tokenizer_files(options.tokenizer), source, same), options.tokenizer.string(),
               ": was replaced while it was read; run the same command again");
    const std::vector<TokenizerKind::File> tokenizer_files = tokenizer_copy(source, tokenizer);
    index.tokenizer_file = tokenizer_files.front().name;
    for (const auto& [name, content] : tokenizer_files) {
        index.tokenizer_xxh3[name] = hex(xxh3_64(content.data(), content.size()));
    }
    ShardInfo like;
    like.vocab_size = index.vocab_size;
    like.end_of_text = index.end_of_text;
    like.tokenizer_sha256 = sha256(tokenizer_files.front().content);
    index.tokenizer_sha256 = hex(like.tokenizer_sha256);
    const std::string id = fingerprint(index.recipe, options, files, index.tokenizer_sha256);
    SplitWriter(options.output, options.val_fraction, options.shard_tokens, like);  // throws on wrong numbers

    PrepareOutput output(options.output, options.force, id, tokenizer_files);
    const std::optional<json>& saved = output.saved();
    if (output.lacks_nothing()) {
        options.report(concat(options.output.string(), ": the interrupted run had written all shards"));
        output.remove_mark();
        options.counted(counts_from(saved->at("counts")), tokenizer);
        return read_shard_index(options.output);
    }
    const bool other = saved && saved->at("identity") != id;
    // A run that failed at its end, or before its first document, has nothing worth keeping.
    KILN_CHECK(options.force || !other || saved->at("done") || saved->at("splits").at("documents") == 0,
               options.output.string(), ": holds an unfinished run with other ",
               difference(saved->value("options", json::object()), index.recipe),
               "; run it with its own options to resume, or start again with --overwrite");
    auto run = std::make_unique<Run>(options, val_fraction, id, index.recipe, output, like);
    bool resumed = false;
    KILN_CHECK(!options.strict || !saved || other || saved->at("bad_records") == 0, saved->at("shown").at(0),
               "; the run can be resumed without --strict");
    try {
        resumed = run->resume();
    } catch (const std::exception& error) {
        options.report(concat("the unfinished run cannot be resumed: ", error.what()));
        run = std::make_unique<Run>(options, val_fraction, id, index.recipe, output, like);
    }
    if (!resumed) {
        if (output.unfinished()) {
            options.report(concat(options.output.string(), ": starting again, without the unfinished run"));
        }
        output.start();
    }
    try {
        replace_tokenizer_files(options.output, tokenizer_files);
        run->encode(files, tokenizer, threads_or_all(options.threads));
        uint64_t bytes = 0;
        for (const InputFileInfo& file : files) bytes += file.bytes;
        run->check_text(bytes);
        run->finish(index);
    } catch (const PrepareStopped&) {
        throw;
    } catch (...) {
        if (run->holds_nothing()) output.take_back();
        throw;
    }
    output.finish(index);
    options.counted(run->counts(), tokenizer);
    return index;
}

}  // namespace kiln
