// kiln prepare: documents to shards of tokens.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>

#include <unistd.h>

#include "cpu_reference/error.h"
#include "tokenizer/prepare.h"
#include "tokenizer/shard.h"
#include "tools/commands.h"
#include "tools/options.h"

namespace kiln {
namespace {

bool parse(const std::vector<std::string>& args, PrepareOptions& o) {
    std::string tokenizer, output, mode = "file";
    OptionSet set("kiln prepare",
                  "Documents to shards of tokens, with the tokenizer beside them. Files of text (.txt and any other "
                  "name) hold documents as --documents says; .jsonl, .ndjson and .json hold a record a document.");
    set.add(o.inputs, {.name = "input", .unit = "PATH", .help = "files, or directories of them", .required = true});
    set.add(tokenizer, {.name = "tokenizer", .unit = "DIR", .help = "directory or tokenizer.json", .required = true});
    set.add(output, {.name = "output", .unit = "DIR", .help = "where the shards go", .required = true});
    set.add(o.val_fraction, {.name = "val-fraction",
                             .help = "of the documents go to validation, chosen by their hash; 0: none",
                             .min = 0,
                             .max = 0.5});
    set.add(o.shard_tokens, {.name = "shard-tokens",
                             .unit = "TOKENS",
                             .help = "in a shard, at most",
                             .min = 1,
                             .max = double(kMaxShardTokens)});
    set.add(mode, {.name = "documents",
                   .help = "what one document is in a file of text",
                   .choices = {"file", "line", "paragraph"}});
    set.add(o.documents.separator, {.name = "document-separator",
                                    .unit = "LINE",
                                    .help = "documents stand between lines that are this; overrides --documents"});
    set.add(o.documents.text_key, {.name = "text-key", .unit = "NAME", .help = "the field of a record that is text"});
    set.add(o.threads, {.name = "threads", .unit = "N", .help = "0: all processors", .min = 0, .max = 1024});
    set.add(o.force, {.name = "force", .help = "replace the shards that are in --output"});
    if (!set.parse(args)) return false;
    o.tokenizer = tokenizer;
    o.output = output;
    o.documents.mode = mode == "line"        ? DocumentMode::line
                       : mode == "paragraph" ? DocumentMode::paragraph
                                             : DocumentMode::file;
    if (o.documents.separator.find('\n') != std::string::npos) {
        throw UsageError("--document-separator is one line; it cannot contain a newline");
    }
    return true;
}

// One line on standard error, written over every half second; on no terminal, a line every ten.
class ProgressLine {
public:
    void show(const PrepareProgress& p) {
        const auto now = Clock::now();
        if (now - last_ < (terminal_ ? std::chrono::milliseconds(500) : std::chrono::seconds(10))) return;
        last_ = now;
        char line[160];
        const double seconds = std::max(1e-3, std::chrono::duration<double>(now - start_).count());
        const double mb = double(p.bytes_read) * 1e-6;
        int n = std::snprintf(line, sizeof line, "%.0f MB", mb);
        if (p.bytes_total > 0) {
            n += std::snprintf(line + n, sizeof line - size_t(n), " of %.0f (%.0f%%)", double(p.bytes_total) * 1e-6,
                               100 * double(p.bytes_read) / double(p.bytes_total));
        }
        std::snprintf(line + n, sizeof line - size_t(n), ", %.1f MB/s, %llu documents, %.1f million tokens",
                      mb / seconds, static_cast<unsigned long long>(p.documents), double(p.tokens) * 1e-6);
        std::cerr << (terminal_ ? "\r\033[K" : "") << line << (terminal_ ? "" : "\n") << std::flush;
        shown_ = true;
    }
    // Clears the line.
    void end() {
        if (shown_ && terminal_) std::cerr << "\r\033[K" << std::flush;
    }
    double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

private:
    using Clock = std::chrono::steady_clock;
    const bool terminal_ = ::isatty(STDERR_FILENO) != 0;
    const Clock::time_point start_ = Clock::now();
    Clock::time_point last_ = start_;
    bool shown_ = false;
};

void print_split(const char* name, const ShardIndex::Split& split) {
    std::cout << name << ": " << split.tokens << " tokens of " << split.documents << " documents (" << split.text_bytes
              << " bytes of text) in " << split.files.size() << (split.files.size() == 1 ? " shard\n" : " shards\n");
}

}  // namespace

int command_prepare(const std::vector<std::string>& args) {
    PrepareOptions options;
    if (!parse(args, options)) return 0;
    ProgressLine progress;
    ShardIndex index;
    try {
        index = prepare(options, [&](const PrepareProgress& p) { progress.show(p); });
    } catch (...) {
        progress.end();
        throw;
    }
    progress.end();
    print_split("train", index.train);
    print_split("val", index.val);
    std::cout << "shards: " << options.output.string() << "\n";
    const double bytes = double(index.train.text_bytes + index.val.text_bytes);
    char line[80];
    std::snprintf(line, sizeof line, "%.1f s, %.1f MB/s\n", progress.seconds(), bytes * 1e-6 / progress.seconds());
    std::cerr << line;
    if (options.val_fraction > 0 && index.val.files.empty()) {
        std::cerr << "no validation split: "
                  << (index.train.documents == 1 ? "there is only one document"
                                                 : "no document fell into the fraction, and all are too long to hold "
                                                   "one back")
                  << "; --documents paragraph or --document-separator make more of a file\n";
    }
    return 0;
}

}  // namespace kiln
