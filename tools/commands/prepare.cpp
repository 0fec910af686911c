// kiln prepare: encodes documents into shards of tokens.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "cpu_reference/interface/error.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/io/file.h"
#include "tokenizer/prepare/prepare.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/cli/allow_special.h"
#include "tools/cli/options.h"
#include "tools/cli/progress_line.h"
#include "tools/cli/standard_streams.h"
#include "tools/cli/stop_signal.h"
#include "tools/cli/threads.h"
#include "tools/commands/commands.h"
#include "tools/commands/reading_options.h"
#include "tools/fetch/published_tokenizers.h"

namespace kiln {
namespace {

bool parse(const std::vector<std::string>& args, PrepareOptions& o, AllowSpecial& special) {
    const std::vector<std::string> modes = {"file", "line", "paragraph"};
    std::string tokenizer, output, mode = "file";
    ReadingOptions reading;
    OptionSet set("kiln prepare",
                  "Encodes documents into shards of tokens, and copies the tokenizer to the same directory. "
                  "--documents says what a document is in a text file (.txt and all other names); in .jsonl, .ndjson, "
                  ".json, .csv and .tsv files, each record is a document. All files may be compressed (.gz or .zst). "
                  "The same command resumes a run that was stopped.",
                  {"--input my.txt --tokenizer tok --documents line --val-fraction 0.05 --output shards",
                   "--input 'data/**/*.jsonl.zst' --text-key text,content --tokenizer tok --output shards",
                   "--input spam.csv --text-key v2 --encoding latin-1 --tokenizer tok --output shards"});
    set.add(o.inputs, {.name = "input",
                       .unit = "PATH",
                       .help = "files, directories, or quoted patterns with *, ?, [] and **",
                       .required = true});
    set.add(o.val_inputs,
            {.name = "val-input",
             .unit = "PATH",
             .help = "files, directories or patterns whose documents are all for validation; no others are "
                     "chosen by their hash"});
    bool ignore_names = false;
    set.add(ignore_names, {.name = "ignore-split-names",
                           .help = "do not split by names; without it, names decide if some files are named train and "
                                   "others valid or test"});
    set.add(tokenizer,
            {.name = "tokenizer", .unit = "DIR", .help = "directory, tokenizer.json or .model", .required = true});
    set.add(output, {.name = "output", .unit = "DIR", .help = "directory for the shards", .required = true});
    set.add(o.val_fraction, {.name = "val-fraction",
                             .help = "part of the documents for validation, chosen by their hash, if no file is "
                                     "for validation; 0: none",
                             .min = 0,
                             .max = 0.5});
    set.add(o.shard_tokens, {.name = "shard-tokens",
                             .unit = "TOKENS",
                             .help = "maximum number of tokens in a shard",
                             .min = 1,
                             .max = double(kMaxShardTokens)});
    set.add(mode, {.name = "documents", .help = "what a document is in a text file", .choices = modes});
    set.add(o.documents.separator, {.name = "document-separator",
                                    .unit = "LINE",
                                    .help = "a line equal to LINE separates documents; overrides --documents. A LINE "
                                            "of several characters, such as <|im_end|>, also separates within a line "
                                            "and within a record"});
    add_allow_special(set, special);
    add_reading_options(set, reading);
    set.add(o.max_documents,
            {.name = "max-documents", .unit = "N", .help = "stop after this number of documents; 0: no limit"});
    set.add(o.strict, {.name = "strict",
                       .help = "stop at the first bad record or character without a token; without it, bad records are "
                               "left out, and such characters become the unk token or are left out"});
    set.add(o.max_bad_fraction,
            {.name = "max-bad-fraction", .help = "fail if a larger part of the records is bad", .min = 0, .max = 1});
    set.add(o.threads, {.name = "threads",
                        .unit = "N",
                        .help = "threads that encode; one more thread reads; 0: all processors",
                        .min = 0,
                        .max = 1024});
    set.add(o.force, {.name = "overwrite",
                      .former_names = {"force"},
                      .help = "replace existing shards, or an unfinished run, in --output; they are removed at once"});
    if (!set.parse(args)) return false;
    if (!std::filesystem::exists(status_of(tokenizer)) && find_published(tokenizer)) {
        throw UsageError(concat("--tokenizer ", tokenizer, ": there is no such directory; the published tokenizer of ",
                                "this name is downloaded by `kiln tokenizer import ", tokenizer,
                                " --output tok`; then give --tokenizer tok"));
    }
    o.threads = threads_to_use(o.threads);
    const std::string separator = o.documents.separator;
    o.documents = reading.options();
    o.documents.separator = separator;
    o.split_names = !ignore_names;
    o.tokenizer = tokenizer;
    o.allow_special = special.on();
    o.allowed_special = special.list();
    o.output = output;
    o.documents.mode = DocumentMode(std::ranges::find(modes, mode) - modes.begin());
    if (o.documents.separator.find('\n') != std::string::npos) {
        throw UsageError("--document-separator is one line; it cannot contain a newline");
    }
    if (find_invalid_utf8(o.documents.separator)) throw UsageError("--document-separator: is not UTF-8");
    return true;
}

void print_split(const char* name, const ShardIndex::Split& split) {
    std::cout << name << ": tokens " << split.tokens << ", documents " << split.documents << ", bytes of text "
              << split.text_bytes << ", shards " << split.files.size() << "\n";
}

// Whether --documents applies to any input, by its name.
bool has_plain_text(const PrepareOptions& options) {
    const DocumentFormat format = options.documents.format;
    if (format != DocumentFormat::automatic) return format == DocumentFormat::text;
    return std::any_of(options.inputs.begin(), options.inputs.end(),
                       [](const std::string& input) { return format_of(input) == DocumentFormat::text; });
}

}  // namespace

int command_prepare(const std::vector<std::string>& args) {
    PrepareOptions options;
    AllowSpecial special;
    if (!parse(args, options, special)) return 0;
    std::string note;
    options.counted = [&](const EncodeCounts& counts, const Tokenizer& tokenizer) {
        note = note_of(counts, tokenizer, special.on());
    };
    options.documents.keep_start_of_damaged = options.max_bad_fraction >= 1;
    ProgressLine progress;
    options.progress = [&](const PrepareProgress& p) {
        std::string more =
            formatted(", %.0f documents, %.1f million tokens", double(p.documents), double(p.tokens) * 1e-6);
        if (p.bad_records > 0) more += concat(", ", p.bad_records, " bad records");
        progress.show("encoding", double(p.bytes_read) * 1e-6, double(p.bytes_total) * 1e-6, "MB", more);
    };
    options.report = [&](const std::string& text) {
        progress.clear();
        std::cerr << replace_invalid_utf8(text) << "\n";  // it may quote a bad record
    };
    const auto start = std::chrono::steady_clock::now();
    // The next block may be long in coming, from a pipe or a slow pattern. The state that was saved last is enough
    // then.
    end_at_stop_signals(
        [directory = options.output.string()](int signal) {
            write_error_line(concat("stopped by ", signal_name(signal), "; ", directory,
                                    ": not finished; the same command resumes it, or starts again if it reads a pipe"));
            ::_exit(3);
        },
        std::chrono::seconds(1));
    options.stop = [] { return stop_signal() != 0; };
    ShardIndex index;
    try {
        index = prepare(options);
    } catch (const PrepareStopped& stopped) {
        progress.clear();
        std::cerr << "stopped by " << signal_name(stop_signal()) << "; " << stopped.what() << "\n";
        return 3;
    }
    progress.clear();
    print_split("train", index.train);
    print_split("val", index.val);
    if (!index.test.files.empty()) print_split("test", index.test);
    std::cout << "shards: " << options.output.string() << "\n";
    if (!note.empty()) std::cerr << note << "\n";
    if (index.bad_records > 0) {
        std::cerr << "bad records left out: " << index.bad_records << "\n";
    }
    const double bytes = double(index.train.text_bytes + index.val.text_bytes + index.test.text_bytes);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::cerr << formatted("%.1f s, %.1f MB/s\n", seconds, bytes * 1e-6 / seconds);
    if (options.val_fraction > 0 && index.val.files.empty()) {
        std::cerr << "no validation split: "
                  << (index.train.documents == 1 ? "there is only one document"
                                                 : "by their hashes one of the two would have no documents")
                  << (has_plain_text(options)
                          ? "; --documents paragraph or --document-separator cut a file into more documents"
                          : "")
                  << "\n";
    }
    return 0;
}

}  // namespace kiln
