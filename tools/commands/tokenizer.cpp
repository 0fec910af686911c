// kiln tokenizer train | import | encode | decode
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iostream>

#include "cpu_reference/interface/error.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/io/file.h"
#include "tokenizer/tokenizer.h"
#include "tools/cli/options.h"
#include "tools/cli/progress_line.h"
#include "tools/commands/commands.h"
#include "tools/fetch/published_tokenizers.h"

namespace kiln {
namespace {

const char* const kActions =
    "kiln tokenizer ACTION [OPTIONS]\n\n"
    "  train    a vocabulary from text\n"
    "  import   gpt2 and other published ones by name; a tokenizer.json; a directory with vocab.json and merges.txt\n"
    "  encode   text on standard input to ids, a line for a line\n"
    "  decode   ids on standard input to text, a line for a line\n\n"
    "`kiln tokenizer ACTION --help` lists an action's options.\n";

// A .tiktoken file with what it does not say. A special token is "text=id".
Tokenizer load_ranks(const std::string& path, const std::string& splitter, const std::vector<std::string>& lists) {
    std::vector<SpecialToken> special_tokens;
    for (const std::string& item : split_at_commas(lists)) {
        const size_t equals = std::min(item.rfind('='), item.size());
        SpecialToken& token = special_tokens.emplace_back();
        token.content = item.substr(0, equals);
        const char *begin = item.data() + std::min(equals + 1, item.size()), *end = item.data() + item.size();
        const auto [stop, status] = std::from_chars(begin, end, token.id);
        if (status != std::errc() || stop != end || token.id < 0 || token.content.empty()) {
            throw UsageError(
                concat("--special-tokens: \"", item, "\" is not a token and its id, as <|endoftext|>=50256"));
        }
    }
    return make_tokenizer(parse_tiktoken(MappedFile(path).text(), path,
                                         {.splitter = Splitter::parse(splitter, "--pre-tokenizer")}, special_tokens),
                          path);
}

int import(const std::vector<std::string>& args) {
    std::string source, output, cache, pre_tokenizer;
    std::vector<std::string> special_tokens;
    FetchOptions fetch;
    OptionSet set("kiln tokenizer import", "A tokenizer, checked and written anew in Hugging Face's format");
    set.add_positional(source, {.name = "source",
                                .unit = "NAME|FILE|DIR",
                                .help = "gpt2, r50k_base, p50k_base, cl100k_base or o200k_base, fetched from their "
                                        "publisher; or a tokenizer.json, its directory, a .model or a .tiktoken file",
                                .required = true});
    set.add(
        output,
        {.name = "output", .unit = "DIR", .help = "where tokenizer.json or tokenizer.model goes", .required = true});
    set.add(fetch.mirror, {.name = "mirror",
                           .unit = "URL|DIR",
                           .help = "a server with the publisher's paths, or a directory with the files"});
    set.add(cache, {.name = "cache",
                    .unit = "DIR",
                    .help = "keeps what was fetched; empty: $XDG_CACHE_HOME/kiln or ~/.cache/kiln"});
    set.add(pre_tokenizer,
            {.name = "pre-tokenizer",
             .unit = "NAME",
             .help = concat("of a .tiktoken file, which does not say: ", kSplitterNames, ", or a regular expression")});
    set.add(special_tokens, {.name = "special-tokens",
                             .unit = "A=ID,B=ID",
                             .help = "of a .tiktoken file, which has none: <|endoftext|>=50256, say"});
    if (!set.parse(args)) return 0;
    const bool ranks = source.ends_with(".tiktoken");
    if (ranks == pre_tokenizer.empty() || (!ranks && !special_tokens.empty())) {
        throw UsageError(
            ranks ? concat(source, ": name the splitter of these ranks with --pre-tokenizer (", kSplitterNames, ")")
                  : "--pre-tokenizer and --special-tokens are for .tiktoken files; others name their own");
    }

    const PublishedTokenizer* published = std::filesystem::exists(source) ? nullptr : find_published(source);
    if (!published) {
        std::string names;
        for (const PublishedTokenizer& known : published_tokenizers())
            names += (names.empty() ? "" : ", ") + known.name;
        KILN_CHECK(std::filesystem::exists(source), source,
                   ": not found, and no tokenizer is known by this name; known are ", names);
    }
    if (ranks && special_tokens.empty()) {
        std::cerr << "note: " << source
                  << " has no special tokens, and without one that ends a document `kiln prepare` "
                  << "cannot separate documents; give it one with --special-tokens '<|endoftext|>=50256', say\n";
    }
    fetch.cache = cache;
    ProgressLine progress;
    fetch.progress = [&](uint64_t done, uint64_t total) {
        progress.show("downloading " + source, double(done) * 1e-6, double(total) * 1e-6, "MB");
        if (done >= total) progress.clear();
    };
    const Tokenizer tokenizer = published ? load_published(*published, fetch)
                                : ranks   ? load_ranks(source, pre_tokenizer, special_tokens)
                                          : Tokenizer::load(source);
    tokenizer.save(output);
    std::cerr << "wrote a vocabulary of " << tokenizer.vocab_size() << " tokens to " << output << "\n";
    return 0;
}

// Calls transform(line, line_number) for each line of standard input and writes its result as a line. The last line
// ends as it came, so that decode gives back exactly what encode took.
template <class Transform>
void transform_lines(Transform&& transform) {
    std::string line;
    for (size_t number = 1; std::getline(std::cin, line); ++number) {
        std::string result;
        try {
            result = transform(line);
        } catch (const Error& error) {
            throw Error(concat("standard input, line ", number, ": ", error.what()));
        }
        if (!std::cin.eof()) result += '\n';
        std::cout << result;
        if (!std::cout) throw Error("standard output could not be written (disk full or closed)");
    }
    KILN_CHECK(!std::cin.bad(), "standard input could not be read");
}

int encode(const std::vector<std::string>& args) {
    std::string path;
    bool offsets = false;
    EncodeOptions options;
    OptionSet set("kiln tokenizer encode", "Text on standard input to ids, a line for a line");
    set.add(path,
            {.name = "tokenizer", .unit = "DIR", .help = "directory, tokenizer.json or .model", .required = true});
    set.add(options.allow_special,
            {.name = "allow-special", .help = "<|endoftext|> and its like in the text become their ids"});
    set.add(offsets, {.name = "offsets", .help = "each id as ID:BEGIN-END, the bytes of the line that it stands for"});
    if (!set.parse(args)) return 0;

    const Tokenizer tokenizer = Tokenizer::load(path);
    transform_lines([&](const std::string& line) {
        std::string ids;
        const Encoding encoding =
            offsets ? tokenizer.encode_with_offsets(line, options) : Encoding{tokenizer.encode(line, options), {}};
        for (size_t i = 0; i < encoding.ids.size(); ++i) {
            if (i > 0) ids += ' ';
            ids += std::to_string(encoding.ids[i]);
            if (offsets) ids += concat(":", encoding.spans[i].begin, "-", encoding.spans[i].end);
        }
        return ids;
    });
    return 0;
}

std::vector<int> parse_ids(const std::string& line) {
    constexpr const char* kSpaces = " \t\r,[]";  // a list as JSON and Python print it, too
    std::vector<int> ids;
    for (size_t start = line.find_first_not_of(kSpaces); start != std::string::npos;) {
        const size_t end = std::min(line.find_first_of(kSpaces, start), line.size());
        int id;
        const auto [stop, status] = std::from_chars(line.data() + start, line.data() + end, id);
        KILN_CHECK(status == std::errc() && stop == line.data() + end, "\"",
                   line.substr(start, std::min<size_t>(40, end - start)),
                   "\" is not a token id; ids are whole numbers with spaces or commas between");
        ids.push_back(id);
        start = line.find_first_not_of(kSpaces, end);
    }
    return ids;
}

int decode(const std::vector<std::string>& args) {
    std::string path;
    OptionSet set("kiln tokenizer decode", "Ids on standard input to text, a line for a line");
    set.add(path,
            {.name = "tokenizer", .unit = "DIR", .help = "directory, tokenizer.json or .model", .required = true});
    if (!set.parse(args)) return 0;

    const Tokenizer tokenizer = Tokenizer::load(path);
    transform_lines([&](const std::string& line) { return tokenizer.decode(parse_ids(line)); });
    return 0;
}

}  // namespace

int command_tokenizer(const std::vector<std::string>& args) {
    if (args.empty()) throw UsageError("kiln tokenizer: name an action: train, import, encode or decode");
    const std::string& action = args[0];
    const std::vector<std::string> rest(args.begin() + 1, args.end());
    if (action == "train") return train_tokenizer(rest);
    if (action == "import") return import(rest);
    if (action == "encode") return encode(rest);
    if (action == "decode") return decode(rest);
    if (action == "--help" || action == "-h") {
        std::cout << kActions;
        return 0;
    }
    throw UsageError(concat("kiln tokenizer: there is no action \"", action, "\"; the nearest is \"",
                            nearest(action, {"train", "import", "encode", "decode"}), "\""));
}

}  // namespace kiln
