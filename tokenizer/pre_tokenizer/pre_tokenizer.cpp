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

// With PrefixSpace::kText, each word of the last step in `before` gets a space, so a cut may lie between these words
// but not within one.
void PreTokenizerSequence::find_words(size_t step, std::string_view text, bool open, const char* match_end,
                                      std::vector<Word>& words) const {
    const size_t last_step = before.size() - (prefix_space == PrefixSpace::kText);
    const PreTokenizer& now = step < before.size() ? before[step] : last;
    const auto add = [&](std::string_view word, bool is_match) {
        const char* const within = is_match && !match_end ? word.end() : match_end;
        if (step < last_step) return find_words(step + 1, word, false, within, words);
        words.push_back({word, !within || within == word.end()});
    };
    const std::string_view rest = now.split(text, open, add);
    if (rest.empty() || now.drops_unmatched()) return;
    if (!open) {
        add(rest, false);
    } else if (step < last_step) {
        find_words(step + 1, rest, true, match_end, words);
    }
}

size_t PreTokenizerSequence::find_cut(std::string_view text, size_t from, size_t end,
                                      const std::function<bool(size_t)>& may_cut) const {
    if (before.empty() && last.is_scanner()) {
        return scanners::find_cut(text, from, std::min(end, text.size()),
                                  [&](size_t at) { return scanners::always_end_word(text, at) && may_cut(at); });
    }
    const auto looks_behind = [](const PreTokenizer& step) { return step.looks_behind(); };
    if (last.kind() == PreTokenizerKind::kNone || (before.empty() && prefix_space == PrefixSpace::kText) ||
        looks_behind(last) || std::ranges::any_of(before, looks_behind)) {
        return 0;
    }
    const auto words_of = [&](std::string_view part, bool open) {
        std::vector<Word> words;
        find_words(0, part.substr(0, part.size() - incomplete_utf8_tail(part)), open, nullptr, words);
        return words;
    };
    const auto end_of = [](std::string_view part, const Word& word) { return size_t(word.text.end() - part.data()); };
    // `start` is where a word ends whatever follows byte `from`, so only the text after it is searched.
    size_t start = 0;
    for (const Word& word : words_of(text.substr(0, from), true)) {
        if (word.may_cut) start = end_of(text, word);
    }
    const std::string_view rest = text.substr(start);
    for (size_t shown = from - start + 4096;; shown *= 2) {
        // A cut at the end of a word must not change the words before it, which happens if an expression asks for the
        // end of the text. It does not change those after it: no expression looks behind, no match crosses the cut.
        const std::vector<Word> words = words_of(rest.substr(0, shown), true);
        size_t least = from - start;
        for (size_t i = 0; i < words.size(); ++i) {
            const size_t at = end_of(rest, words[i]);
            if (start + at >= end) return 0;
            if (at < least || !words[i].may_cut || !may_cut(start + at)) continue;
            const std::vector<Word> first = words_of(rest.substr(0, at), false);
            const auto same = [](const Word& a, const Word& b) {
                return a.text.data() == b.text.data() && a.text.size() == b.text.size();
            };
            if (std::equal(first.begin(), first.end(), words.begin(), words.begin() + ptrdiff_t(i) + 1, same)) {
                return start + at;
            }
            least = at + at / 16 + 1;  // so that many failures do not take quadratic time
        }
        if (shown >= rest.size()) return 0;
    }
}

}  // namespace kiln
