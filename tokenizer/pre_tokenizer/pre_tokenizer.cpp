#include "tokenizer/pre_tokenizer/pre_tokenizer.h"

#include <vector>

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

struct Known {
    SplitterKind kind;
    std::string name;
    std::vector<std::string> patterns;  // the first is the one that is written; all give the same pieces
};

const std::vector<Known>& known_splitters() {
    static const std::vector<Known> known = [] {
        const std::string prefix = "[^\\r\\n\\p{L}\\p{N}]?", contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
        const std::string capital = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", small = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
        const std::string other = " ?[^\\s\\p{L}\\p{N}]+", spaces = "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
        const auto gpt2 = [](const std::string& letters, const std::string& numbers) {
            return "'s|'t|'re|'ve|'m|'ll|'d| ?" + letters + "+| ?" + numbers +
                   "+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
        };
        const auto llama = [&](const std::string& digits) {
            return contractions + "|" + prefix + "\\p{L}+|" + digits + "|" + other + "[\\r\\n]*" + spaces;
        };
        return std::vector<Known>{
            {SplitterKind::kGpt2,
             "gpt2",
             {gpt2("\\p{L}", "\\p{N}"), gpt2("[\\p{L}]", "[\\p{N}]"),
              "'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^\\s\\p{L}\\p{N}]++|\\s++$|\\s+(?!\\S)|\\s"}},
            // tiktoken's own text has \p{N}{1,3}+, which is any number of digits to Oniguruma. Nothing follows it, so
            // it need not be possessive.
            {SplitterKind::kCl100k,
             "cl100k",
             {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+"
              "|\\s++$|\\s*[\\r\\n]|\\s+(?!\\S)|\\s"}},
            {SplitterKind::kLlama3, "llama3", {llama("\\p{N}{1,3}")}},
            {SplitterKind::kQwen2, "qwen2", {llama("\\p{N}")}},
            {SplitterKind::kO200k,
             "o200k",
             {prefix + capital + "*" + small + "+" + contractions + "?|" + prefix + capital + "+" + small + "*" +
              contractions + "?|\\p{N}{1,3}|" + other + "[\\r\\n/]*" + spaces}},
            {SplitterKind::kNone, "none", {""}},
        };
    }();
    return known;
}

}  // namespace

Splitter::Splitter(SplitterKind kind) : kind_(kind) {
    for (const Known& known : known_splitters()) {
        if (known.kind == kind) pattern_ = known.patterns[0];
    }
}

Splitter Splitter::from_pattern(const std::string& pattern, const std::string& where, bool drop_unmatched) {
    for (const Known& known : known_splitters()) {
        for (const std::string& text : known.patterns) {
            if (pattern == text && !text.empty()) return Splitter(known.kind);
        }
    }
    Splitter splitter(SplitterKind::kNone);
    splitter.kind_ = SplitterKind::kPattern;
    splitter.pattern_ = pattern;
    splitter.compiled_ = std::make_shared<const SplitPattern>(pattern, where, drop_unmatched);
    return splitter;
}

Splitter Splitter::parse(const std::string& name_or_pattern, const std::string& where) {
    for (const Known& known : known_splitters()) {
        if (name_or_pattern == known.name) return Splitter(known.kind);
    }
    // A misspelt name is a valid expression too; those that are meant as one have something a name has not.
    if (name_or_pattern.find_first_of("\\[](){}|*+?.^$ ") == std::string::npos) {
        throw UsageError(concat(where, ": \"", name_or_pattern, "\" is not known; there are: ", kSplitterNames,
                                ", or a regular expression"));
    }
    return from_pattern(name_or_pattern, where);
}

}  // namespace kiln
