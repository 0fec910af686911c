#include "tokenizer/pre_tokenizer/pre_tokenizer.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"

namespace kiln {

const std::vector<NamedPreTokenizer>& named_pre_tokenizers() {
    static const std::vector<NamedPreTokenizer> table = [] {
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
        return std::vector<NamedPreTokenizer>{
            {PreTokenizerKind::kGpt2,
             "gpt2",
             {gpt2("\\p{L}", "\\p{N}"), gpt2("[\\p{L}]", "[\\p{N}]"),
              "'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^\\s\\p{L}\\p{N}]++|\\s++$|\\s+(?!\\S)|\\s"},
             "GPT-2, RoBERTa, r50k_base, p50k_base"},
            // tiktoken writes \p{N}{1,3}+, which Oniguruma reads as any number of digits. Nothing follows it, so it
            // need not be possessive.
            {PreTokenizerKind::kCl100k,
             "cl100k",
             {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+"
              "|\\s++$|\\s*[\\r\\n]|\\s+(?!\\S)|\\s"},
             "cl100k_base of today's tiktoken"},
            {PreTokenizerKind::kLlama3, "llama3", {llama("\\p{N}{1,3}")}, "Llama 3, cl100k_base of older tiktoken"},
            {PreTokenizerKind::kQwen2, "qwen2", {llama("\\p{N}")}, "Qwen2, Qwen3"},
            {PreTokenizerKind::kO200k,
             "o200k",
             {prefix + capital + "*" + small + "+" + contractions + "?|" + prefix + capital + "+" + small + "*" +
              contractions + "?|\\p{N}{1,3}|" + other + "[\\r\\n/]*" + spaces},
             "o200k_base, GPT-4o"},
            {PreTokenizerKind::kNone, "none", {}, ""},
        };
    }();
    return table;
}

std::string pre_tokenizer_names(bool help) {
    std::string names;
    for (const auto& named : named_pre_tokenizers()) {
        names += named.name;
        if (help && !named.used_by.empty()) names += concat(" (", named.used_by, ")");
        names += ", ";
    }
    return names + "or a regular expression";
}

PreTokenizer::PreTokenizer(PreTokenizerKind kind) : kind_(kind) {
    for (const auto& named : named_pre_tokenizers()) {
        if (named.kind == kind && !named.regexes.empty()) regex_ = named.regexes[0];
    }
}

PreTokenizer PreTokenizer::from_regex(const std::string& regex, const std::string& where, bool drop_unmatched) {
    for (const auto& named : named_pre_tokenizers()) {
        if (std::find(named.regexes.begin(), named.regexes.end(), regex) != named.regexes.end()) {
            return PreTokenizer(named.kind);
        }
    }
    PreTokenizer result(PreTokenizerKind::kNone);
    result.kind_ = PreTokenizerKind::kRegex;
    result.regex_ = regex;
    result.compiled_ = std::make_shared<const RegexSplitter>(regex, where, drop_unmatched);
    return result;
}

PreTokenizer PreTokenizer::parse(const std::string& name_or_regex, const std::string& where) {
    for (const auto& named : named_pre_tokenizers()) {
        if (name_or_regex == named.name) return PreTokenizer(named.kind);
    }
    // A misspelt name is a valid expression too. What is meant as an expression has a character that no name has.
    if (name_or_regex.find_first_of("\\[](){}|*+?.^$ ") == std::string::npos) {
        throw UsageError(concat(where, ": \"", name_or_regex, "\" is not known; choose from: ", pre_tokenizer_names()));
    }
    return from_regex(name_or_regex, where);
}

const std::string& PreTokenizer::name() const {
    for (const auto& named : named_pre_tokenizers()) {
        if (named.kind == kind_) return named.name;
    }
    return regex_;
}

}  // namespace kiln
