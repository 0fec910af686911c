// kiln tokenizer train | import | encode | decode
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iostream>

#include "cpu_reference/interface/error.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/line_reader.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/cli/allow_special.h"
#include "tools/cli/options.h"
#include "tools/cli/progress_line.h"
#include "tools/cli/stop_signal.h"
#include "tools/commands/commands.h"
#include "tools/fetch/published_tokenizers.h"

namespace kiln {
namespace {

const char* const kActions =
    "kiln tokenizer: trains, imports and applies tokenizers.\n\n"
    "Examples:\n"
    "  kiln tokenizer train --input my.txt --vocab-size 4096 --output tok\n"
    "  kiln tokenizer import gpt2 --output tok\n"
    "  kiln tokenizer encode --tokenizer tok <my.txt >ids.txt\n"
    "  kiln tokenizer decode --tokenizer tok <ids.txt >my.txt\n\n"
    "Usage: kiln tokenizer ACTION [OPTIONS]\n\n"
    "  train    learn a vocabulary from text\n"
    "  import   convert a published tokenizer (gpt2, ...), a tokenizer.json, or vocab.json with merges.txt\n"
    "  encode   turn each line of text on standard input into a line of ids\n"
    "  decode   turn each line of ids on standard input into a line of text\n\n"
    "`kiln tokenizer ACTION --help` lists the options of an action.\n";

// Reads a .tiktoken file, which does not name its pre-tokenizer and special tokens. A special token is "text=id".
Tokenizer load_ranks(const std::string& path, const std::string& pre_tokenizer, const std::vector<std::string>& lists) {
    std::vector<SpecialToken> special_tokens;
    for (const std::string& item : split_at_commas(lists)) {
        const size_t equals = std::min(item.rfind('='), item.size());
        SpecialToken& token = special_tokens.emplace_back();
        token.content = item.substr(0, equals);
        const char *begin = item.data() + std::min(equals + 1, item.size()), *end = item.data() + item.size();
        const auto [stop, status] = std::from_chars(begin, end, token.id);
        if (status != std::errc() || stop != end || token.id < 0 || token.content.empty() ||
            find_invalid_utf8(token.content)) {
            throw UsageError(concat("--special-tokens: \"", item,
                                    "\" is not a token and its id; an example is <|endoftext|>=50256"));
        }
        if (std::ranges::count(special_tokens, token.content, &SpecialToken::content) > 1) {
            throw UsageError(concat("--special-tokens: \"", token.content, "\" is given twice"));
        }
    }
    return make_tokenizer(
        parse_tiktoken(read_file(path), path, {.last = PreTokenizer::parse(pre_tokenizer, "--pre-tokenizer")},
                       special_tokens),
        path);
}

int import(const std::vector<std::string>& args) {
    std::string source, output, cache, pre_tokenizer;
    std::vector<std::string> special_tokens;
    bool overwrite = false;
    FetchOptions fetch;
    OptionSet set("kiln tokenizer import", "Reads a tokenizer, checks it and writes it in Hugging Face's format",
                  {"gpt2 --output tok", "llama/tokenizer.model --output tok",
                   "my.tiktoken --pre-tokenizer cl100k --special-tokens '<|endoftext|>=100257' --output tok"});
    set.add_positional(source,
                       {.name = "source",
                        .unit = "NAME|FILE|DIR",
                        .help = "gpt2, r50k_base, p50k_base, cl100k_base or o200k_base, which are downloaded; "
                                "or a tokenizer.json, its directory, a .model or a .tiktoken file, or a .bin file of "
                                "llm.c or llama2.c",
                        .required = true});
    set.add(
        output,
        {.name = "output", .unit = "DIR", .help = "directory for tokenizer.json or tokenizer.model", .required = true});
    set.add(fetch.mirror, {.name = "mirror",
                           .unit = "URL|DIR",
                           .help = "a server with the same paths as the publisher, or a directory with the files"});
    set.add(cache, {.name = "cache",
                    .unit = "DIR",
                    .help = "directory for downloads; empty: $XDG_CACHE_HOME/kiln or ~/.cache/kiln"});
    set.add(pre_tokenizer, {.name = "pre-tokenizer",
                            .unit = "NAME",
                            .help = concat("the pre-tokenizer of a .tiktoken file: ", pre_tokenizer_names(true))});
    set.add(special_tokens, {.name = "special-tokens",
                             .unit = "A=ID,B=ID",
                             .help = "the special tokens of a .tiktoken file, for example <|endoftext|>=50256"});
    set.add(overwrite, overwrite_tokenizer_option());
    if (!set.parse(args)) return 0;
    const bool ranks = source.ends_with(".tiktoken");
    if (ranks == pre_tokenizer.empty() || (!ranks && !special_tokens.empty())) {
        throw UsageError(
            ranks ? concat(source, ": name the pre-tokenizer of these ranks with --pre-tokenizer (",
                           pre_tokenizer_names(), ")")
                  : "--pre-tokenizer and --special-tokens are only for .tiktoken files; other formats name their own");
    }

    const PublishedTokenizer* published = std::filesystem::exists(status_of(source)) ? nullptr : find_published(source);
    if (!published) {
        std::string names;
        for (const PublishedTokenizer& known : published_tokenizers())
            names += (names.empty() ? "" : ", ") + known.name;
        KILN_CHECK(std::filesystem::exists(status_of(source)), source,
                   ": not found, and not the name of a known tokenizer; these are ", names);
    }
    if (ranks && special_tokens.empty()) {
        std::cerr << "note: " << source
                  << " has no special tokens, and without one that ends a document `kiln prepare` "
                  << "cannot separate documents; add one, for example with --special-tokens '<|endoftext|>=50256'\n";
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
    catch_stop_signals();  // a signal waits until all files are written
    tokenizer.save(output, overwrite);
    std::cerr << "wrote a vocabulary of " << tokenizer.vocab_size() << " tokens to " << output << "\n";
    return 0;
}

// Calls transform(line) for each line of standard input and writes the result as a line. If the last line has no
// newline, its result has none, so that decode --raw gives back exactly the input of encode.
template <class Transform>
void transform_lines(Transform&& transform) {
    LineReader input(InputFile::standard_input());
    std::string line;
    for (size_t number = 1; input.next(line); ++number) {
        const bool newline = line.ends_with('\n');
        if (newline) line.pop_back();
        std::string result;
        try {
            result = transform(line);
        } catch (const Error& error) {
            throw Error(concat("standard input, line ", number, ": ", error.what()));
        }
        if (newline) result += '\n';
        std::cout << result << std::flush;
    }
}

int encode(const std::vector<std::string>& args) {
    std::string path;
    bool offsets = false, bos = false, eos = false;
    AllowSpecial special;
    OptionSet set("kiln tokenizer encode", "Turns each line of text on standard input into a line of ids",
                  {"--tokenizer tok <my.txt >ids.txt", "--tokenizer tok --offsets <my.txt"});
    set.add(path,
            {.name = "tokenizer", .unit = "DIR", .help = "directory, tokenizer.json or .model", .required = true});
    add_allow_special(set, special);
    set.add(bos, {.name = "bos", .help = "begin each line of ids with the token that begins a text"});
    set.add(eos, {.name = "eos", .help = "end each line of ids with the token that ends a text"});
    set.add(offsets, {.name = "offsets",
                      .help = "write each id as ID:BEGIN-END, with the bytes of the line that it stands for"});
    if (!set.parse(args)) return 0;

    const Tokenizer tokenizer = Tokenizer::load(path);
    const std::vector<bool> allowed = special.ids(tokenizer);
    EncodeCounts counts;
    const EncodeOptions options{.allow_special = special.on(), .allowed = &allowed, .counts = &counts};
    const auto role_id = [&](bool wanted, Role role, const char* option) {
        KILN_CHECK(!wanted || tokenizer.roles()[role], option, ": no file of ", path, " names such a token");
        return wanted ? tokenizer.roles()[role]->id : -1;
    };
    const int first = role_id(bos, Role::bos, "--bos"), last = role_id(eos, Role::eos, "--eos");
    transform_lines([&](const std::string& line) {
        std::string ids;
        Encoding encoding =
            offsets ? tokenizer.encode_with_offsets(line, options) : Encoding{tokenizer.encode(line, options), {}};
        const auto insert = [&](int id, size_t at, size_t offset) {  // it stands for no bytes
            if (id < 0) return;
            encoding.ids.insert(encoding.ids.begin() + ptrdiff_t(at), id);
            if (offsets) encoding.spans.insert(encoding.spans.begin() + ptrdiff_t(at), TextSpan{offset, offset});
        };
        insert(first, 0, 0);
        insert(last, encoding.ids.size(), line.size());
        for (size_t i = 0; i < encoding.ids.size(); ++i) {
            if (i > 0) ids += ' ';
            ids += std::to_string(encoding.ids[i]);
            if (offsets) ids += concat(":", encoding.spans[i].begin, "-", encoding.spans[i].end);
        }
        return ids;
    });
    const std::string note = note_of(counts, tokenizer, special.on());
    if (!note.empty()) std::cerr << note << "\n";
    return 0;
}

std::vector<int> parse_ids(const std::string& line) {
    constexpr const char* kSpaces = " \t\r,[]";  // also accepts lists as JSON and Python print them
    std::vector<int> ids;
    for (size_t start = line.find_first_not_of(kSpaces); start != std::string::npos;) {
        const size_t end = std::min(line.find_first_of(kSpaces, start), line.size());
        int id;
        const auto [stop, status] = std::from_chars(line.data() + start, line.data() + end, id);
        KILN_CHECK(status == std::errc() && stop == line.data() + end, "\"",
                   line.substr(start, std::min<size_t>(40, end - start)),
                   "\" is not a token id; write whole numbers with spaces or commas between them");
        ids.push_back(id);
        start = line.find_first_not_of(kSpaces, end);
    }
    return ids;
}

int decode(const std::vector<std::string>& args) {
    std::string path;
    bool raw = false;
    OptionSet set("kiln tokenizer decode", "Turns each line of ids on standard input into a line of text",
                  {"--tokenizer tok <ids.txt >my.txt"});
    set.add(path,
            {.name = "tokenizer", .unit = "DIR", .help = "directory, tokenizer.json or .model", .required = true});
    set.add(raw, {.name = "raw", .help = "print bytes that are not UTF-8 unchanged; without it, they become U+FFFD"});
    if (!set.parse(args)) return 0;

    const Tokenizer tokenizer = Tokenizer::load(path);
    transform_lines([&](const std::string& line) {
        const std::string text = tokenizer.decode(parse_ids(line));
        return raw ? text : replace_invalid_utf8(text);
    });
    return 0;
}

}  // namespace

OptionSpec overwrite_tokenizer_option() {
    return {.name = "overwrite", .former_names = {"force"}, .help = "replace another tokenizer in --output"};
}

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
